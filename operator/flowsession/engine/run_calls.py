"""Carries out calls about runs, beside those about their sessions: a run is followed without holding up what else its agent is asked."""

import logging
from dataclasses import replace

from flowsession.cluster.agent.client import AgentClient
from flowsession.cluster.agent.transport import AgentError
from flowsession.engine.queue import Queue
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.keys import Key
from flowsession.engine.tasks import OneEach
from flowsession.model.plan import CancelRun, FetchOutputs, FollowRun, RunCall
from flowsession.model.run_views import RunAnswer, RunReply, RunView
from flowsession.model.views import PodView

log = logging.getLogger(__name__)


class RunCalls:
    """At most one call for each run at a time; its answer enters the cache and brings the run's key up again.

    A long poll gives way to a call that has something to say.
    """

    def __init__(self, client: AgentClient, cache: Cache, queue: Queue[Key]) -> None:
        self._client = client
        self._cache = cache
        self._queue = queue
        self._tasks: OneEach[RunCall] = OneEach()
        """By the run's uid."""

    def start(self, key: Key, uid: str, pod: PodView, call: RunCall) -> None:
        """Begin a call, unless one is under way that is no poll."""
        known = self._tasks.about(uid)
        if known is not None and (not isinstance(known, FollowRun) or isinstance(call, FollowRun)):
            return
        views = self._cache.runs.views
        views[uid] = replace(views.get(uid, RunView()), calling=True)
        self._tasks.start(uid, call, self._call(key, uid, pod, call))

    async def close(self) -> None:
        """End every call."""
        await self._tasks.close()

    async def _call(self, key: Key, uid: str, pod: PodView, call: RunCall) -> None:
        reply, error = RunReply(), ""
        try:
            reply = await self._client.call_about_run(pod, call)
        except AgentError as failure:
            error = str(failure)
        except Exception as failure:  # what nobody thought of must not leave the run waiting for an answer for ever
            error = f"{type(failure).__name__}: {failure}"
            log.exception("agent call broke", extra={"key": f"{key.namespace}/{key.name}", "call": type(call).__name__})
        if self._cache.uid(key) == uid:
            self._cache.runs.views[uid] = observed(self._cache.runs.views.get(uid, RunView()), call, reply, error, self._cache.clock())
        self._tasks.drop(uid)  # before the next decision, which may call again at once
        self._queue.add(key)


def observed(view: RunView, call: RunCall, reply: RunReply, error: str, now: float) -> RunView:
    """Return what is known of the run after a call; `error`: why there was no answer."""
    if error:
        return replace(view, calling=False, asked_at=now, message=error, failures=view.failures + 1, refused="")
    known = replace(view, calling=False, asked_at=now, failures=0, refused=reply.refused, message=reply.message)
    if isinstance(call, FetchOutputs):
        return replace(known, archive=reply.archive, lost_outputs=reply.message if reply.refused else "")
    return replace(known, answer=_grown(view.answer, reply.answer), cancel_asked=view.cancel_asked or isinstance(call, CancelRun))


def _grown(known: RunAnswer | None, news: RunAnswer | None) -> RunAnswer | None:
    """The news; counts never go back, whatever an agent says."""
    if known is None or news is None:
        return news or known
    counts = {name: max(getattr(known, name), getattr(news, name)) for name in ("total", "completed", "failed")}
    return replace(news, **counts)
