"""Which process is named when the kernel reports an OOM kill."""

import pytest

from flowsession_agent.server.datagrams import FIRST_PAUSE, News
from flowsession_agent.session.cputime import Process, parse_stat
from flowsession_agent.session.memory_kills import EVERY, HELPER, LARGE_PAGES, PATIENCE, RUNNER, UNKNOWN, MemoryKills


class Container:
    def __init__(self) -> None:
        self.count = 3  # before the agent started
        self.kills = MemoryKills(command=lambda process: f"python {process.name}.py", count=lambda: self.count)


@pytest.fixture
def container() -> Container:
    return Container()


def process(pid: int, *, pages: int = 10, exiting: bool = False) -> Process:
    found = Process(pid=pid, name=f"p{pid}", state="S", parent=1, ticks=0, started=pid)
    found.pages = pages
    found.exiting = exiting
    return found


def test_the_largest_that_is_gone_is_named_by_its_command(container: Container) -> None:
    large, larger = process(5, pages=LARGE_PAGES), process(6, pages=2 * LARGE_PAGES)
    assert not container.kills.look([process(4), large, larger])
    assert not container.kills.id
    container.count += 1
    assert container.kills.look([process(4)])
    assert named(container) == "python p6.py"


def test_the_process_kept_ready_for_the_next_test_is_named_so_until_it_runs_one(container: Container) -> None:
    names = {5: HELPER, 6: RUNNER}
    container.kills = MemoryKills(command=lambda process: names[process.pid], count=lambda: container.count)
    runner = process(5, pages=2 * LARGE_PAGES)
    container.kills.look([runner])
    names[5] = RUNNER
    container.kills.look([runner])
    container.count += 1
    assert container.kills.look([])
    assert named(container) == "the process kept ready for the next flow test"
    test = process(6, pages=2 * LARGE_PAGES)
    container.kills.look([test])
    names[6] = HELPER
    container.kills.look([test])
    container.count += 1
    assert container.kills.look([])
    assert named(container) == "a test, check or install of the flow"


def named(container: Container) -> str:
    return str(container.kills.members()["process"])


def test_what_ends_while_the_killed_one_still_does_is_not_named_for_it(container: Container) -> None:
    """The kernel counts the kill first. A process of 2 GiB takes a while to exit."""
    container.kills.look([process(5, pages=LARGE_PAGES), process(6, pages=2 * LARGE_PAGES)])
    container.count += 1
    assert not container.kills.look([process(6, pages=2 * LARGE_PAGES)])
    assert not container.kills.id
    assert container.kills.look([])
    assert named(container) == "python p6.py"


def test_one_that_is_exiting_is_gone_and_was_as_large_as_it_ever_was(container: Container) -> None:
    """Its memory and its command line are unreadable, while its PID still exists."""
    container.kills.look([process(5, pages=2 * LARGE_PAGES), process(6, pages=LARGE_PAGES)])
    container.count += 1
    assert container.kills.look([process(5, pages=0, exiting=True)])
    assert named(container) == "python p5.py"


def test_a_larger_one_that_lives_on_is_not_waited_for_for_ever(container: Container) -> None:
    larger = process(4, pages=9 * LARGE_PAGES)
    container.kills.look([larger, process(5)])
    container.count += 1
    looks = [container.kills.look([larger]) for _ in range(PATIENCE)]
    assert looks == [False] * (PATIENCE - 1) + [True]
    assert named(container) == "p5"


def test_the_kernel_tells_which_process_is_exiting() -> None:
    line = b"42 (a) b) R 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 900 1000 77 0 0"
    assert not parse_stat(line).exiting
    assert parse_stat(line.replace(b" 4194560 ", b" 4195588 ")).exiting


def test_a_kill_is_said_again_until_the_operator_was_answered() -> None:
    now, said = [100.0], []
    news = News(lambda: said.append(now[0]), clock=lambda: now[0])

    def live(newest: str, seconds: int) -> int:
        before = len(said)
        for _ in range(seconds):
            news.look(newest)
            now[0] += 1
        return len(said) - before

    assert live("", 60) == 0
    assert live("a-1", int(FIRST_PAUSE)) == 1
    assert live("a-1", 600) > 5
    news.answered("a-1")
    assert live("a-1", 600) == 0
    assert live("a-2", 2) == 1


def test_a_small_one_is_named_by_its_short_name_and_one_that_no_look_saw_by_none(container: Container) -> None:
    container.kills.look([process(5)])
    container.count += 1
    assert container.kills.look([])
    assert named(container) == "p5"
    container.count += 1
    assert any(container.kills.look([]) for _ in range(EVERY + PATIENCE))
    assert named(container) == UNKNOWN


def test_what_ends_otherwise_is_not_told(container: Container) -> None:
    container.kills.look([process(5, pages=LARGE_PAGES)])
    assert not any(container.kills.look([]) for _ in range(2 * EVERY))
    assert not container.kills.id


def test_each_time_has_a_name_of_its_own_also_after_the_agent_was_started_again(container: Container) -> None:
    names = set()
    for kills in (container.kills, Container().kills):
        kills._count = lambda: container.count
        for _ in range(2):
            container.count += 1
            kills.look([process(5)])
            kills.look([])
            names.add(kills.members()["id"])
    assert len(names) == 4
