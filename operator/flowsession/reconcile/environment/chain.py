"""FlowEnvironment: reads what the spec refers to, and writes what the spec resolves to."""

from flowsession.api.environment import FlowEnvironmentStatus
from flowsession.model import conditions, stalled, times, words
from flowsession.model.conditions import Verdict
from flowsession.model.plan import Fetch, Plan
from flowsession.model.resolved import Resolved, Unresolved
from flowsession.reconcile import requests
from flowsession.reconcile.environment import image_status, last_reading, source_reader
from flowsession.reconcile.environment.draft import REQUESTS, Draft
from flowsession.reconcile.environment.resolve import needed_config_maps
from flowsession.reconcile.environment.snapshot import EnvironmentSnapshot
from flowsession.reconcile.flow_valid import CONDITION, of_environment

REREAD_SECONDS = 300.0
"""Seconds after which an unwatched ConfigMap is read again."""

COUNT_SECONDS = 10.0
"""Minimum seconds between two status writes if only the count of sessions has changed."""


def decide(snapshot: EnvironmentSnapshot, resolution: Resolved | Unresolved | None, now: float) -> Plan:
    """Return the environment's plan: read what is missing, and write what was found. `resolution` is None while something is unread."""
    if resolution is None:
        missing = [name for name in needed_config_maps(snapshot.spec, snapshot.last_reading) if name not in snapshot.config_maps]
        return Plan(fetches=tuple(Fetch(snapshot.namespace, name) for name in missing))
    draft = Draft(snapshot, now)
    requests.refuse_invalid(draft, REQUESTS)
    source_reader.read(draft)
    _read_again(draft)
    draft.put("sessions", snapshot.sessions)
    _judge(draft, resolution)
    draft.may_wait("sessions", until=snapshot.written_at + COUNT_SECONDS)
    return draft.plan()


def _read_again(draft: Draft) -> None:
    """Read ConfigMaps again: unwatched ones every 5 minutes, missing ones sooner, and all of them on request."""
    snapshot = draft.snapshot
    draft.fetches = _due(draft)
    if requests.pending(draft, "refresh") and not last_reading.is_read_by_a_pod(snapshot.spec.source):
        # Including watched ones: it costs little, and people request a refresh when in doubt.
        draft.fetches = tuple(Fetch(snapshot.namespace, name) for name in needed_config_maps(snapshot.spec))
        requests.done(draft, "refresh")


def _due(draft: Draft) -> tuple[Fetch, ...]:
    """Return the reads that are due. The longer a ConfigMap has been missing, the less often it is read."""
    snapshot, now, since = draft.snapshot, draft.now, draft.was("Ready")
    due = []
    for name in needed_config_maps(snapshot.spec, snapshot.last_reading):
        view = snapshot.config_maps[name]
        if view.watched and view.files is not None:
            continue
        pause = REREAD_SECONDS
        if view.files is None:
            missing_since = times.parse(since.last_transition_time) if since and since.status == "False" else None
            pause = min(REREAD_SECONDS, max(2.0, (view.read_at - (missing_since or view.read_at)) / 4))
        if now >= view.read_at + pause:
            due.append(Fetch(snapshot.namespace, name))
        draft.look_again(max(view.read_at, now if due else 0.0) + pause)
    return tuple(due)


def _judge(draft: Draft, resolution: Resolved | Unresolved) -> None:
    """Write what the environment resolves to. While it does not resolve, the status keeps the last result."""
    ready = _ready(draft, resolution)
    draft.set_condition("Ready", ready.status, ready.reason, ready.message)
    if isinstance(resolution, Resolved):
        _show(draft, resolution)
    elif resolution.reason in ("RequirementsRejected", "FlowInvalid"):
        draft.put("warnings", None)  # they are about earlier requirements
    before = draft.was("Ready")
    is_news = before is None or (before.reason, before.message) != (ready.reason, conditions.clip(ready.message))
    if ready.status is False and ready.reason != "Resolving" and is_news:
        draft.event(warning=True, reason=ready.reason, message=ready.message)
    if (stuck := stalled.of_environment(ready, draft.old)) is not None:
        draft.set_condition(stalled.CONDITION, stuck.status, stuck.reason, stuck.message)
    if (flow := of_environment(resolution, draft.before, draft.old, draft.snapshot.check)) is not None:
        draft.set_condition(CONDITION, flow.status, flow.reason, flow.message)


def _show(draft: Draft, resolution: Resolved) -> None:
    warnings = [*image_status.without_promptflow(draft, resolution.image), *resolution.warnings]
    found = FlowEnvironmentStatus(
        requirements_file=resolution.requirements_path,
        requirements=resolution.requirements_count,
        packages_revision=resolution.packages_revision,
        flow_revision=resolution.flow_revision if resolution.files is not None else None,
        flow=resolution.flow,
        warnings=warnings or None,
    ).to_wire()
    for field in ("requirementsFile", "requirements", "packagesRevision", "flowRevision", "flow", "warnings"):
        draft.put(field, found.get(field))
    image_status.judge_image(draft, resolution.image)


def _ready(draft: Draft, resolution: Resolved | Unresolved) -> Verdict:
    if isinstance(resolution, Unresolved):
        trouble = f"; {draft.trouble}" if draft.trouble and resolution.reason == "Resolving" else ""
        return Verdict(False, resolution.reason, f"{resolution.message}{trouble}")
    packages = words.counted(resolution.requirements_count, "requirement") if resolution.requirements_count else "no requirements"
    flow = f"{resolution.flow.kind} flow" if resolution.flow else "no flow folder"
    before = draft.snapshot.last_reading
    at = f", {before.revision} at {before.commit[:12]}" if before and before.commit else ""
    stale = (
        f"; the last look at the source failed, what was read before stays in use: {before.message}" if before and before.message else ""
    )
    return Verdict(True, "Resolved", f"{flow}, {packages}, image {resolution.base_image}{at}{stale}")
