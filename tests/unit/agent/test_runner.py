"""When a process with prompt flow imported is kept for tests and checks. The test simulates clock, memory and processes."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

from flowsession_agent.server.state import Install, State
from flowsession_agent.session.runner import ENOUGH_BYTES, IDLE_SECONDS, RESERVE_BYTES, Runners

if TYPE_CHECKING:
    from flowsession_agent.session.runner import Key


@dataclasses.dataclass
class Process:
    """A simulated process."""

    key: "Key"
    ready: bool = False
    over: bool = False
    ended: bool = False
    stale: bool = False
    killed: bool = False
    unfit: bool = False
    refuses: bool = False

    def look(self) -> None:
        """Do nothing: the test sets the fields."""

    def fork(self, job: list[str], module: str, arguments: Sequence[str]) -> bool:
        if self.stale or self.over or self.unfit:
            self.end()
        if self.over or self.refuses:
            return False
        self.ready = True
        job.append(f"{module} {' '.join(arguments)}")
        return True

    def end(self) -> None:
        self.ended = self.over = True


class World:
    def __init__(self) -> None:
        self.now = 1000.0
        self.free, self.roomy, self.unfit = 2 * ENOUGH_BYTES, True, False
        self.key: Key = ("python", {"A": "1"})
        self.state = State()
        self.state.install = Install(state="Succeeded")
        self.started: list[Process] = []
        self.runners = Runners(
            state=self.state,
            environment=lambda: self.key,
            start=self._start,  # type: ignore[arg-type]
            free_memory=lambda: self.free,
            roomy=lambda: self.roomy,
            clock=lambda: self.now,
        )

    def _start(self, key: "Key") -> Process:
        self.started.append(Process(key, unfit=self.unfit))
        return self.started[-1]

    def test(self, key: "Key | None" = None) -> bool:
        """Return whether a test was forked."""
        return self._fork("run_flow flow in out", key=key or self.key)

    def check(self) -> bool:
        """Return whether a check was forked."""
        return self._fork("imports flow", key=None)

    def _fork(self, words: str, *, key: "Key | None") -> bool:
        job: list[str] = []
        module, *arguments = words.split()
        forked = self.runners.lend(job, module, arguments, key=key)  # type: ignore[arg-type]
        assert job == ([words] if forked else [])
        return forked

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.runners.end_unneeded()

    @property
    def living(self) -> list[Process]:
        return [process for process in self.started if not process.ended]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def tested(world: World) -> World:
    assert world.test()
    world.pass_time(1)
    assert len(world.living) == 1
    return world


def test_none_is_started_before_a_check_or_test(world: World) -> None:
    world.pass_time(3600)
    assert world.started == []


def test_every_test_and_check_is_forked_from_one(world: World) -> None:
    assert world.check()
    assert world.test()
    world.pass_time(1)
    assert world.test()
    assert world.check()
    assert len(world.started) == len(world.living) == 1


def test_an_order_that_is_refused_has_a_new_process(tested: World) -> None:
    tested.started[0].refuses = True
    assert not tested.test()
    assert (len(tested.started), len(tested.living)) == (1, 1)


@pytest.mark.parametrize("end", ["stale", "over"])
def test_another_one_follows_one_that_is_stale_or_was_killed(tested: World, end: str) -> None:
    setattr(tested.started[0], end, True)
    assert tested.test()
    assert (len(tested.started), tested.living) == (2, tested.started[1:])


def test_another_one_follows_when_the_packages_have_changed(tested: World) -> None:
    tested.key = ("another python", {"A": "1"})
    assert tested.check()
    assert [process.key for process in tested.living] == [tested.key]


def test_it_ends_when_the_packages_have_changed(tested: World) -> None:
    tested.key = ("another python", {"A": "1"})
    tested.pass_time(1)
    assert tested.living == []


def test_a_run_of_another_environment_has_a_new_process_and_leaves_it(tested: World) -> None:
    assert not tested.test(("python", {"A": "2"}))
    tested.pass_time(1)
    assert len(tested.living) == 1


def test_where_prompt_flow_can_not_be_imported_it_is_tried_once(world: World) -> None:
    world.unfit = True
    assert not world.check()
    assert not world.check()
    assert not world.test()
    assert len(world.started) == 1
    world.key, world.unfit = ("another python", {"A": "1"}), False
    assert world.test()


def test_it_ends_when_nobody_has_tested_for_ten_minutes(tested: World) -> None:
    tested.pass_time(IDLE_SECONDS - 2)
    assert len(tested.living) == 1
    tested.pass_time(1)
    tested.pass_time(1)
    assert (tested.living, len(tested.started)) == ([], 1)
    assert tested.test()
    assert len(tested.living) == 1


@pytest.mark.parametrize(("free", "roomy"), [(RESERVE_BYTES - 1, True), (ENOUGH_BYTES, False)])
def test_it_gives_way_when_memory_or_space_is_short_and_comes_back_with_the_next_test(tested: World, free: int, roomy: bool) -> None:
    tested.free, tested.roomy = free, roomy
    tested.pass_time(1)
    assert tested.living == []
    tested.free, tested.roomy = 2 * ENOUGH_BYTES, True
    tested.pass_time(1)
    assert tested.living == []
    assert tested.test()
    assert len(tested.living) == 1


def test_one_that_was_killed_is_told_of(tested: World, capsys: pytest.CaptureFixture[str]) -> None:
    tested.living[0].over = tested.living[0].killed = True
    tested.pass_time(1)
    assert "the process kept ready for the next flow test or run was killed" in capsys.readouterr().err
    tested.pass_time(1)
    assert (tested.living, len(tested.started)) == ([], 1)


def test_one_that_ends_by_itself_since_files_changed_during_its_import_is_not_told_of(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.check()
    world.living[0].ready, world.living[0].over = False, True
    world.pass_time(1)
    assert (world.living, capsys.readouterr().err) == ([], "")


def short(world: World) -> None:
    world.free = ENOUGH_BYTES - 1


def full(world: World) -> None:
    world.roomy = False


def installing(world: World) -> None:
    world.state.install = Install(state="Running")


def retired(world: World) -> None:
    world.state.retired = True


@pytest.mark.parametrize("hinders", [short, full, installing, retired])
def test_none_is_started_where_there_is_no_room_for_it(world: World, hinders: Callable[[World], None]) -> None:
    hinders(world)
    assert not world.test()
    assert world.started == []
    world.free, world.roomy, world.state.retired = ENOUGH_BYTES, True, False
    world.state.install = Install(state="Succeeded")
    assert world.test()
