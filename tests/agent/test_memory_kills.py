"""Which process is named when the kernel says that it killed one for memory."""

import pytest

from flowsession_agent.session.cputime import Process
from flowsession_agent.session.memory_kills import EVERY, LARGE_PAGES, UNKNOWN, MemoryKills


class Container:
    def __init__(self) -> None:
        self.count = 3  # of before the agent was started
        self.kills = MemoryKills(command=lambda process: f"python {process.name}.py", count=lambda: self.count)


@pytest.fixture
def container() -> Container:
    return Container()


def process(pid: int, *, pages: int = 10) -> Process:
    found = Process(pid=pid, name=f"p{pid}", state="S", parent=1, ticks=0, started=pid)
    found.pages = pages
    return found


def test_the_largest_that_is_gone_is_named_by_its_command(container: Container) -> None:
    large, larger = process(5, pages=LARGE_PAGES), process(6, pages=2 * LARGE_PAGES)
    assert not container.kills.look([process(4), large, larger])
    assert container.kills.members() == {}
    container.count += 1
    assert container.kills.look([process(4)])
    assert container.kills.name == "python p6.py"


def test_a_small_one_is_named_by_its_short_name_and_one_that_no_look_saw_by_none(container: Container) -> None:
    container.kills.look([process(5)])
    container.count += 1
    assert container.kills.look([])
    assert container.kills.name == "p5"
    container.count += 1
    assert any(container.kills.look([]) for _ in range(EVERY))
    assert container.kills.name == UNKNOWN


def test_what_ends_otherwise_is_not_told(container: Container) -> None:
    container.kills.look([process(5, pages=LARGE_PAGES)])
    assert not any(container.kills.look([]) for _ in range(2 * EVERY))
    assert container.kills.members() == {}


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
