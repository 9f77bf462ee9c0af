"""When a process is kept ready for the next test, and when it isn't. The test simulates clock, memory and processes."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from flowsession_agent.check.result import Result
from flowsession_agent.server.state import Install, State
from flowsession_agent.session import spare
from flowsession_agent.session.children import Children
from flowsession_agent.session.spare import ENOUGH_BYTES, IDLE_SECONDS, RESERVE_BYTES, Spares

if TYPE_CHECKING:
    from flowsession_agent.session.spare import Key


@dataclasses.dataclass
class Process:
    """A simulated process."""

    key: "Key"
    ready: bool = False
    over: bool = False
    ended: bool = False
    stale: bool = False

    def look(self) -> None:
        """Do nothing: the test sets the fields."""

    def order(self, module: str, arguments: Sequence[str], *, cwd: str) -> str | None:
        self.ended = self.stale
        return None if self.stale else f"{module} {' '.join(arguments)} in {cwd}"

    def end(self) -> None:
        self.ended = True


class World:
    def __init__(self) -> None:
        self.now = 1000.0
        self.free, self.roomy = 2 * ENOUGH_BYTES, True
        self.key: Key = ("python", {"A": "1"})
        self.state = State()
        self.state.install = Install(state="Succeeded")
        self.state.check = Result(state="Done")
        self.started: list[Process] = []
        self.spares = Spares(
            state=self.state,
            children=Children(),
            environment=lambda: self.key,
            start=self._start,  # type: ignore[arg-type]
            free_memory=lambda: self.free,
            roomy=lambda: self.roomy,
            clock=lambda: self.now,
        )

    def _start(self, key: "Key") -> Process:
        self.started.append(Process(key))
        return self.started[-1]

    def test(self) -> None:
        with self.spares.work():
            assert self.lend() is None or self.started

    def lend(self) -> Any:
        return self.spares.lend(self.key, "run_flow", ["flow", "in", "out"], cwd="/flow")

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.spares.keep_spare()

    @property
    def living(self) -> list[Process]:
        return [process for process in self.started if not process.ended]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(spare, "DELAY_SECONDS", 3600)  # the test itself calls `keep_spare`
    return World()


@pytest.fixture
def tested(world: World) -> World:
    world.test()
    world.pass_time(1)
    assert len(world.living) == 1
    return world


def test_none_is_started_before_somebody_has_tested(world: World) -> None:
    world.pass_time(3600)
    assert world.started == []
    assert world.lend() is None


def test_the_next_test_gets_it_and_another_one_is_started_when_no_test_runs_any_more(tested: World) -> None:
    with tested.spares.work():
        assert tested.lend() == "run_flow flow in out in /flow"
        with tested.spares.work():
            assert tested.lend() is None
        tested.pass_time(1)
        assert len(tested.started) == 1
    tested.pass_time(1)
    assert len(tested.started) == 2
    tested.pass_time(1)
    assert len(tested.started) == 2


def test_one_that_is_stale_or_was_started_with_something_else_runs_no_test(tested: World) -> None:
    tested.started[0].stale = True
    tested.test()
    assert tested.living == []
    tested.pass_time(1)
    tested.key = ("python", {"A": "2"})
    assert tested.lend() is None
    assert tested.living == []


def test_it_ends_when_nobody_has_tested_for_ten_minutes(tested: World) -> None:
    tested.pass_time(IDLE_SECONDS - 2)
    assert len(tested.living) == 1
    tested.pass_time(1)
    tested.pass_time(1)
    assert (tested.living, len(tested.started)) == ([], 1)


@pytest.mark.parametrize(("free", "roomy"), [(RESERVE_BYTES - 1, True), (ENOUGH_BYTES, False)])
def test_it_gives_way_when_memory_or_space_is_short_and_comes_back_after_the_next_test(tested: World, free: int, roomy: bool) -> None:
    tested.free, tested.roomy = free, roomy
    tested.pass_time(1)
    assert tested.living == []
    tested.free, tested.roomy = 2 * ENOUGH_BYTES, True
    tested.pass_time(1)
    assert tested.living == []
    tested.test()
    tested.pass_time(1)
    assert len(tested.living) == 1


def test_it_follows_the_packages(tested: World) -> None:
    tested.key = ("another python", {"A": "1"})
    tested.pass_time(1)
    assert [process.key for process in tested.living] == [tested.key]


def test_one_that_was_killed_is_told_of_and_not_started_again_before_the_next_test(
    tested: World, capsys: pytest.CaptureFixture[str]
) -> None:
    tested.living[0].ready = tested.living[0].over = True
    tested.pass_time(1)
    assert "the process kept ready for the next flow test or run was killed" in capsys.readouterr().err
    tested.pass_time(1)
    assert (tested.living, len(tested.started)) == ([], 1)
    tested.test()
    tested.pass_time(1)
    assert len(tested.living) == 1


def test_one_that_ends_by_itself_since_files_changed_during_its_import_is_not_told_of(
    tested: World, capsys: pytest.CaptureFixture[str]
) -> None:
    tested.living[0].over = True
    tested.pass_time(1)
    assert (tested.living, capsys.readouterr().err) == ([], "")


def short(world: World) -> None:
    world.free = ENOUGH_BYTES - 1


def full(world: World) -> None:
    world.roomy = False


def checking(world: World) -> None:
    world.state.check = Result(state="Running")


def installing(world: World) -> None:
    world.state.install = Install(state="Running")


def retired(world: World) -> None:
    world.state.retired = True


@pytest.mark.parametrize("hinders", [short, full, checking, installing, retired])
def test_it_waits_until_nothing_else_needs_the_session(world: World, hinders: Callable[[World], None]) -> None:
    world.test()
    hinders(world)
    world.pass_time(1)
    assert world.started == []
    world.free, world.roomy, world.state.retired = ENOUGH_BYTES, True, False
    world.state.check, world.state.install = Result(state="Done"), Install(state="Succeeded")
    world.pass_time(1)
    assert len(world.living) == 1
