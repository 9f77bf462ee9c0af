"""Has a source read by a pod of its own, at most one at a time: when the spec asks for it, at a request, now and then, and again after a
failure. What was read last stays in use until something newer was read."""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowsession.api.source import Source
from flowsession.manifests import config_maps as configmaps
from flowsession.manifests import source_pod
from flowsession.manifests.common import Where
from flowsession.model import times
from flowsession.model.agent_views import AgentView, SourceAnswer
from flowsession.model.patience import rested_at
from flowsession.model.plan import Create, Delete, Event, ReadSource
from flowsession.model.views import PULL_REASONS, REFUSED_SECONDS, PodView, Refusal
from flowsession.reconcile.environment import last_reading, sources
from flowsession.reconcile.environment.sources import ConfigMapView
from flowsession.settings import Settings

FIRST_RETRY_SECONDS = 15.0
LONGEST_RETRY_SECONDS = 600.0
"""A failed look is tried again after the first, then after twice as long each time, up to the second."""

MISSING_SECONDS = 10.0
"""Between two readings at least, where the ConfigMap of the last one is gone."""

LOOK_PAUSE = 1.0
"""Between two polls of an agent that does not wait for an end."""

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


@dataclass(frozen=True)
class ResolverPod:
    """A pod that reads a source of this very environment."""

    view: PodView
    source: str
    """Hash of what it reads."""
    refresh: str
    """The refresh request that it answers."""
    agent: AgentView | None = None


@dataclass(frozen=True)
class Scene:
    """What a decision about reading depends on."""

    namespace: str
    environment: str
    uid: str
    source: Source | None
    status: Mapping[str, Any]
    """Of the environment: `source`."""
    pods: tuple[ResolverPod, ...]
    config_maps: Mapping[str, ConfigMapView]
    refused: Mapping[str, str]
    """ConfigMaps that the API server lately refused, with its words."""
    refusal: Refusal | None
    """Of the last pod."""
    refresh: str
    """The refresh request that is not handled yet, or empty."""
    keys: str
    settings: Settings


@dataclass
class Reading:
    """What is to be done about it."""

    source: dict[str, Any] | None
    """The wanted status.source."""
    handled: str = ""
    """The refresh request that is handled by this."""
    trouble: str = ""
    """What keeps the present reading from its end."""
    creates: tuple[Create, ...] = ()
    deletes: list[Delete] = field(default_factory=list)
    call: ReadSource | None = None
    events: tuple[Event, ...] = ()
    look_again_at: float | None = None


def decide(scene: Scene, now: float) -> Reading:
    """What is to be read, and what came of it."""
    known = dict(scene.status.get("source") or {})
    alive = [pod for pod in scene.pods if pod.view.deleting_since is None]
    if scene.source is None or not last_reading.is_read_by_a_pod(scene.source):
        return Reading(None, deletes=[*map(_removal, alive), *_dropped(scene, known, "")])
    if sources.refusal(scene.source, scene.settings):
        return Reading(known or None, deletes=[*map(_removal, alive)])
    wanted = last_reading.hash_of(scene.source)
    mine = known if known.get("specHash") == wanted else {}
    current = next((pod for pod in alive if pod.source == wanted), None)
    reading = Reading(known or None, deletes=[_removal(pod) for pod in alive if pod is not current])
    if current is not None:
        _follow(scene, reading, current, mine, now)
    elif scene.refusal is not None and now - scene.refusal.at < REFUSED_SECONDS:
        reading.trouble = f"its pod was refused: {scene.refusal.message}"
        reading.look_again_at = scene.refusal.at + REFUSED_SECONDS
    elif len(alive) < len(scene.pods):
        reading.look_again_at = now + REFUSED_SECONDS  # one is still going; its end brings this up again
    else:
        due = _due(scene, mine)
        if due is not None and now >= due:
            reading.creates = (Create(_pod(scene, wanted, mine)),)
        else:
            reading.look_again_at = due
    return reading


def _due(scene: Scene, known: Mapping[str, Any]) -> float | None:
    """When the next look is due; None: not before somebody asks. 0: at once."""
    if not known or scene.refresh:
        return 0.0
    git = scene.source.git if scene.source else None
    checked = times.parse(known.get("checkedAt")) or 0.0
    failures = int(known.get("failures") or 0)
    if failures:
        return checked + min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 10))
    name = known.get("configMapName") or ""
    view = scene.config_maps.get(name)
    if not name or (view is not None and view.files is None):
        return checked + MISSING_SECONDS
    # A commit never changes.
    if git is not None and git.poll_seconds and not _COMMIT.fullmatch(git.revision):
        return checked + git.poll_seconds
    return None


def _pod(scene: Scene, wanted: str, known: Mapping[str, Any]) -> dict[str, Any]:
    assert scene.source is not None, "there is something to read"
    name = source_pod.name_of(scene.environment, scene.uid, wanted, f"{known.get('checkedAt', '')} {scene.refresh}")
    marks = {source_pod.SOURCE_ANNOTATION: wanted, **({source_pod.REFRESH_ANNOTATION: scene.refresh} if scene.refresh else {})}
    where = (scene.namespace, scene.environment, scene.uid, scene.source)
    return source_pod.manifest(name, *where, annotations=marks, keys=scene.keys, settings=scene.settings)


def _follow(scene: Scene, reading: Reading, pod: ResolverPod, known: dict[str, Any], now: float) -> None:
    answer = pod.agent.source if pod.agent else None
    if answer is not None and answer.state == "Done":
        _take(scene, reading, pod, known, answer, now)
    elif answer is not None and answer.state == "Failed":
        reason = "SourceTooLarge" if answer.code == "TooLarge" else "SourceNotFound"
        _fail(scene, reading, pod, known, reason, answer.message or "the agent gave no reason", now)
    elif pod.view.phase in ("Failed", "Succeeded"):
        _fail(scene, reading, pod, known, "SourceNotFound", f"the pod that reads it ended: {_end_of(pod)}", now)
    elif pod.view.running:
        _ask(scene, reading, pod, known, now)
    else:
        reading.trouble = _waits_for(pod.view)


def _ask(scene: Scene, reading: Reading, pod: ResolverPod, known: Mapping[str, Any], now: float) -> None:
    agent = pod.agent
    if agent is not None and agent.failures:
        reading.trouble = f"its agent: {agent.error}"
    if agent is not None and agent.calling:
        return
    pause = 0.0 if agent is None else min(5.0, 0.05 * 2.0 ** min(agent.failures, 10)) if agent.failures else LOOK_PAUSE
    due = max(agent.asked_at + pause, rested_at(agent)) if agent is not None else 0.0
    if now < due:
        reading.look_again_at = due
        return
    assert scene.source is not None, "there is something to read"
    view = scene.config_maps.get(known.get("configMapName") or "")
    there = view is not None and view.files is not None
    reading.call = ReadSource(pod.view.name, source_pod.order(scene.source, known.get("commit", "") if there else "", scene.settings))


def _take(scene: Scene, reading: Reading, pod: ResolverPod, known: dict[str, Any], answer: SourceAnswer, now: float) -> None:
    stays = {key: value for key, value in known.items() if key not in ("failures", "reason", "message")}
    if answer.unchanged:
        _conclude(scene, reading, pod, {**stays, "checkedAt": times.stamp(now)})
        return
    if bool(answer.commit) != (scene.source is not None and scene.source.git is not None):
        _fail(scene, reading, pod, known, "SourceNotFound", "the agent that read it named no commit, or one of nothing", now)
        return
    archive = base64.b64decode(answer.archive)
    digest = hashlib.sha256(archive).hexdigest()
    name = configmaps.name_of(configmaps.SOURCE, scene.environment, scene.uid, digest)
    if name in scene.refused:
        _fail(scene, reading, pod, known, "SourceNotFound", f"what was read can't be kept in a ConfigMap: {scene.refused[name]}", now)
        return
    where = Where(scene.namespace, scene.environment, scene.uid)
    reading.creates = (Create(configmaps.manifest(configmaps.SOURCE, name, where, {}, binary={last_reading.KEY: answer.archive})),)
    source: dict[str, Any] = {
        "specHash": pod.source,
        **({"revision": answer.revision, "commit": answer.commit} if answer.commit else {}),
        "digest": f"sha256:{digest}",
        "configMapName": name,
        "resolvedAt": times.stamp(now),
        "checkedAt": times.stamp(now),
    }
    if answer.warnings:
        source["warnings"] = [warning.to_wire() for warning in answer.warnings]
    _conclude(scene, reading, pod, source)


def _fail(scene: Scene, reading: Reading, pod: ResolverPod, known: dict[str, Any], reason: str, message: str, now: float) -> None:
    failures = int(known.get("failures") or 0) + 1
    checked = {"specHash": pod.source, "checkedAt": times.stamp(now), "failures": failures, "reason": reason, "message": message[:1500]}
    if known.get("configMapName") and known.get("message") != checked["message"]:
        reading.events = (Event(warning=True, reason=reason, message=f"what was read before stays in use: {message}"),)
    _conclude(scene, reading, pod, {**known, **checked})


def _conclude(scene: Scene, reading: Reading, pod: ResolverPod, source: dict[str, Any]) -> None:
    reading.source = source
    reading.handled = pod.refresh
    reading.deletes += [_removal(pod), *_dropped(scene, scene.status.get("source") or {}, source.get("configMapName", ""))]


def _dropped(scene: Scene, known: Mapping[str, Any], keep: str) -> list[Delete]:
    old = known.get("configMapName") or ""
    return [Delete("ConfigMap", scene.namespace, old, uid="")] if old and old != keep else []


def _removal(pod: ResolverPod) -> Delete:
    return Delete("Pod", pod.view.namespace, pod.view.name, uid=pod.view.uid)


def _end_of(pod: ResolverPod) -> str:
    view, container = pod.view, pod.view.container
    if view.reason == "DeadlineExceeded":
        started = container is not None and (container.running_since is not None or bool(container.ended_reason))
        events = "its Events say why it never started; a claim may be in use on another node"
        waited = "" if started else _waits_for(view) or events
        silent = f"its agent: {pod.agent.error}" if pod.agent and pod.agent.error else ""
        return "; ".join(part for part in ("it took too long", waited, silent) if part)
    if container is not None and container.ended_reason == "OOMKilled":
        return "it ran out of memory; narrow the source's path, or raise the chart's resolver.limits"
    said = container.ended_message.strip() if container is not None else ""
    return said or view.message or view.reason or "nobody says why"


def _waits_for(view: PodView) -> str:
    container = view.container
    if view.unscheduled_message:
        return f"its pod finds no node: {view.unscheduled_message}"
    if container is not None and container.waiting_reason in PULL_REASONS:
        return f"its pod's image can't be pulled: {container.waiting_message or container.waiting_reason}"
    return container.waiting_message if container is not None else ""
