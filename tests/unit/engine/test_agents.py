"""Calls to agents: one at a time for each session, except that any other call cancels a long poll."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from flowsession.cluster.agent.client import AgentClient, AgentRefused, Answer
from flowsession.cluster.agent.feeds import FeedCredentials
from flowsession.cluster.agent.transport import AgentError, NotListening
from flowsession.cluster.errors import Unavailable
from flowsession.engine.agents import Agents
from flowsession.engine.queue import Queue
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.keys import Key
from flowsession.engine.store.objects import PodEntry
from flowsession.model.plan import Deliver, Follow, KeepAlive, ListPackages, Probe
from unit.builders import NAME, NAMESPACE, NOW, container, pod, resolved, state

KEY = Key("ComputeSession", NAMESPACE, NAME)
TOKEN = "only-for-the-feed"
TELL = Deliver(resolved().wire, "2026-11-22T20:00:00Z")


class Client:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.feeds: list[FeedCredentials | None] = []
        self.cancelled: list[Any] = []
        self.forgotten: list[str] = []
        self._answers: list[asyncio.Future[Answer]] = []

    async def call(self, view: Any, call: Any, feed: FeedCredentials | None = None) -> Answer:
        self.calls.append(call)
        self.feeds.append(feed)
        self._answers.append(asyncio.get_running_loop().create_future())
        try:
            return await self._answers[-1]
        except asyncio.CancelledError:
            self.cancelled.append(call)
            raise

    def forget(self, pod_uid: str) -> None:
        self.forgotten.append(pod_uid)

    async def answer(self, which: int, with_: Answer | Exception) -> None:
        if isinstance(with_, Exception):
            self._answers[which].set_exception(with_)
        else:
            self._answers[which].set_result(with_)
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Setup:
    def __init__(self) -> None:
        self.client, self.cache, self.queue = Client(), Cache(clock=lambda: NOW), Queue[Key]()
        self.agents = Agents(cast(AgentClient, self.client), self.cache, self.queue, self.read_feed)
        self.secret: FeedCredentials | Exception = FeedCredentials("Secret 'team-feed'", TOKEN)

    async def read_feed(self, namespace: str, name: str) -> FeedCredentials:
        assert (namespace, name) == (NAMESPACE, "team-feed")
        if isinstance(self.secret, Exception):
            raise self.secret
        return self.secret

    async def start(self, call: Any, **fields: Any) -> None:
        self.agents.start(KEY, pod(**fields), call)
        await settle()

    @property
    def view(self) -> Any:
        return self.cache.agents["pod-1"]


@pytest.fixture
def at() -> Iterator[Setup]:
    return Setup()


async def test_an_answer_is_an_observation_and_brings_the_session_up(at):
    await at.start(Probe())
    assert (at.view.calling, at.view.following) == (True, False)
    await at.client.answer(0, Answer(state=state()))
    assert (at.view.calling, at.view.state, at.view.state_at) == (False, state(), NOW)
    assert await asyncio.wait_for(at.queue.get(), 1) == KEY


@pytest.mark.parametrize("call", [TELL, KeepAlive("x"), Probe(), ListPackages()], ids=lambda call: type(call).__name__)
async def test_a_long_poll_gives_way_to_a_call_that_has_something_to_say(at, call):
    await at.start(Follow(since=3))
    assert (at.view.calling, at.view.following) == (True, True)
    await at.start(call)
    assert at.client.calls == [Follow(since=3), call]
    assert at.client.cancelled == [Follow(since=3)]
    assert (at.view.calling, at.view.following, at.view.failures) == (True, False, 0)
    await at.client.answer(1, Answer(state=state()))
    assert (at.view.calling, at.view.state) == (False, state())


async def poll(at: Setup, version: int) -> None:
    await at.start(Follow(since=3))
    await at.client.answer(-1, Answer(state=state(version=version)))


async def test_polls_that_neither_wait_nor_bring_news_are_counted(at):
    await poll(at, 3)
    assert at.view.empty_polls == 0, "the first word is news"
    for times in (1, 2, 3):
        await poll(at, 3)
        assert at.view.empty_polls == times
    await at.start(Probe())
    await at.client.answer(-1, Answer(state=state(version=3)))
    assert at.view.empty_polls == 3, "who is asked at once may answer at once"
    await poll(at, 4)
    assert at.view.empty_polls == 0


async def test_a_poll_that_waited_for_news_is_an_honest_one(at, monkeypatch):
    await poll(at, 3)
    await poll(at, 3)
    monkeypatch.setattr("flowsession.engine.agents.WAITED_SECONDS", 0.0)
    await poll(at, 3)
    assert at.view.empty_polls == 0


@pytest.mark.parametrize("second", [Follow(since=4), TELL, Probe()], ids=lambda call: type(call).__name__)
async def test_any_other_call_is_let_finish(at, second):
    await at.start(TELL)
    await at.start(second)
    assert (at.client.calls, at.client.cancelled) == ([TELL], [])


async def test_a_long_poll_does_not_give_way_to_another(at):
    await at.start(Follow(since=3))
    await at.start(Follow(since=4))
    assert (at.client.calls, at.client.cancelled) == ([Follow(since=3)], [])


async def test_a_poll_that_gave_way_before_it_began_is_no_failure(at):
    at.agents.start(KEY, pod(), Follow(since=3))
    at.agents.start(KEY, pod(), TELL)
    await settle()
    assert at.client.calls == [TELL]
    await at.client.answer(0, Answer(state=state()))
    assert (at.view.failures, at.view.delivered_request) == (0, TELL.request)
    await at.start(Follow(since=5))
    assert at.client.calls[-1] == Follow(since=5)


async def test_what_was_told_is_known_with_its_request(at):
    await at.start(TELL)
    await at.client.answer(0, Answer(state=state()))
    assert (at.view.delivered, at.view.delivered_request) == ((resolved().packages_revision, resolved().flow_revision), TELL.request)


async def test_a_keep_alive_counts_only_when_it_was_taken(at):
    await at.start(KeepAlive("first"))
    await at.client.answer(0, AgentError("HTTP 409: retired"))
    assert (at.view.kept_alive, at.view.failures) == ("", 1)
    await at.start(KeepAlive("first"))
    await at.client.answer(1, Answer(state=state()))
    assert (at.view.kept_alive, at.view.failures) == ("first", 0)


async def test_a_refusal_is_remembered_with_what_was_refused(at):
    await at.start(TELL)
    await at.client.answer(0, AgentRefused("files: bad"))
    assert (at.view.refused, at.view.delivered[0]) == ("files: bad", resolved().packages_revision)


async def test_what_nobody_thought_of_is_a_failure_not_a_silence(at):
    await at.start(Probe())
    await at.client.answer(0, ZeroDivisionError("oops"))
    assert (at.view.calling, at.view.failures, at.view.failing_since) == (False, 1, NOW)
    assert "ZeroDivisionError" in at.view.error


async def test_answers_of_no_use_are_counted_for_longer_than_a_good_one_lasts(at):
    for error in (AgentError("its answer is an interim one"), NotListening("no connection"), AgentError("its answer is not JSON")):
        await at.start(Probe())
        await at.client.answer(-1, error)
    assert (at.view.failures, at.view.bad_answers, at.view.calls) == (3, 2.0, 3.0)
    await at.start(Probe())
    await at.client.answer(-1, Answer(state=state()))
    assert (at.view.failures, at.view.bad_answers, at.view.calls) == (0, 2.0, 4.0)


async def test_the_answer_of_a_container_that_is_gone_is_not_the_next_ones(at):
    await at.start(Probe())
    await at.start(TELL, container=container(restarts=1))
    await at.client.answer(0, Answer(state=state()))
    assert (at.view.restarts, at.view.calling, at.view.state) == (1, True, None)
    await at.client.answer(1, Answer(state=state()))
    assert (at.view.calling, at.view.state) == (False, state())


async def test_the_answer_of_a_pod_that_is_gone_is_dropped(at):
    await at.start(Probe())
    del at.cache.agents["pod-1"]
    await at.client.answer(0, Answer(state=state()))
    assert at.cache.agents == {}


async def test_with_a_pod_goes_its_call_and_what_the_client_remembers_of_it(at):
    at.cache.pod_gone = at.agents.forget
    await at.start(Follow(since=3))
    view = pod()
    at.cache.pods._change((NAMESPACE, view.name), None, PodEntry(view, NAME, "owner"))
    at.cache.forget("Pod", NAMESPACE, view.name)
    await settle()
    assert (at.client.cancelled, at.client.forgotten) == ([Follow(since=3)], ["pod-1"])
    assert at.cache.agents == {}


async def test_closing_ends_every_call(at):
    await at.start(Follow(since=3))
    await at.start(Probe(), uid="pod-2")
    await at.agents.close()
    assert at.client.cancelled == [Follow(since=3), Probe()]


async def test_the_token_for_feeds_is_read_for_the_one_call(at):
    await at.start(replace(TELL, feed_secret="team-feed"))
    assert at.client.feeds == [FeedCredentials("Secret 'team-feed'", TOKEN)]
    assert TOKEN not in f"{at.client.calls}{at.view}{at.client.feeds}", "no repr tells it"
    await at.client.answer(0, Answer(state=state()))
    assert TOKEN not in f"{vars(at.cache)}{vars(at.agents)}", "nor is it kept"


async def test_no_other_call_reads_it(at):
    await at.start(TELL)
    await at.client.answer(0, Answer(state=state()))
    await at.start(Probe())
    assert at.client.feeds == [None, None]


async def test_a_secret_that_can_not_be_read_now_is_asked_for_again(at):
    at.secret = Unavailable("GET /api: connection refused")
    await at.start(replace(TELL, feed_secret="team-feed"))
    await settle()
    assert (at.client.calls, at.view.failures) == ([], 1)
    assert "Secret 'team-feed' can't be read: GET /api: connection refused" in at.view.error


async def test_an_answer_that_cannot_be_taken_in_is_no_answer(at, monkeypatch, caplog):
    """Otherwise the session would wait for that call forever."""

    def broken(*_: Any) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr("flowsession.engine.agents.edits.given", broken)
    await at.start(TELL)
    await at.client.answer(0, Answer(state=state()))
    assert (at.view.calling, at.view.failures) == (False, 1)
    assert "RecursionError" in at.view.error
    assert "taking in an agent's answer broke" in caplog.text
    await at.start(Probe())
    assert len(at.client.calls) == 2


async def test_saved_edits_are_given_when_the_agent_has_taken_them_and_not_before(at, monkeypatch):
    given = []
    monkeypatch.setattr("flowsession.engine.agents.edits.given", lambda _, key: given.append(key))
    await at.start(TELL)
    await at.client.answer(0, NotListening("no connection"))
    await at.start(Probe())
    await at.client.answer(1, Answer(state=state()))
    assert given == []
    await at.start(TELL)
    await at.client.answer(2, Answer(state=state()))
    assert given == [KEY]


async def test_long_polls_beside_no_install_are_counted_until_something_else_is_asked(at):
    for times in (1, 2):
        await poll(at, 3)
        assert at.view.polls == times
    await at.start(Probe())
    await at.client.answer(-1, Answer(state=state()))
    assert at.view.polls == 0
