"""FlowEnvironment: reads what it refers to, and writes the status that says what it comes to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowsession.api import GROUP
from flowsession.api.base import Model
from flowsession.api.environment import FlowEnvironmentSpec, FlowEnvironmentStatus
from flowsession.images.image import IMAGE_REQUESTS
from flowsession.model import conditions, stalled, times, words
from flowsession.model.conditions import Verdict
from flowsession.model.draft import difference
from flowsession.model.plan import DeletePackages, Event, Fetch, PatchStatus, Plan
from flowsession.model.resolved import Resolved, Unresolved
from flowsession.model.views import Refusal
from flowsession.reconcile import requests
from flowsession.reconcile.environment import image_status, last_reading, source_reader
from flowsession.reconcile.environment.image_status import ImageFacts, ImageNews
from flowsession.reconcile.environment.last_reading import Pinned
from flowsession.reconcile.environment.resolve import needed_config_maps
from flowsession.reconcile.environment.source_reader import Reading, ResolverPod, Scene
from flowsession.reconcile.environment.sources import ConfigMapView
from flowsession.reconcile.flow_valid import CONDITION, SessionCheck, of_environment
from flowsession.settings import Settings

REFRESH = f"{GROUP}/refresh-requested-at"
"""The annotation that asks for the sources to be read again; its value is a timestamp, any new one."""

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
    check: SessionCheck | None
    """The last word of one of its sessions on the flow that it has."""
    written_at: float
    """When this operator last wrote the status, in seconds since 1970; 0 if never."""
    requests: Mapping[str, str] = field(default_factory=dict)
    """The request annotations, by what they ask for: refresh, checkVersion, update."""
    image: ImageFacts = field(default=ImageFacts())
    uid: str = ""
    resolvers: tuple[ResolverPod, ...] = ()
    """The pods that read its source."""
    refusal: Refusal | None = None
    """Of the last of these pods."""
    refused_config_maps: Mapping[str, str] = field(default_factory=dict)
    public_keys: str = "{}"
    settings: Settings = field(default_factory=Settings)

    @property
    def read_before(self) -> Pinned | None:
        """What a pod has read of the source; None: the operator reads it itself."""
        return last_reading.of(self.spec, self.status)

    @property
    def requested(self) -> str:
        """The refresh request that is not handled yet; empty if there is none."""
        refresh = self.requests.get("refresh", "")
        return refresh if (self.status.get("handledRequests") or {}).get("refresh") != refresh else ""


def decide(snapshot: EnvironmentSnapshot, resolution: Resolved | Unresolved | None, now: float) -> Plan:
    """The environment's own plan: read what is missing, and write what was found."""
    if resolution is None:
        missing = [name for name in needed_config_maps(snapshot.spec, snapshot.read_before) if name not in snapshot.config_maps]
        return Plan(fetches=tuple(Fetch(snapshot.namespace, name) for name in missing))
    junk = snapshot.requested if times.parse(snapshot.requested) is None else ""
    reading = source_reader.decide(_scene(snapshot, "" if junk else snapshot.requested), now)
    fetches, look_again_at = _rereads(snapshot, now)
    if reading.look_again_at is not None:
        look_again_at = min(look_again_at or float("inf"), reading.look_again_at)
    if snapshot.requested and not junk and not last_reading.is_read_by_a_pod(snapshot.spec.source):
        # What is watched is read again too: it costs little, and people ask when they doubt.
        fetches = tuple(Fetch(snapshot.namespace, name) for name in needed_config_maps(snapshot.spec))
        reading.handled = snapshot.requested
    image = _image(snapshot, resolution, now)
    if image is not None and image.look_again_at < (look_again_at or float("inf")):
        look_again_at = image.look_again_at
    verdict = _verdict(snapshot, resolution, reading)
    wanted = _status(snapshot, resolution, verdict, image, now)
    _say_what_was_read(wanted, reading, junk)
    if unknown := requests.news_of_unknown(snapshot.requests, snapshot.status):
        wanted["handledRequests"] = {**(wanted.get("handledRequests") or {}), requests.UNKNOWN: snapshot.requests[requests.UNKNOWN]}
    old = conditions.read(snapshot.status).get("Ready")
    patch = difference(snapshot.status, wanted)
    if set(patch) == {"sessions"} and now - snapshot.written_at < COUNT_SECONDS:
        patch = {}
        look_again_at = min(look_again_at or float("inf"), snapshot.written_at + COUNT_SECONDS)
    # The count in the status lags behind by COUNT_SECONDS, so it alone does not tell that there was a session in between.
    unused = snapshot.sessions == 0 and (snapshot.has_lists or snapshot.status.get("sessions", 0) > 0)
    clean = DeletePackages(snapshot.namespace, snapshot.name) if unused else None
    news = verdict.status is False and (old is None or old.reason != verdict.reason or old.message != verdict.message)
    events = reading.events
    if news and verdict.reason != "Resolving":
        events += (Event(warning=True, reason=verdict.reason, message=verdict.message),)
    if junk:
        said = f"annotation {REFRESH} is {junk!r}, which is no timestamp; set it to one, such as 2026-11-22T20:00:00Z"
        events += (Event(warning=True, reason="RequestRefused", message=said),)
    if image is not None:
        events += tuple(image.events)
    events += tuple(Event(True, requests.UNKNOWN_REASON, requests.unknown(name, (REFRESH, *IMAGE_REQUESTS.values()))) for name in unknown)
    return Plan(
        creates=reading.creates,
        deletes=tuple(reading.deletes),
        call=reading.call,
        fetches=fetches,
        status=PatchStatus("FlowEnvironment", snapshot.namespace, snapshot.name, snapshot.resource_version, patch) if patch else None,
        events=events if patch else (),
        look_again_at=look_again_at,
        clean=clean,
        question=image.question if image else None,
    )


def _image(snapshot: EnvironmentSnapshot, resolution: Resolved | Unresolved, now: float) -> ImageNews | None:
    if isinstance(resolution, Unresolved):
        return None
    return image_status.decide(snapshot.status, snapshot.requests, resolution.image, snapshot.image, snapshot.settings, now)


def _scene(snapshot: EnvironmentSnapshot, request: str) -> Scene:
    return Scene(
        namespace=snapshot.namespace,
        environment=snapshot.name,
        uid=snapshot.uid,
        source=snapshot.spec.source,
        status=snapshot.status,
        pods=snapshot.resolvers,
        config_maps=snapshot.config_maps,
        refused=snapshot.refused_config_maps,
        refusal=snapshot.refusal,
        refresh=request,
        keys=snapshot.public_keys,
        settings=snapshot.settings,
    )


def _say_what_was_read(status: dict[str, Any], reading: Reading, junk: str) -> None:
    if reading.source is None:
        status.pop("source", None)
    else:
        status["source"] = reading.source
    if reading.handled or junk:
        status["handledRequests"] = {**(status.get("handledRequests") or {}), "refresh": reading.handled or junk}


def _rereads(snapshot: EnvironmentSnapshot, now: float) -> tuple[tuple[Fetch, ...], float | None]:
    """Unwatched ConfigMaps are read again every 5 minutes, missing ones sooner: the longer they are missing, the slower."""
    due, next_at = [], float("inf")
    since = conditions.read(snapshot.status).get("Ready")
    for name in needed_config_maps(snapshot.spec, snapshot.read_before):
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


def _verdict(snapshot: EnvironmentSnapshot, resolution: Resolved | Unresolved, reading: Reading) -> Verdict:
    if isinstance(resolution, Unresolved):
        trouble = f"; {reading.trouble}" if reading.trouble and resolution.reason == "Resolving" else ""
        return Verdict(False, resolution.reason, f"{resolution.message}{trouble}")
    packages = words.counted(resolution.requirements_count, "requirement") if resolution.requirements_count else "no requirements"
    flow = f"{resolution.flow.kind} flow" if resolution.flow else "no flow folder"
    before = snapshot.read_before
    at = f", {before.revision} at {before.commit[:12]}" if before and before.commit else ""
    stale = (
        f"; the last look at the source failed, what was read before stays in use: {before.message}" if before and before.message else ""
    )
    return Verdict(True, "Resolved", f"{flow}, {packages}, image {resolution.base_image}{at}{stale}")


def _status(
    snapshot: EnvironmentSnapshot, resolution: Resolved | Unresolved, verdict: Verdict, news: ImageNews | None, now: float
) -> dict[str, Any]:
    """The wanted status; what was resolved before stays while the present spec can't be."""
    status, verdicts = dict(snapshot.status), {"Ready": verdict}
    if news is not None and isinstance(resolution, Resolved):
        fresh: Model = FlowEnvironmentStatus(
            requirements_file=resolution.requirements_path,
            requirements=resolution.requirements_count,
            packages_revision=resolution.packages_revision,
            flow_revision=resolution.flow_revision if resolution.files is not None else None,
            flow=resolution.flow,
            warnings=[*image_status.without_promptflow(snapshot.status, resolution.image, snapshot.image), *resolution.warnings] or None,
        )
        for absent in ("requirementsFile", "flowRevision", "flow", "warnings"):
            status.pop(absent, None)
        status.update(fresh.to_wire())
        for name, value in news.status.items():
            status.pop(name, None)
            if value is not None:
                status[name] = value
        verdicts[image_status.NEWER] = news.verdict
    elif isinstance(resolution, Unresolved) and resolution.reason in ("RequirementsRejected", "FlowInvalid"):
        status.pop("warnings", None)  # they were about other requirements than those that were rejected
    status["observedGeneration"] = snapshot.generation
    status["sessions"] = snapshot.sessions
    old = conditions.read(snapshot.status)
    if (stuck := stalled.of_environment(verdict, old)) is not None:
        verdicts[stalled.CONDITION] = stuck
    if (flow := of_environment(resolution, snapshot.status, old, snapshot.check)) is not None:
        verdicts[CONDITION] = flow
    status["conditions"] = conditions.judged(old, verdicts, generation=snapshot.generation, now=now)
    return status
