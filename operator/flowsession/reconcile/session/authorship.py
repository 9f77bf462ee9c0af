"""Who may change what a session gets: changes by anyone but the environment's owner and the session's user wait for that user."""

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
"""Stands for a user who may impersonate all users."""

NOBODY_KNOWN = "somebody whom the API server did not name"


def of(uid: str, spec: FlowEnvironmentSpec, changed_by: Mapping[str, str], config_maps: Mapping[str, ConfigMapView]) -> Authorship:
    """Return who owns this environment and who last changed it. `changed_by` maps fields of the spec to users."""
    bundle = spec.installer.ca_bundle_config_map_name
    names = {*needed_config_maps(spec.source, None), *((bundle,) if bundle else ())}
    authors = tuple((name, view.author if (view := config_maps.get(name)) else None) for name in sorted(names))
    return Authorship(uid, spec.owner, tuple(sorted(changed_by.items())), authors)


def withheld(draft: Draft) -> str:
    """Return why the environment's present content must not reach the session, and what to do; empty if it may."""
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
    """Record that the session's user asked for the environment's present content. A request is valid for one content only."""
    environment = draft.snapshot.environment
    if isinstance(environment, Resolved) and withheld(draft) and (asked := _asked(draft)):
        draft.put("environment", _present(draft, environment, asked))


def give(draft: Draft) -> None:
    """Record the content that the session gets. Content that others changed is recorded by `take_up`, and not changed here."""
    environment = draft.snapshot.environment
    if isinstance(environment, Resolved) and not _others(draft):
        draft.put("environment", _present(draft, environment, _in_use(draft).asked))


def _others(draft: Draft) -> list[tuple[str, str]]:
    """Return what anyone but the environment's owner and the session's user changed, each with who changed it."""
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
    """Return the environment as the session last got it, if known."""
    try:
        known = EnvironmentInUse.model_validate(draft.status.get("environment") or {})
    except ValidationError:
        known = EnvironmentInUse()
    if known.uid or not draft.snapshot.pods:
        return known
    return EnvironmentInUse(uid=draft.snapshot.pods[-1].environment_uid or None)  # the status is not written yet


def _present(draft: Draft, environment: Resolved, asked: str | None) -> dict[str, object]:
    by = draft.snapshot.authorship
    signed = [name for name, author in by.config_maps if author is not None] or None
    return EnvironmentInUse(uid=by.uid, owner=by.owner, content=environment.content, config_maps=signed, asked=asked).to_wire()


def _asked(draft: Draft) -> str:
    """Return the request that is pending in the stored status and has taken up no content yet, or an empty string."""
    handled = draft.snapshot.status.get("handledRequests") or {}
    for what in ("reset", "install"):
        value = draft.requests.get(what, "")
        if value and handled.get(what) != value and times.parse(value) is not None and f"{what} {value}" != _in_use(draft).asked:
            return f"{what} {value}"
    return ""
