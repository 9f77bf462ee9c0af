"""Calls agents about runs, separately from calls about their sessions, so that following a run delays no other call to its agent."""

import base64
import logging
from dataclasses import replace

from flowsession.cluster import errors
from flowsession.cluster.agent.client import AgentClient
from flowsession.cluster.agent.transport import AgentError
from flowsession.cluster.gateway import KubernetesCluster
from flowsession.engine.queue import Queue
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.keys import Key
from flowsession.engine.tasks import OneEach
from flowsession.model.plan import BeginRun, CancelRun, Enclosed, FetchOutputs, FollowRun, RunCall
from flowsession.model.run_views import RunAnswer, RunReply, RunView
from flowsession.model.views import PodView

log = logging.getLogger(__name__)


class RunCalls:
    """Makes at most one call per run at a time; its answer is put into the cache and the run's key is enqueued again.

    Any other call cancels a long poll.
    """

    def __init__(self, cluster: KubernetesCluster, client: AgentClient, cache: Cache, queue: Queue[Key]) -> None:
        self._cluster = cluster
        self._client = client
        self._cache = cache
        self._queue = queue
        self._tasks: OneEach[RunCall] = OneEach()
        """By the run's uid."""

    def start(self, key: Key, uid: str, pod: PodView, call: RunCall) -> None:
        """Start a call unless one is in flight; a long poll in flight is canceled for any other call."""
        known = self._tasks.about(uid)
        if known is not None and (not isinstance(known, FollowRun) or isinstance(call, FollowRun)):
            return
        runs = self._cache.runs
        runs.views[uid] = replace(runs.view(uid, pod.name), calling=True)
        self._tasks.start(uid, call, self._call(key, uid, pod, call))

    async def close(self) -> None:
        """Cancel every call."""
        await self._tasks.close()

    async def _enclosed(self, key: Key, call: BeginRun) -> dict[str, dict[str, str]]:
        """Return the members from ConfigMaps that an order includes. Raises Missing, ClusterError."""
        found: dict[str, dict[str, str]] = {}
        for one in call.enclosed:
            try:
                body = await self._cluster.get("ConfigMap", key.namespace, one.config_map)
            except errors.NotFound:
                raise Missing(one.missing, f"there is no ConfigMap {one.config_map!r}: {_way_out(one)}") from None
            text, binary = (body.get("data") or {}).get(one.key), (body.get("binaryData") or {}).get(one.key)
            if text is None and binary is None:
                keys = ", ".join(sorted({**(body.get("data") or {}), **(body.get("binaryData") or {})})) or "none"
                raise Missing(one.missing, f"ConfigMap {one.config_map!r} has no key {one.key!r}, but {keys}: {_way_out(one)}")
            content = binary if text is None else base64.b64encode(text.encode()).decode()
            found[one.member] = {"name": one.name, "content" if one.member == "dataFile" else "archive": str(content)}
        return found

    async def _call(self, key: Key, uid: str, pod: PodView, call: RunCall) -> None:
        reply, error = RunReply(), ""
        try:
            enclosed = await self._enclosed(key, call) if isinstance(call, BeginRun) else {}
            reply = await self._client.call_about_run(pod, call, enclosed)
        except Missing as missing:
            reply = RunReply(refused=missing.reason, message=str(missing))
        except (AgentError, errors.ClusterError) as failure:
            error = str(failure)
        except Exception as failure:  # an unforeseen error must not leave the run waiting for an answer forever
            error = f"{type(failure).__name__}: {failure}"
            log.exception("agent call broke", extra={"key": f"{key.namespace}/{key.name}", "call": type(call).__name__})
        if self._cache.uid(key) == uid:
            runs = self._cache.runs
            runs.views[uid] = observed(runs.view(uid, pod.name), call, reply, error, self._cache.clock())
        self._tasks.drop(uid)  # before the next decision, which may call again at once
        self._queue.add(key)


class Missing(Exception):
    """Content that an order should include is missing; `reason` is the run's reason to fail."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def observed(view: RunView, call: RunCall, reply: RunReply, error: str, now: float) -> RunView:
    """Return what is known of the run after a call; `error`: why no answer arrived, if so."""
    if error:
        return replace(view, calling=False, asked_at=now, message=error, failures=view.failures + 1, refused="")
    known = replace(view, calling=False, asked_at=now, failures=0, refused=reply.refused, message=reply.message)
    if isinstance(call, FetchOutputs):
        return replace(known, archive=reply.archive, lost_outputs=reply.message if reply.refused else "")
    again = view.again_asked or (isinstance(call, BeginRun) and call.body.get("again", False) and not reply.refused)
    return replace(
        known, answer=_grown(view.answer, reply.answer), cancel_asked=view.cancel_asked or isinstance(call, CancelRun), again_asked=again
    )


def _grown(known: RunAnswer | None, news: RunAnswer | None) -> RunAnswer | None:
    """Return the news, with counts that never decrease, whatever the agent reports."""
    if known is None or news is None:
        return news or known
    counts = {name: max(getattr(known, name), getattr(news, name)) for name in ("total", "completed", "failed")}
    return replace(news, **counts)


def _way_out(enclosed: Enclosed) -> str:
    if enclosed.member == "dataFile":
        return "create it, and the run again"
    return "it held the outputs of the earlier run; create that run again, and then this one"
