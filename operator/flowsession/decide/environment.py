"""FlowEnvironment: reads what it refers to, and writes the status that says what it comes to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowsession.api.base import Model
from flowsession.api.environment import FlowEnvironmentSpec, FlowEnvironmentStatus
from flowsession.decide import conditions, flowcheck, merge, times
from flowsession.decide.conditions import Verdict
from flowsession.decide.plan import DeletePackages, Event, Fetch, PatchStatus, Plan
from flowsession.decide.resolution import Resolved, Unresolved, needed_config_maps
from flowsession.decide.sources import ConfigMapView

REREAD_SECONDS = 300.0
"""How often a ConfigMap that no watch shows is read again."""

COUNT_SECONDS = 10.0
"""Counts alone are written at most this often."""


@dataclass(frozen=True)
class EnvironmentSnapshot:
    """All that a decision about an environment depends on."""

    namespace: str
    name: str
    generation: int
    resource_version: str
    spec: FlowEnvironmentSpec
    status: Mapping[str, Any]
    config_maps: Mapping[str, ConfigMapView]
    """What was read of the ConfigMaps that the spec names; absent: not read yet."""
    sessions: int
    has_lists: bool
    """Whether package lists of this environment were lately made or found."""
    check: flowcheck.SessionCheck | None
    """The last word of one of its sessions on the flow that it has."""
    written_at: float
    """When this operator last wrote the status, in seconds since 1970; 0 if never."""


def decide(snapshot: EnvironmentSnapshot, resolution: Resolved | Unresolved | None, now: float) -> Plan:
    """The environment's own plan: read what is missing, and write what was found."""
    if resolution is None:
        missing = [name for name in needed_config_maps(snapshot.spec) if name not in snapshot.config_maps]
        return Plan(fetches=tuple(Fetch(snapshot.namespace, name) for name in missing))
    fetches, look_again_at = _rereads(snapshot, now)
    verdict = _verdict(resolution)
    wanted = _status(snapshot, resolution, verdict, now)
    old = conditions.read(snapshot.status).get("Ready")
    patch = merge.difference(snapshot.status, wanted)
    if set(patch) == {"sessions"} and now - snapshot.written_at < COUNT_SECONDS:
        patch = {}
        look_again_at = min(look_again_at or float("inf"), snapshot.written_at + COUNT_SECONDS)
    # The count in the status lags behind by COUNT_SECONDS, so it alone does not tell that there was a session in between.
    unused = snapshot.sessions == 0 and (snapshot.has_lists or snapshot.status.get("sessions", 0) > 0)
    clean = DeletePackages(snapshot.namespace, snapshot.name) if unused else None
    if not patch:
        return Plan(fetches=fetches, look_again_at=look_again_at, clean=clean)
    news = verdict.status is False and (old is None or old.reason != verdict.reason or old.message != verdict.message)
    return Plan(
        fetches=fetches,
        status=PatchStatus("FlowEnvironment", snapshot.namespace, snapshot.name, snapshot.resource_version, patch),
        events=(Event(warning=True, reason=verdict.reason, message=verdict.message),) if news else (),
        look_again_at=look_again_at,
        clean=clean,
    )


def _rereads(snapshot: EnvironmentSnapshot, now: float) -> tuple[tuple[Fetch, ...], float | None]:
    """Unwatched ConfigMaps are read again every 5 minutes, missing ones sooner: the longer they are missing, the slower."""
    due, next_at = [], float("inf")
    since = conditions.read(snapshot.status).get("Ready")
    for name in needed_config_maps(snapshot.spec):
        view = snapshot.config_maps[name]
        if view.watched and view.files is not None:
            continue
        pause = REREAD_SECONDS
        if view.files is None:
            missing_since = times.parse(since.last_transition_time) if since and since.status == "False" else None
            pause = min(REREAD_SECONDS, max(2.0, (view.read_at - (missing_since or view.read_at)) / 4))
        if now >= view.read_at + pause:
            due.append(Fetch(snapshot.namespace, name))
        next_at = min(next_at, max(view.read_at, now if due else 0.0) + pause)
    return tuple(due), None if next_at == float("inf") else next_at


def _verdict(resolution: Resolved | Unresolved) -> Verdict:
    if isinstance(resolution, Unresolved):
        return Verdict(False, resolution.reason, resolution.message)
    packages = f"{resolution.requirements_count} requirements" if resolution.requirements_count else "no requirements"
    flow = f"{resolution.flow.kind} flow" if resolution.flow else "no flow folder"
    return Verdict(True, "Resolved", f"{flow}, {packages}, image {resolution.base_image}")


def _status(snapshot: EnvironmentSnapshot, resolution: Resolved | Unresolved, verdict: Verdict, now: float) -> dict[str, Any]:
    """The wanted status; what was resolved before stays while the present spec can't be."""
    status = dict(snapshot.status)
    if isinstance(resolution, Resolved):
        fresh: Model = FlowEnvironmentStatus(
            base_image=resolution.base_image,
            requirements_file=resolution.requirements_path,
            requirements=resolution.requirements_count,
            packages_revision=resolution.packages_revision,
            flow_revision=resolution.flow_revision if resolution.files is not None else None,
            flow=resolution.flow,
            warnings=list(resolution.warnings) or None,
        )
        for absent in ("requirementsFile", "flowRevision", "flow", "warnings"):
            status.pop(absent, None)
        status.update(fresh.to_wire())
    status["observedGeneration"] = snapshot.generation
    status["sessions"] = snapshot.sessions
    old = conditions.read(snapshot.status)
    verdicts = {"Ready": verdict}
    if (flow := flowcheck.of_environment(resolution, snapshot.status, old, snapshot.check)) is not None:
        verdicts[flowcheck.CONDITION] = flow
    status["conditions"] = conditions.judged(old, verdicts, generation=snapshot.generation, now=now)
    return status
