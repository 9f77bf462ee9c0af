"""The queue: each key once, one worker for each, deadlines, back-off. The loop's clock is simulated."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsession.engine.queue import LONGEST_BACKOFF, SPARE_DEADLINES, Queue


class Time(asyncio.SelectorEventLoop):
    """A loop whose time passes only when a test says so."""

    now = 1000.0

    def time(self) -> float:
        return self.now


def run(scenario) -> None:
    """Run a scenario `async (queue, advance)` on such a loop."""
    loop = Time()

    async def turn() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    async def advance(seconds: float) -> None:
        loop.now += seconds
        await turn()

    try:
        loop.run_until_complete(scenario(Queue(), advance))
    finally:
        loop.close()


async def taken(queue: Queue[str]) -> list[str]:
    """Take all keys that are ready, and mark each as done at once."""
    found = []
    while queue._ready:
        key = await queue.get()
        found.append(key)
        queue.done(key)
    return found


def test_a_key_is_in_it_once_and_first_come_is_first_served():
    async def scenario(queue, _):
        for key in "abac":
            queue.add(key)
        assert await taken(queue) == ["a", "b", "c"]

    run(scenario)


def test_what_can_wait_lets_others_go_first_but_not_for_ever():
    async def scenario(_, advance):
        queue = Queue(yield_seconds=lambda key: 20.0 if key.startswith("new") else 0.0)
        for key in ("new-1", "new-2", "a"):
            queue.add(key)
        await advance(19)
        queue.add("b")
        await advance(2)
        queue.add("c")
        assert await taken(queue) == ["a", "b", "new-1", "new-2", "c"]

    run(scenario)


def test_news_that_the_loop_has_already_received_is_enqueued_before_a_key_is_taken():
    async def scenario(_, advance):
        queue = Queue(yield_seconds=lambda key: 20.0 if key.startswith("new") else 0.0)
        queue.add("new")
        asyncio.get_running_loop().call_soon(queue.add, "nearly done")
        assert await taken(queue) == ["nearly done", "new"]

    run(scenario)


def test_each_worker_takes_another_key_and_none_is_lost_with_a_worker():
    async def scenario(queue, advance):
        workers = [asyncio.ensure_future(queue.get()) for _ in range(4)]
        await advance(1)
        workers[0].cancel()
        for key in "abc":
            queue.add(key)
        assert await asyncio.gather(*workers[1:]) == ["a", "b", "c"]
        assert not queue._ready

    run(scenario)


def test_a_key_that_is_worked_on_comes_again_after_that_and_only_once():
    async def scenario(queue, _):
        queue.add("a")
        assert await queue.get() == "a"
        queue.add("a")
        queue.add("a")
        assert not queue._ready
        queue.done("a")
        assert await taken(queue) == ["a"]

    run(scenario)


def test_a_worker_waits_until_something_comes():
    async def scenario(queue, advance):
        worker = asyncio.ensure_future(queue.get())
        await advance(1)
        assert not worker.done()
        queue.add("a")
        assert await worker == "a"

    run(scenario)


def test_a_deadline_brings_the_key_up():
    async def scenario(queue, advance):
        queue.add_after("a", 5)
        await advance(4.9)
        assert await taken(queue) == []
        await advance(0.2)
        assert await taken(queue) == ["a"]
        await advance(100)
        assert await taken(queue) == []

    run(scenario)


@pytest.mark.parametrize("order", [(5, 2, 9), (2, 5, 9), (9, 5, 2)])
def test_of_several_deadlines_the_earliest_counts(order):
    async def scenario(queue, advance):
        for seconds in order:
            queue.add_after("a", seconds)
        await advance(2.1)
        assert await taken(queue) == ["a"]
        await advance(20)
        assert await taken(queue) == []

    run(scenario)


def test_deadlines_of_many_keys():
    async def scenario(queue, advance):
        for seconds in (3, 1, 2):
            queue.add_after(f"after {seconds}", seconds)
        await advance(1.5)
        assert await taken(queue) == ["after 1"]
        await advance(5)
        assert await taken(queue) == ["after 2", "after 3"]

    run(scenario)


def test_what_comes_up_earlier_overtakes_its_deadline():
    """The decision that follows sets a new deadline."""

    async def scenario(queue, advance):
        queue.add_after("a", 5)
        queue.add("a")
        assert await taken(queue) == ["a"]
        await advance(10)
        assert await taken(queue) == []

    run(scenario)


def test_a_deadline_set_while_it_is_worked_on_holds():
    async def scenario(queue, advance):
        queue.add("a")
        await queue.get()
        queue.add_after("a", 5)
        queue.done("a")
        await advance(6)
        assert await taken(queue) == ["a"]

    run(scenario)


def test_a_deadline_in_the_past_is_now():
    async def scenario(queue, advance):
        queue.add_after("a", -50)
        await advance(0.01)
        assert await taken(queue) == ["a"]

    run(scenario)


def test_failures_back_off_and_success_forgets_them():
    async def scenario(queue, advance):
        pauses = [queue.retry("a") for _ in range(1_100)]
        for number, pause in enumerate(pauses):
            nominal = min(LONGEST_BACKOFF, 0.1 * 2.0 ** min(number, 20))
            assert 0.8 * nominal <= pause <= 1.2 * nominal
        queue.succeeded("a")
        assert queue.retry("a") <= 0.12
        assert queue.retry("b") <= 0.12

    run(scenario)


def test_a_failed_key_comes_again_after_its_pause():
    async def scenario(queue, advance):
        queue.add("a")
        await queue.get()
        pause = queue.retry("a")
        queue.done("a")
        await advance(pause - 0.01)
        assert await taken(queue) == []
        await advance(0.02)
        assert await taken(queue) == ["a"]

    run(scenario)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abc"), st.just(0)),
        st.tuples(st.just("after"), st.sampled_from("abc"), st.integers(0, 10_000)),
        st.tuples(st.just("take"), st.just(""), st.just(0)),
        st.tuples(st.just("pass"), st.just(""), st.integers(0, 50)),
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 8))
def test_whatever_is_asked_each_key_comes_up_when_it_is_due_and_overtaken_deadlines_are_not_kept(steps, times):
    """Compare with a model: a set of ready keys, and the earliest deadline of every other key."""

    async def scenario(queue, advance):
        ready, due, now = set(), {}, 0
        for what, key, seconds in steps * times:
            if what == "add":
                queue.add(key)
                ready.add(key)
            elif what == "after":
                queue.add_after(key, seconds)
                due[key] = min(due.get(key, float("inf")), now + seconds)
                await advance(0)
            elif what == "pass":
                now += seconds
                await advance(seconds)
            else:
                assert set(await taken(queue)) == ready
                for one in ready:
                    due.pop(one, None)
                ready.clear()
            for one in [one for one, at in due.items() if at <= now]:
                del due[one]
                ready.add(one)
            assert queue._waiting == ready
            assert len(queue._heap) <= 2 * len(due) + SPARE_DEADLINES

    run(scenario)


def test_a_key_that_comes_up_again_and_again_leaves_no_deadlines_behind():
    async def scenario(queue, advance):
        for _ in range(10_000):
            queue.add_after("a", 3600)
            queue.add("a")
            assert await taken(queue) == ["a"]
        assert len(queue._heap) <= SPARE_DEADLINES
        queue.add_after("a", 3600)
        await advance(3601)
        assert await taken(queue) == ["a"]

    run(scenario)
