"""Which processes count as work, read from a fake /proc."""

import random
from pathlib import Path

import pytest

from flowsession_agent.session.children import Children
from flowsession_agent.session.cputime import WINDOW_SECONDS, parse_stat
from flowsession_agent.session.processes import ProcessActivity, Processes
from flowsession_agent.session.terminals import CUT_SECONDS

SHORTEST_TIMEOUT = 5


class Helpers(Children):
    """The agent's own helpers, given by the test."""

    def __init__(self, *pids: int) -> None:
        super().__init__()
        self.pids = list(pids)

    def running(self) -> list[int]:
        return list(self.pids)


class Machine:
    """A fake /proc and clock, for an agent that is PID 1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1000.0
        self.children = Helpers(77)
        self.processes = Processes(children=self.children, proc=str(folder), agent=1, clock=lambda: self.now, ticks_per_second=100)
        self.set(1, parent=0, command="agent")

    def set(
        self,
        pid: int,
        *,
        parent: int = 1,
        ticks: int = 0,
        state: str = "S",
        command: str = "python x.py",
        name: str = "python",
        switches: int = 1,
        system_ticks: int = 0,
        ran: float = 0,
        waited: float = 0,
    ) -> None:
        folder = self.folder / str(pid)
        thread = folder / "task" / str(pid)
        thread.mkdir(exist_ok=True, parents=True)
        (folder / "cmdline").write_bytes(command.replace(" ", "\0").encode() + b"\0" if command else b"")
        fields = [state, parent, 0, 0, 0, 0, 0, 0, 0, 0, 0, ticks, system_ticks, 0, 0, 20, 0, 1, 0, 500 + pid, 0, 0]
        (folder / "stat").write_text(f"{pid} ({name}) " + " ".join(map(str, fields)))
        (thread / "schedstat").write_text(f"{ran * 1e9:.0f} {waited * 1e9:.0f} 1\n")
        (thread / "status").write_text(f"Name:\t{name}\nvoluntary_ctxt_switches:\t{switches}\nnonvoluntary_ctxt_switches:\t0\n")

    def end(self, pid: int) -> None:
        self.set(pid, state="Z")

    def look(self, *, after: float = 1) -> str:
        return self.whole_look(after=after).now

    def whole_look(self, *, after: float = 1) -> ProcessActivity:
        self.now += after
        return self.processes.look()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_who_has_no_parent_came_from_outside(machine: Machine) -> None:
    assert machine.look() == ""
    machine.set(30, parent=0, command="sh -c " + "x" * 300)
    assert machine.look() == ("exec sh -c " + "x" * 300)[:105]
    machine.end(30)
    assert machine.look() == ""


def test_more_than_a_hundredth_of_a_core_over_five_seconds_is_work(machine: Machine) -> None:
    machine.set(30, ticks=10_000)
    machine.look()
    for second in range(1, 20):
        machine.set(30, ticks=10_000 + second)
        assert machine.look() == ""  # exactly 1 %
    machine.set(30, ticks=10_030)
    assert machine.look() == "process python x.py"


def test_a_process_that_falls_asleep_worked_until_its_cpu_time_grew_last(machine: Machine) -> None:
    machine.set(30)
    machine.look()
    machine.set(30, ticks=100)
    worked_at = machine.now + 0.5
    assert machine.whole_look(after=0.5).at == worked_at
    asleep = [machine.whole_look(after=0.5) for _ in range(20)]
    assert [look.now for look in asleep[4:]] == [""] * 16, "two quiet seconds may be those of a process that works slowly; more are not"
    assert {look.at for look in asleep[4:]} == {worked_at}
    assert asleep[-1].what == "process python x.py"


def test_the_last_work_is_known_more_exactly_than_the_kernel_shows_cpu_time(machine: Machine) -> None:
    machine.set(30)
    machine.look()
    machine.set(30, ticks=100, ran=1)
    machine.look(after=0.5)
    machine.set(30, ticks=100, ran=1.0001)  # the last line of its log
    worked_at = machine.now + 0.5
    looks = [machine.whole_look(after=0.5) for _ in range(12)]
    assert (looks[-1].now, looks[-1].at) == ("", worked_at)


def test_work_that_the_node_starves_is_work(machine: Machine) -> None:
    """The process would use 5 % of a core, but gets only a hundredth of a second every two seconds."""
    machine.set(30, ticks=1000)
    machine.look()
    for look in range(1, 60):
        cycles = look * 0.5 / 2
        machine.set(30, ticks=1000 + int(cycles), ran=cycles * 0.01, waited=cycles * 1.8, state="R")
        told = machine.look(after=0.5)
        if look > 12:
            assert told == "process python x.py"


def test_a_program_that_polls_is_no_work_on_a_starved_node_either(machine: Machine) -> None:
    machine.set(30, ticks=1000)
    machine.look()
    for look in range(1, 100):
        seconds = look * 0.5
        machine.set(30, ticks=1000 + int(seconds * 0.15), ran=seconds * 0.0015, waited=seconds * 0.9)
        told = machine.look(after=0.5)
        assert told == "", "0.15 % of a core"


def test_a_process_that_ends_worked_until_the_look_that_misses_it(machine: Machine) -> None:
    machine.set(30)
    machine.look()
    machine.set(30, ticks=100)
    machine.look()
    machine.end(30)
    look = machine.whole_look(after=0.5)
    assert (look.now, look.what, look.at) == ("", "process python x.py", machine.now)


def test_a_terminal_that_closes_was_open_until_the_look_that_misses_it(machine: Machine) -> None:
    machine.set(30, parent=0, command="bash")
    machine.look()
    machine.end(30)
    look = machine.whole_look(after=0.5)
    assert (look.now, look.what, look.at) == ("", "exec bash", machine.now)
    assert machine.whole_look().at == look.at


@pytest.mark.parametrize("share", [0.015, 0.02, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_steady_work_is_never_taken_for_idleness(machine: Machine, share: float, seed: int) -> None:
    """The kernel counts user and system time separately, each in whole hundredths of a second."""
    chance = random.Random(seed)
    user, system = chance.random() * 10, chance.random() * 10
    machine.set(30, ticks=int(user), system_ticks=int(system), ran=(user + system) / 100)
    machine.look()
    began = machine.now
    for _ in range(80):
        pause = chance.uniform(0.4, 0.7)
        in_system = chance.random()
        user += 100 * share * pause * (1 - in_system)
        system += 100 * share * pause * in_system
        machine.set(30, ticks=int(user), system_ticks=int(system), ran=(user + system) / 100)
        look = machine.whole_look(after=pause)
        if machine.now - began > WINDOW_SECONDS + 1:
            assert look.now == "process python x.py"


@pytest.mark.parametrize("share", [0.011, 0.0125, 0.014])
def test_work_at_the_edge_is_never_idle_for_the_shortest_timeout(machine: Machine, share: float) -> None:
    chance = random.Random(1)
    user = system = 0.0
    machine.set(30)
    machine.look()
    began = machine.now
    for _ in range(300):
        in_system = chance.random()
        user += 50 * share * (1 - in_system)
        system += 50 * share * in_system
        machine.set(30, ticks=int(user), system_ticks=int(system), ran=(user + system) / 100)
        look = machine.whole_look(after=0.5)
        if machine.now - began > WINDOW_SECONDS + 1:
            assert machine.now - look.at < SHORTEST_TIMEOUT


def test_what_was_born_since_the_last_look_is_judged_by_its_own_age(machine: Machine) -> None:
    """Work that begins half a second before the timeout ends must be seen."""
    machine.look()
    machine.set(30, ticks=1)
    assert machine.look(after=0.5) == "process python x.py"
    assert machine.look(after=1) == "", "0.01 s in 1.5 s are less than 1 %"


def test_a_process_without_any_cpu_time_is_no_work(machine: Machine) -> None:
    machine.look()
    machine.set(30, command="sleep infinity")
    assert {machine.look(after=0.5) for _ in range(30)} == {""}


def test_the_time_of_children_that_ended_is_counted_once(machine: Machine) -> None:
    machine.set(30, command="make")
    machine.look()
    machine.set(30, ticks=50_000, command="make")  # it reaped a child that had worked for minutes
    reaped_at = machine.now + 0.5
    machine.look(after=0.5)
    looks = [machine.whole_look(after=0.5) for _ in range(12)]
    assert looks[-1].now == ""
    assert looks[-1].at == reaped_at


def test_the_agents_own_helpers_do_not_count(machine: Machine) -> None:
    machine.look()
    machine.set(77, ticks=500)
    machine.set(78, parent=77, ticks=500)
    machine.set(76, parent=78, ticks=500)
    assert machine.look() == ""


def test_a_helper_that_starts_during_the_look_does_not_count(tmp_path: Path) -> None:
    class Starting(Helpers):
        def running(self) -> list[int]:
            found = list(self.pids)
            self.pids.append(77)
            return found

    machine = Machine(tmp_path)
    machine.look()
    helpers = Starting()
    machine.processes = Processes(children=helpers, proc=str(tmp_path), agent=1, clock=lambda: machine.now, ticks_per_second=100)
    machine.look()
    helpers.pids.clear()
    machine.set(77, ticks=50)
    assert machine.look() == ""


def test_an_idle_prompt_is_a_live_terminal_for_as_long_as_a_kubelet_keeps_it(machine: Machine) -> None:
    machine.set(30, parent=0, command="bash")
    machine.look()
    for _ in range(CUT_SECONDS // 600 - 1):
        assert machine.look(after=600) == "exec bash"


def test_what_has_not_run_for_longer_than_a_kubelet_keeps_a_silent_stream_is_left_behind(machine: Machine) -> None:
    machine.set(30, parent=0, command="sleep infinity")
    machine.look()
    assert machine.look(after=CUT_SECONDS) == "exec sleep infinity"
    assert machine.look(after=1) == ""
    machine.set(30, parent=0, command="sleep infinity", switches=2)
    assert machine.look(after=31) == "exec sleep infinity", "it moved: somebody is there after all"


def test_a_terminal_is_alive_while_anything_that_it_started_runs(machine: Machine) -> None:
    machine.set(30, parent=0, command="bash")
    machine.set(31, parent=30, command="sh")
    for hour in range(12):
        machine.set(32, parent=31, command="watch", switches=hour)
        assert machine.look(after=3600) == "exec bash"
    machine.look(after=CUT_SECONDS)
    assert machine.look(after=1) == ""


def test_names_with_parentheses_and_commands_with_escapes(machine: Machine) -> None:
    assert parse_stat(b"5 (a) b) (c) S 1 0 0 0 0 0 0 0 0 0 1 2 3 4 20 0 1 0 99 0 0").name == "a) b) (c"
    machine.set(30, parent=0, command="evil\x1b[31m\nname")
    assert machine.look() == "exec evil [31m name"
    machine.set(30, parent=0, command="", name="kworker")
    assert machine.look() == "exec [kworker]"


@pytest.mark.parametrize("typed", ["flow test", "bash"])
@pytest.mark.parametrize("before", ["env FLOWSESSION_CALL=a1b2 ", "/usr/bin/python3 -IS /usr/local/bin/"])
def test_what_people_typed_is_shown(machine: Machine, before: str, typed: str) -> None:
    machine.set(50, parent=0, command=before + typed)
    hidden = typed == "flow test" or before.startswith("env")
    assert machine.look() == f"exec {'' if hidden else before}{typed}"


@pytest.mark.parametrize("command", ["runc init", "/usr/bin/crun init", "/proc/self/exe init", "/proc/self/fd/6 init"])
def test_the_runtimes_own_process_is_not_shown_as_the_command(machine: Machine, command: str) -> None:
    machine.set(50, parent=0, command=command)
    assert machine.look() == "exec (a short command)"
    machine.set(50, parent=0, command="python init")
    assert machine.look() == "exec python init"
