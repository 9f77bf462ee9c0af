"""Calls agents in tasks separate from the workers, so that a slow agent delays only its own session."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from flowsession import metrics
from flowsession.cluster.agent.client import POLL_SECONDS, AgentClient, AgentRefused, Answer
from flowsession.cluster.agent.feeds import FeedCredentials
from flowsession.cluster.agent.transport import AgentError, NoAnswer
from flowsession.cluster.errors import ClusterError
from flowsession.engine import edits
from flowsession.engine.belief import accepted_state
from flowsession.engine.queue import Queue
from flowsession.engine.store import pod_timestamps
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.keys import Key
from flowsession.model.agent_views import AgentState, AgentView
from flowsession.model.call_limits import charged
from flowsession.model.plan import AgentCall, Deliver, Follow, KeepAlive, Probe, Reopen, Settle
from flowsession.model.views import PodView

WAITED_SECONDS = POLL_SECONDS - 1.0
"""Seconds after which a poll counts as having waited for news."""

LONGEST_SILENCE = 90.0
"""Maximum seconds between two calls of an agent that does not answer: the longest pause and the call itself."""

log = logging.getLogger(__name__)


ReadFeed = Callable[[str, str], Awaitable[FeedCredentials]]
"""Reads the token in the Secret of that namespace and name. Raises ClusterError."""


class Agents:
    """Makes at most one call per session at a time; its answer is put into the cache and all that it concerns is enqueued.

    Any other call cancels a long poll.
    """

    def __init__(self, client: AgentClient, cache: Cache, queue: Queue[Key], read_feed: ReadFeed) -> None:
        self._client = client
        self._read_feed = read_feed
        self._cache = cache
        self._queue = queue
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, key: Key, pod: PodView, call: AgentCall) -> None:
        """Start a call unless one is in flight; a long poll in flight is canceled for any other call."""
        restarts = pod.container.restarts if pod.container else 0
        view = self._cache.agents.get(pod.uid)
        if view is None or view.restarts != restarts:
            view = AgentView(restarts=restarts)
        elif view.calling:
            if not view.following or isinstance(call, Follow):
                return
            self._tasks[pod.uid].cancel()
        self._cache.agents[pod.uid] = replace(view, calling=True, following=isinstance(call, Follow))
        task = asyncio.get_running_loop().create_task(self._call(key, pod, restarts, call))
        self._tasks[pod.uid] = task
        task.add_done_callback(lambda ended: self._ended(key, pod, ended))

    def forget(self, pod_uid: str) -> None:
        """Cancel the call to a pod that is gone, and drop what the client keeps for it."""
        if task := self._tasks.pop(pod_uid, None):
            task.cancel()
        self._client.forget(pod_uid)

    async def close(self) -> None:
        """Cancel every call."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, key: Key, pod: PodView, task: asyncio.Task[None]) -> None:
        if self._tasks.get(pod.uid) is task:
            del self._tasks[pod.uid]
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        metrics.task_deaths.labels("call").inc()
        log.error("taking in an agent's answer broke", exc_info=error, extra={"key": f"{key.namespace}/{key.name}"})
        if (view := self._cache.agents.get(pod.uid)) and pod.uid not in self._tasks:
            # Handled as no answer, else the session would wait for this call forever.
            broken = AgentError(f"its answer could not be taken in ({type(error).__name__}: {error})")
            self._cache.agents[pod.uid] = self._observed(view, Probe(), Answer(), broken, seconds=0.0)
        self._decide_next(key, pod)

    async def _call(self, key: Key, pod: PodView, restarts: int, call: AgentCall) -> None:
        failure: AgentError | None = None
        answer, started = Answer(), asyncio.get_running_loop().time()
        try:
            answer = await self._client.call(pod, call, await self._feed(pod, call))
            if answer.state is not None:
                answer = replace(answer, state=self._accepted_state(key, pod, call, answer.state))
        except AgentError as error:
            failure = error
            log.debug("agent call failed", extra={"key": f"{key.namespace}/{key.name}", "call": type(call).__name__, "error": str(error)})
        except Exception as error:  # an unforeseen error must not leave the session waiting for an answer forever
            failure = AgentError(f"{type(error).__name__}: {error}")
            log.exception("agent call broke", extra={"key": f"{key.namespace}/{key.name}", "call": type(call).__name__})
        view = self._cache.agents.get(pod.uid)
        if view is not None and view.restarts == restarts:
            self._cache.agents[pod.uid] = self._observed(view, call, answer, failure, seconds=asyncio.get_running_loop().time() - started)
            if isinstance(call, Deliver) and failure is None:
                edits.given(self._cache, key)
            if answer.state is not None:
                pod_timestamps.note_answer(self._cache.pod_timestamps.get(pod.uid, {}), answer.state, self._cache.clock())
        self._decide_next(key, pod)

    def _decide_next(self, key: Key, pod: PodView) -> None:
        """Enqueue what a call's end concerns: its own key, the pod if its session was deleted meanwhile, and the session's instance."""
        self._queue.add(key)
        self._queue.add_all(self._cache.departed.concerned(pod))
        if pod.instance and (entry := self._cache.sessions.get((key.namespace, key.name))):
            self._queue.add_all(self._cache.sizing.instances.concerned_by(entry))

    def _accepted_state(self, key: Key, pod: PodView, call: AgentCall, state: AgentState) -> AgentState:
        entry = self._cache.sessions.get((key.namespace, key.name)) if key.kind == "ComputeSession" else None
        view = self._cache.agents.get(pod.uid)
        return accepted_state(state, call, view, entry.status) if entry and view else state

    async def _feed(self, pod: PodView, call: AgentCall) -> FeedCredentials | None:
        """Return an agent's credentials for private feeds, read for each call, so that a corrected Secret is used."""
        if not isinstance(call, Deliver) or not call.feed_secret:
            return None
        if call.feed_problem:
            return FeedCredentials(f"Secret {call.feed_secret!r}", problem=call.feed_problem)
        try:
            return await self._read_feed(pod.namespace, call.feed_secret)
        except ClusterError as error:
            raise NoAnswer(f"it was not asked, since Secret {call.feed_secret!r} can't be read: {error}") from error

    def _observed(self, view: AgentView, call: AgentCall, answer: Answer, failure: AgentError | None, *, seconds: float) -> AgentView:
        now = self._cache.clock()
        view = charged(view, now, bad=failure is not None and not isinstance(failure, NoAnswer))
        if isinstance(failure, AgentRefused) and isinstance(call, Deliver):
            view = replace(view, refused=str(failure), delivered=_delivered(call), delivered_request=call.request)
        if failure is not None:
            return replace(
                view,
                calling=False,
                following=False,
                asked_at=now,
                error=str(failure),
                failures=view.failures + 1,
                failing_since=view.failing_since if view.failures else now,
                silence=view.silence + min(max(0.0, now - view.asked_at), LONGEST_SILENCE) if view.failures else 0.0,
            )
        return replace(
            view,
            calling=False,
            following=False,
            asked_at=now,
            error="",
            failures=0,
            silence=0.0,
            refused="" if isinstance(call, Deliver) else view.refused,
            delivered=_delivered(call) if isinstance(call, Deliver) else view.delivered,
            delivered_request=call.request if isinstance(call, Deliver) else view.delivered_request,
            kept_alive=call.request if isinstance(call, KeepAlive) and answer.state and not answer.state.retired else view.kept_alive,
            state=answer.state or view.state,
            state_at=now if answer.state else view.state_at,
            empty_polls=_empty_polls(view, call, answer, seconds) if isinstance(call, Follow) else view.empty_polls,
            polls=view.polls + 1 if isinstance(call, Follow) and not _installing(view) else 0,
            packages=answer.packages or (None if isinstance(call, Deliver) else view.packages),
            edits=answer.edits or (None if isinstance(call, Reopen) else view.edits),
            edits_at=now if answer.edits else view.edits_at,
            edits_asked_at=now - seconds if answer.edits else view.edits_asked_at,
            settled=call.revision if isinstance(call, Settle) else view.settled,
            source=answer.source or view.source,
        )


def _installing(view: AgentView) -> bool:
    return view.state is not None and view.state.install.state == "Running"


def _empty_polls(view: AgentView, call: Follow, answer: Answer, seconds: float) -> int:
    """Return how many polls in a row the agent answered at once without news."""
    news = answer.state is None or view.state is None or answer.state.version != view.state.version
    return 0 if news or seconds >= min(WAITED_SECONDS, call.seconds - 1.0) else view.empty_polls + 1


def _delivered(call: Deliver) -> tuple[str, str]:
    return call.body["packagesRevision"], call.body["flowRevision"]
