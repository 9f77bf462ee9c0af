"""Has a pod read the source, one pod at a time: after a change of the spec, on request, every `pollSeconds`, and again after a failure. The
last reading stays in use until the next one succeeds."""

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from flowsession.api.source import Source
from flowsession.manifests import config_maps, source_pod
from flowsession.manifests.common import Where
from flowsession.model import times
from flowsession.model.agent_views import SourceAnswer
from flowsession.model.back_off import back_off
from flowsession.model.call_limits import limits_allow_at
from flowsession.model.plan import Delete, ReadSource
from flowsession.model.views import PULL_REASONS, REFUSED_SECONDS, PodView
from flowsession.reconcile import requests
from flowsession.reconcile.environment import last_reading, sources
from flowsession.reconcile.environment.draft import Draft
from flowsession.reconcile.environment.snapshot import ResolverPod

FIRST_RETRY_SECONDS = 15.0
LONGEST_RETRY_SECONDS = 600.0
"""Back-off after failed attempts, in seconds: it starts at the first and doubles up to the second."""

MISSING_SECONDS = 10.0
"""Minimum seconds between two readings if the ConfigMap of the last one is gone."""

LOOK_PAUSE = 1.0
"""Seconds between two polls of an agent that answers before it has finished reading."""

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def read(draft: Draft) -> None:
    """Have the source read if that is due, and store the result of a finished reading."""
    snapshot, source = draft.snapshot, draft.snapshot.spec.source
    known = dict(draft.before.get("source") or {})
    alive = [pod for pod in snapshot.resolvers if pod.view.deleting_since is None]
    if source is None or not last_reading.is_read_by_a_pod(source):
        _remove(draft, alive)
        _drop(draft, keep="")
        draft.put("source", None)
        return
    if sources.refusal(source, snapshot.settings):
        _remove(draft, alive)
        return
    wanted = last_reading.hash_of(source)
    mine = known if known.get("specHash") == wanted else {}
    current = next((pod for pod in alive if pod.source == wanted), None)
    _remove(draft, [pod for pod in alive if pod is not current])
    if current is not None:
        _follow(draft, source, current, mine)
    elif snapshot.refusal is not None and draft.now - snapshot.refusal.at < REFUSED_SECONDS:
        draft.trouble = f"its pod was refused: {snapshot.refusal.message}"
        draft.look_again(snapshot.refusal.at + REFUSED_SECONDS)
    elif len(alive) < len(snapshot.resolvers):
        draft.look_again(draft.now + REFUSED_SECONDS)  # one is still being deleted; its end causes the next decision
    else:
        due = _due(draft, source, mine)
        if due is not None and draft.now >= due:
            draft.create(_pod(draft, source, wanted, mine))
        elif due is not None:
            draft.look_again(due)


def _due(draft: Draft, source: Source, known: Mapping[str, Any]) -> float | None:
    """Return when the next reading is due, in seconds since 1970: 0 if at once, None if only on request."""
    if not known or requests.pending(draft, "refresh"):
        return 0.0
    git = source.git
    checked = times.parse(known.get("checkedAt")) or 0.0
    failures = int(known.get("failures") or 0)
    if failures:
        return checked + back_off(failures, first=FIRST_RETRY_SECONDS, longest=LONGEST_RETRY_SECONDS)
    name = known.get("configMapName") or ""
    view = draft.snapshot.config_maps.get(name)
    if not name or (view is not None and view.files is None):
        return checked + MISSING_SECONDS
    # A commit never changes.
    if git is not None and git.poll_seconds and not _COMMIT.fullmatch(git.revision):
        return checked + git.poll_seconds
    return None


def _pod(draft: Draft, source: Source, wanted: str, known: Mapping[str, Any]) -> dict[str, Any]:
    snapshot, refresh = draft.snapshot, requests.pending(draft, "refresh")
    name = source_pod.name_of(snapshot.name, snapshot.uid, wanted, f"{known.get('checkedAt', '')} {refresh}")
    annotations = {source_pod.SOURCE_ANNOTATION: wanted, **({source_pod.REFRESH_ANNOTATION: refresh} if refresh else {})}
    where = (snapshot.namespace, snapshot.name, snapshot.uid, source)
    return source_pod.manifest(name, *where, annotations=annotations, keys=snapshot.public_keys, settings=snapshot.settings)


def _follow(draft: Draft, source: Source, pod: ResolverPod, known: dict[str, Any]) -> None:
    answer = pod.agent.source if pod.agent else None
    if answer is not None and answer.state == "Done":
        _take(draft, source, pod, known, answer)
    elif answer is not None and answer.state == "Failed":
        reason = "SourceTooLarge" if answer.code == "TooLarge" else "SourceNotFound"
        _fail(draft, pod, known, answer.message or "the agent gave no reason", reason=reason)
    elif pod.view.phase in ("Failed", "Succeeded"):
        _fail(draft, pod, known, f"the pod that reads it ended: {_end_of(pod)}")
    elif pod.view.running:
        _ask(draft, source, pod, known)
    else:
        draft.trouble = _waits_for(pod.view)


def _ask(draft: Draft, source: Source, pod: ResolverPod, known: Mapping[str, Any]) -> None:
    agent = pod.agent
    if agent is not None and agent.failures:
        draft.trouble = f"its agent: {agent.error}"
    if agent is not None and agent.calling:
        return
    pause = 0.0 if agent is None else back_off(agent.failures, first=0.1, longest=5.0) if agent.failures else LOOK_PAUSE
    due = max(agent.asked_at + pause, limits_allow_at(agent)) if agent is not None else 0.0
    if draft.now < due:
        draft.look_again(due)
        return
    view = draft.snapshot.config_maps.get(known.get("configMapName") or "")
    there = view is not None and view.files is not None
    body = source_pod.request_body(source, known.get("commit", "") if there else "", draft.snapshot.settings)
    draft.call = ReadSource(pod.view.name, body)


def _take(draft: Draft, source: Source, pod: ResolverPod, known: dict[str, Any], answer: SourceAnswer) -> None:
    snapshot, now = draft.snapshot, times.stamp(draft.now)
    if answer.unchanged:
        stays = {key: value for key, value in known.items() if key not in ("failures", "reason", "message")}
        _conclude(draft, pod, {**stays, "checkedAt": now})
        return
    if bool(answer.commit) != (source.git is not None):
        _fail(draft, pod, known, "the agent that read it named no commit, or one of nothing")
        return
    archive = base64.b64decode(answer.archive)
    digest = hashlib.sha256(archive).hexdigest()
    name = config_maps.name_of(config_maps.SOURCE, snapshot.name, snapshot.uid, digest)
    if name in snapshot.refused_config_maps:
        _fail(draft, pod, known, f"what was read can't be kept in a ConfigMap: {snapshot.refused_config_maps[name]}")
        return
    where = Where(snapshot.namespace, snapshot.name, snapshot.uid)
    draft.create(config_maps.manifest(config_maps.SOURCE, name, where, {}, binary={last_reading.KEY: answer.archive}))
    read: dict[str, Any] = {
        "specHash": pod.source,
        **({"revision": answer.revision, "commit": answer.commit} if answer.commit else {}),
        "digest": f"sha256:{digest}",
        "configMapName": name,
        "resolvedAt": now,
        "checkedAt": now,
    }
    if answer.warnings:
        read["warnings"] = [warning.to_wire() for warning in answer.warnings]
    _conclude(draft, pod, read)


def _fail(draft: Draft, pod: ResolverPod, known: dict[str, Any], message: str, *, reason: str = "SourceNotFound") -> None:
    failures, clipped = int(known.get("failures") or 0) + 1, message[:1500]
    if known.get("configMapName") and known.get("message") != clipped:
        draft.event(warning=True, reason=reason, message=f"what was read before stays in use: {message}")
    checked = {"specHash": pod.source, "checkedAt": times.stamp(draft.now), "failures": failures, "reason": reason, "message": clipped}
    _conclude(draft, pod, {**known, **checked})


def _conclude(draft: Draft, pod: ResolverPod, read: dict[str, Any]) -> None:
    _remove(draft, [pod])
    _drop(draft, keep=read.get("configMapName", ""))
    draft.put("source", read)
    if pod.refresh:
        requests.handled(draft, "refresh", pod.refresh)


def _drop(draft: Draft, *, keep: str) -> None:
    """Delete the ConfigMap of the last reading, unless it is the one to keep."""
    old = (draft.before.get("source") or {}).get("configMapName") or ""
    if old and old != keep:
        draft.delete(Delete("ConfigMap", draft.snapshot.namespace, old, uid=""))


def _remove(draft: Draft, pods: list[ResolverPod]) -> None:
    for pod in pods:
        draft.delete(Delete("Pod", pod.view.namespace, pod.view.name, uid=pod.view.uid))


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
    message = container.ended_message.strip() if container is not None else ""
    return message or view.message or view.reason or "no reason was given"


def _waits_for(view: PodView) -> str:
    container = view.container
    if view.unscheduled_message:
        return f"its pod finds no node: {view.unscheduled_message}"
    if container is not None and container.waiting_reason in PULL_REASONS:
        return f"its pod's image can't be pulled: {container.waiting_message or container.waiting_reason}"
    return container.waiting_message if container is not None else ""
