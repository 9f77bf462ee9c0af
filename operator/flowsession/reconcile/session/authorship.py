"""Who may change what a session gets: changes by others than the environment's owner and the session's user wait for that user."""

from collections.abc import Mapping

from pydantic import ValidationError

from flowsession.api.environment import FlowEnvironmentSpec
from flowsession.api.session import EnvironmentInUse
from flowsession.model import times
from flowsession.model.resolved import Resolved
from flowsession.model.views import Authorship
from flowsession.reconcile import requests
from flowsession.reconcile.environment.sources import ConfigMapView, needed_config_maps
from flowsession.reconcile.session.draft import Draft

REASON = "ChangedByOther"

EVERYBODY = ""
"""In place of a name: a user who may act for all users."""

NOBODY_KNOWN = "somebody whom the API server did not name"


def of(uid: str, spec: FlowEnvironmentSpec, changed_by: Mapping[str, str], config_maps: Mapping[str, ConfigMapView]) -> Authorship:
    """Return who made this environment what it is; `changed_by` has users by fields of the spec."""
    bundle = spec.installer.ca_bundle_config_map_name
    names = {*needed_config_maps(spec.source, None), *((bundle,) if bundle else ())}
    authors = tuple((name, view.author if (view := config_maps.get(name)) else None) for name in sorted(names))
    return Authorship(uid, spec.owner, tuple(sorted(changed_by.items())), authors)


def withheld(draft: Draft) -> str:
    """Return why the environment's present content must not reach the session, with the way out; empty: it may."""
    environment = draft.snapshot.environment
    others = _others(draft)
    if not others or not isinstance(environment, Resolved) or environment.content == _in_use(draft).content:
        return ""
    owner = draft.snapshot.authorship.owner
    whose = f"its owner {owner}" if owner else "its owner"
    message = (
        f"environment {draft.snapshot.spec.environment_ref.name!r} was changed by {_named(others)}; review the change, then take it up"
    )
    return f"{message} by the annotation {requests.REQUESTS['reset']} or {requests.REQUESTS['install']}, or have {whose} fix it"


def take_up(draft: Draft) -> None:
    """Note that the session's user asked for the environment's present content. A request holds for one content only."""
    environment = draft.snapshot.environment
    if isinstance(environment, Resolved) and withheld(draft) and (asked := _asked(draft)):
        draft.put("environment", _present(draft, environment, asked))


def give(draft: Draft) -> None:
    """Note the content that the session is given. Content that others changed is noted by `take_up`, and stays as noted there."""
    environment = draft.snapshot.environment
    if isinstance(environment, Resolved) and not _others(draft):
        draft.put("environment", _present(draft, environment, _in_use(draft).asked))


def _others(draft: Draft) -> list[tuple[str, str]]:
    """Return what others than the environment's owner and the session's user changed, each with who did."""
    by, before, user = draft.snapshot.authorship, _in_use(draft), draft.snapshot.spec.user
    if by.owner is None and before.owner:
        return [("the whole of it", NOBODY_KNOWN)]
    if not by.owner:
        return []
    found = [(f"spec.{place}", who) for place, who in by.changed_by]
    for name, author in by.config_maps:
        if author is not None:
            found.append((f"ConfigMap {name!r}", author))
        elif name in (before.config_maps or ()):
            found.append((f"ConfigMap {name!r}", NOBODY_KNOWN))  # its label was removed
    others = [(place, who) for place, who in found if who not in (by.owner, user, EVERYBODY)]
    if before.uid and before.uid != by.uid and by.owner not in (user, before.owner):
        others.append(("deleted and created again", by.owner))
    return others


def _named(others: list[tuple[str, str]]) -> str:
    places: dict[str, list[str]] = {}
    for place, who in others:
        places.setdefault(who, []).append(place)
    return " and ".join(f"{who} ({', '.join(found)})" for who, found in places.items())


def _in_use(draft: Draft) -> EnvironmentInUse:
    """Return what the session was given last, as far as known."""
    try:
        known = EnvironmentInUse.model_validate(draft.status.get("environment") or {})
    except ValidationError:
        known = EnvironmentInUse()
    if known.uid or not draft.snapshot.pods:
        return known
    return EnvironmentInUse(uid=draft.snapshot.pods[-1].environment_uid or None)  # its status is not written yet


def _present(draft: Draft, environment: Resolved, asked: str | None) -> dict[str, object]:
    by = draft.snapshot.authorship
    signed = [name for name, author in by.config_maps if author is not None] or None
    return EnvironmentInUse(uid=by.uid, owner=by.owner, content=environment.content, config_maps=signed, asked=asked).to_wire()


def _asked(draft: Draft) -> str:
    """Return the request that is pending in the stored status and took up no content yet; empty: there is none."""
    handled = draft.snapshot.status.get("handledRequests") or {}
    for what in ("reset", "install"):
        value = draft.requests.get(what, "")
        if value and handled.get(what) != value and times.parse(value) is not None and f"{what} {value}" != _in_use(draft).asked:
            return f"{what} {value}"
    return ""
