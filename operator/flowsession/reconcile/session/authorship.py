"""Whose content a session gets: a change by anybody but the environment's owner or the session's own user waits until that user asks."""

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
"""In place of a name: somebody who may act for every user."""

NOBODY_KNOWN = "somebody whom the API server did not name"


def of(uid: str, spec: FlowEnvironmentSpec, changed_by: Mapping[str, str], config_maps: Mapping[str, ConfigMapView]) -> Authorship:
    """Who made this environment; `changed_by` has names by fields of the spec."""
    bundle = spec.installer.ca_bundle_config_map_name
    names = {*needed_config_maps(spec.source, None), *((bundle,) if bundle else ())}
    authors = tuple((name, view.author if (view := config_maps.get(name)) else None) for name in sorted(names))
    return Authorship(uid, spec.owner, tuple(sorted(changed_by.items())), authors)


def withheld(draft: Draft) -> str:
    """Why the environment's present content must not reach the session, with the way out; empty if it may."""
    environment = draft.snapshot.environment
    others = _others(draft)
    if not others or not isinstance(environment, Resolved) or environment.content == _in_use(draft).content:
        return ""
    owner = draft.snapshot.authorship.owner
    whose = f"its owner {owner}" if owner else "its owner"
    said = f"environment {draft.snapshot.spec.environment_ref.name!r} was changed by {_named(others)}; look at it, then take the change up"
    return f"{said} by the annotation {requests.REQUESTS['reset']} or {requests.REQUESTS['install']}, or have {whose} set it right"


def take_up(draft: Draft) -> None:
    """Notes that the session's user has asked for what the environment is now. One request is good for one content."""
    environment = draft.snapshot.environment
    if isinstance(environment, Resolved) and withheld(draft) and (asked := _asked(draft)):
        draft.put("environment", _present(draft, environment, asked))


def give(draft: Draft) -> None:
    """Notes what the session is given. What others have changed is noted when its user asks for it, and stays as it was noted."""
    environment = draft.snapshot.environment
    if isinstance(environment, Resolved) and not _others(draft):
        draft.put("environment", _present(draft, environment, _in_use(draft).asked))


def _others(draft: Draft) -> list[tuple[str, str]]:
    """What was changed by somebody who decides neither for the environment nor for the session, and by whom."""
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
            found.append((f"ConfigMap {name!r}", NOBODY_KNOWN))  # its label was taken off
    others = [(place, who) for place, who in found if who not in (by.owner, user, EVERYBODY)]
    if before.uid and before.uid != by.uid and by.owner not in (user, before.owner):
        others.append(("deleted, and created anew", by.owner))
    return others


def _named(others: list[tuple[str, str]]) -> str:
    places: dict[str, list[str]] = {}
    for place, who in others:
        places.setdefault(who, []).append(place)
    return " and ".join(f"{who} ({', '.join(found)})" for who, found in places.items())


def _in_use(draft: Draft) -> EnvironmentInUse:
    """What the session was given last, as far as it is known."""
    try:
        known = EnvironmentInUse.model_validate(draft.status.get("environment") or {})
    except ValidationError:
        known = EnvironmentInUse()
    if known.uid or not draft.snapshot.pods:
        return known
    return EnvironmentInUse(uid=draft.snapshot.pods[-1].environment_uid or None)  # its status was not written yet


def _present(draft: Draft, environment: Resolved, asked: str | None) -> dict[str, object]:
    by = draft.snapshot.authorship
    signed = [name for name, author in by.config_maps if author is not None] or None
    return EnvironmentInUse(uid=by.uid, owner=by.owner, content=environment.content, config_maps=signed, asked=asked).to_wire()


def _asked(draft: Draft) -> str:
    """The request that was open when this decision began and has brought nothing yet; empty if there is none."""
    handled = draft.snapshot.status.get("handledRequests") or {}
    for what in ("reset", "install"):
        value = draft.requests.get(what, "")
        if value and handled.get(what) != value and times.parse(value) is not None and f"{what} {value}" != _in_use(draft).asked:
            return f"{what} {value}"
    return ""
