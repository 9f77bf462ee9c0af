"""Which commands are noticed that start and end between two looks, with a fake /proc that numbers processes as a PID namespace does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowsession_agent.session import inotify
from flowsession_agent.session.children import Children
from flowsession_agent.session.exec_trace import RECENT_SECONDS, ExecTrace
from flowsession_agent.session.pids import BURST, MANY
from flowsession_agent.session.processes import SHORT_COMMAND, ProcessActivity, Processes


class Cgroup:
    """inotify events of a cgroup's files, sent by the test."""

    def __init__(self) -> None:
        self._takers: list[Callable[[int, str], None]] = []

    def watch(self, path: str, mask: int, take: Callable[[int, str], None]) -> int:
        self._takers.append(take)
        return len(self._takers)

    def pump(self) -> None:
        """Do nothing, since the test calls `touch`."""

    def touch(self) -> None:
        for take in self._takers:
            take(inotify.OPEN, "")


class Namespace:
    """A PID namespace. The agent is PID 1 and starts nothing by itself. `first` is the last number assigned when it began, 0 if unknown."""

    def __init__(self, folder: Path, *, traces: bool = False, first: int = 0) -> None:
        self.folder = folder
        self.now = 1000.0
        self.last = 1
        self.ran: dict[int, float] = {}
        self.children = Children()
        self.cgroup = Cgroup()
        trace = ExecTrace(self.cgroup if traces else None, clock=lambda: self.now)  # type: ignore[arg-type]
        self.processes = Processes(
            children=self.children, trace=trace, first=first, proc=str(folder), agent=1, clock=lambda: self.now, ticks_per_second=100
        )
        self._read, self._meanwhile = self.processes._read, list[Callable[[], object]]()
        self.processes._read = self._read_and_meanwhile  # type: ignore[method-assign]
        (folder / "1" / "task" / "1").mkdir(parents=True)
        self._write(1, parent=0)
        self.number(0)

    def number(self, count: int = 1) -> int:
        """Assign numbers to processes that start and end at once. Return the last number."""
        self.last += count
        (self.folder / "loadavg").write_text(f"0.00 0.01 0.05 1/123 {self.last}\n")
        return self.last

    def born(self, *, parent: int, threads: int = 0) -> int:
        """Start a process that keeps running, with `threads` besides its main thread. Return its PID."""
        pid = self.number()
        for number in (pid, *(self.number() for _ in range(threads))):
            (self.folder / str(pid) / "task" / str(number)).mkdir(parents=True)
        self._write(pid, parent=parent)
        self.run(pid)
        return pid

    def run(self, pid: int, seconds: float = 0.0001) -> None:
        """Add seconds that the process ran on a core."""
        self.ran[pid] = self.ran.get(pid, 0) + seconds
        for thread in (self.folder / str(pid) / "task").iterdir():
            (thread / "schedstat").write_text(f"{self.ran[pid] * 1e9:.0f} 0 1\n")

    def end(self, pid: int) -> None:
        (self.folder / str(pid) / "stat").unlink()

    def wait_to_be_reaped(self, pid: int, *, parent: int) -> None:
        self._write(pid, parent=parent, state="Z")

    def execute(self, *, threads: int = 4) -> None:
        """Execute a short command from outside. runc takes a few more numbers for its threads, crun does not."""
        self.cgroup.touch()
        self.number(1 + threads)

    def look(self, *, after: float = 0.5) -> ProcessActivity:
        self.now += after
        return self.processes.look()

    def meanwhile(self, happens: Callable[[], object]) -> None:
        """Let this happen during the next look, after it has read the processes from /proc."""
        self._meanwhile.append(happens)

    def _read_and_meanwhile(self) -> Any:
        yield from list(self._read())
        while self._meanwhile:
            self._meanwhile.pop(0)()

    def used(self, *, after: float = 0.5) -> bool:
        """Look, and return whether the last work counts as just now."""
        look = self.look(after=after)
        return look.at == self.now

    def _write(self, pid: int, **fields: Any) -> None:
        state, parent = fields.get("state", "S"), fields["parent"]
        numbers = [state, parent, *[0] * 9, 0, 0, 0, 0, 20, 0, 1, 0, 500 + pid, 0, 0]
        (self.folder / str(pid) / "stat").write_text(f"{pid} (x) " + " ".join(map(str, numbers)))


@pytest.fixture
def namespace(tmp_path: Path) -> Namespace:
    found = Namespace(tmp_path)
    found.look()
    return found


@pytest.fixture
def traced(tmp_path: Path) -> Namespace:
    """A namespace in which inotify sees the runtime, as a command has proven."""
    found = Namespace(tmp_path, traces=True)
    found.number()
    found.look()
    found.execute()
    found.look()
    found.look(after=RECENT_SECONDS + 1)
    return found


@pytest.mark.parametrize("threads", [0, 4], ids=["crun", "runc"])
def test_a_command_that_no_look_saw_is_work_that_is_over(namespace: Namespace, threads: int) -> None:
    assert not namespace.used()
    namespace.execute(threads=threads)
    look = namespace.look()
    assert (look.now, look.what, look.at) == ("", SHORT_COMMAND, namespace.now)
    assert not namespace.used()


def test_a_command_beside_what_only_waits_is_noticed_too(namespace: Namespace) -> None:
    for _ in range(5):
        namespace.born(parent=1, threads=3)
    namespace.look()
    assert not namespace.used()
    namespace.execute(threads=0)
    assert namespace.used()


def test_an_ended_command_whose_runtime_has_not_reaped_it_yet_is_noticed(namespace: Namespace) -> None:
    pid = namespace.born(parent=0)
    namespace.wait_to_be_reaped(pid, parent=0)
    assert namespace.used()


def test_what_a_command_leaves_behind_proves_nothing_against_it(namespace: Namespace) -> None:
    """`sh -c 'sleep 1000 &'` ends at once, and the agent becomes the parent of its child."""
    namespace.execute(threads=0)
    namespace.born(parent=1)
    assert namespace.used()


def test_the_agents_own_threads_and_orphans_do_not_count(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    namespace.children._numbers |= {namespace.number(), namespace.number()}
    assert not namespace.used()
    (namespace.folder / "1" / "task" / str(namespace.number())).mkdir()
    assert not namespace.used()
    ended = iter([(namespace.number(), 0), (0, 0)])
    monkeypatch.setattr("os.waitpid", lambda *_: next(ended))
    namespace.children.reap()
    assert not namespace.used()


def test_a_command_beside_calls_that_take_threads_of_the_agent(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    namespace.born(parent=1)
    read = namespace.processes._read

    def read_while_called() -> Any:
        yield from read()
        namespace.children._numbers.add(namespace.number())

    monkeypatch.setattr(namespace.processes, "_read", read_while_called)
    for _ in range(3):
        assert not namespace.used()
        namespace.execute(threads=0)
        assert namespace.used()


@pytest.mark.parametrize("beside", [0, 2])
def test_a_command_that_comes_and_goes_while_a_look_reads_is_noticed_by_the_next(namespace: Namespace, beside: int) -> None:
    for _ in range(beside):
        namespace.born(parent=1, threads=3)
    namespace.look()
    for _ in range(3):
        assert not namespace.used()
        namespace.meanwhile(lambda: namespace.execute(threads=0))
        assert not namespace.used()
        assert namespace.used()


def test_what_a_loop_starts_while_a_look_reads_is_no_command(namespace: Namespace) -> None:
    loop = namespace.born(parent=1)
    namespace.look()
    for _ in range(10):
        namespace.meanwhile(lambda: namespace.run(loop))
        namespace.meanwhile(namespace.number)
        assert not namespace.used()
        assert not namespace.used()


def test_beside_a_loop_that_ran_while_a_look_read_a_later_command_is_noticed(namespace: Namespace) -> None:
    loop = namespace.born(parent=1)
    namespace.look()
    namespace.meanwhile(lambda: namespace.run(loop))
    namespace.meanwhile(namespace.number)
    assert not namespace.used()
    namespace.execute(threads=0)
    assert namespace.used()


def test_a_command_before_the_first_look_is_noticed(tmp_path: Path) -> None:
    namespace = Namespace(tmp_path, first=1)
    assert not namespace.used()
    namespace = Namespace(tmp_path / "another", first=1)
    namespace.execute(threads=0)
    look = namespace.look()
    assert (look.now, look.what, look.at) == ("", SHORT_COMMAND, namespace.now)


def test_a_command_that_ends_what_was_left_behind_is_noticed(namespace: Namespace) -> None:
    left = namespace.born(parent=1)
    namespace.look()
    namespace.execute(threads=0)
    namespace.end(left)
    assert namespace.used()


def test_while_a_helper_of_the_agents_runs_what_it_starts_may_be_somebodys_command(namespace: Namespace) -> None:
    namespace.children._statuses[namespace.born(parent=1)] = -1
    namespace.number(7)
    look = namespace.look()
    assert (look.now, look.what, look.at) == ("", "", namespace.now), "on the safe side, and named by nothing"


@pytest.mark.parametrize("children", [1, 2])
def test_a_loop_whose_children_come_and_go_unseen_is_no_command(namespace: Namespace, children: int) -> None:
    loop = namespace.born(parent=1)
    namespace.look()
    for _ in range(100):
        namespace.number(children)
        namespace.run(loop)
        assert not namespace.used()


@pytest.mark.parametrize("wide", [0, 1])
def test_a_sleeping_loop_of_a_closed_terminal_is_no_command(namespace: Namespace, wide: int) -> None:
    """With `while :; do sleep 1; done`, each sleep is seen, so no number is unknown."""
    loop, child = namespace.born(parent=1), 0
    namespace.look()
    for turn in range(20):
        if child and turn % 2 == wide:
            namespace.end(child)
            child = 0
        if not child:
            namespace.run(loop)
            child = namespace.born(parent=loop)
        assert not namespace.used()


def test_beside_a_loop_a_command_is_known_by_as_many_numbers_as_runc_takes(namespace: Namespace) -> None:
    loop = namespace.born(parent=1)
    namespace.look()
    for _ in range(10):
        namespace.run(loop)
        namespace.number()
        assert not namespace.used()
        namespace.run(loop)
        namespace.execute(threads=BURST - 1)
        assert namespace.used()


def test_threads_of_a_server_that_come_and_go_are_no_command(namespace: Namespace) -> None:
    server = namespace.born(parent=1, threads=2)
    namespace.look()
    for _ in range(20):
        namespace.run(server)
        namespace.number(2)
        assert not namespace.used()


def test_without_schedstat_nobody_is_known_to_have_waited(namespace: Namespace) -> None:
    pid = namespace.born(parent=1)
    namespace.run(pid, -namespace.ran[pid])
    namespace.look()
    namespace.number()
    assert not namespace.used()


def test_where_the_runtime_is_seen_to_execute_it_alone_decides_beside_a_loop(traced: Namespace) -> None:
    loop = traced.born(parent=1)
    traced.look()
    for _ in range(20):
        traced.run(loop)
        traced.number(3 * BURST)
        assert not traced.used()
        traced.run(loop)
        traced.execute(threads=0)
        assert traced.used()
        traced.look(after=RECENT_SECONDS + 1)


def test_where_the_runtime_is_seen_to_execute_the_agents_helpers_are_told_from_commands(traced: Namespace) -> None:
    traced.children._statuses[traced.born(parent=1)] = -1
    traced.number(20)
    assert not traced.used()
    traced.execute()
    assert traced.used()


def test_until_a_command_has_come_with_a_trace_what_comes_beside_a_helper_of_the_agents_may_be_one(tmp_path: Path) -> None:
    """That inotify could see a runtime's trace proves nothing yet, since this runtime may leave none."""
    namespace = Namespace(tmp_path, traces=True)
    namespace.number()
    namespace.look()
    helper = namespace.born(parent=1)
    namespace.children._statuses[helper] = -1
    namespace.number()
    look = namespace.look()
    assert (look.now, look.what, look.at) == ("", "", namespace.now)
    namespace.children._statuses.clear()
    namespace.end(helper)
    namespace.look()
    namespace.execute()
    assert namespace.used()
    namespace.look(after=RECENT_SECONDS + 1)
    namespace.children._statuses[namespace.born(parent=1)] = -1
    namespace.number(20)
    assert not namespace.used()


def test_what_a_helper_started_while_a_look_read_is_its_own_although_it_has_ended(traced: Namespace) -> None:
    helper = traced.born(parent=1)
    traced.children._statuses[helper] = -1
    traced.look()

    def end() -> None:
        traced.number(7)
        traced.children._statuses.clear()
        traced.children.changes += 1
        traced.end(helper)

    traced.meanwhile(end)
    assert not traced.used()
    assert not traced.used()
    traced.number()
    assert traced.used()


def test_the_trace_may_come_a_look_before_the_command(traced: Namespace) -> None:
    loop = traced.born(parent=1)
    traced.look()
    traced.cgroup.touch()
    assert not traced.used()
    traced.run(loop)
    traced.number()
    assert traced.used()


def test_a_cgroup_that_is_merely_read_is_no_work(traced: Namespace) -> None:
    for _ in range(10):
        traced.cgroup.touch()
        assert not traced.used()


def test_the_numbers_begin_anew_after_the_highest(namespace: Namespace) -> None:
    namespace.number(MANY * 3)
    assert namespace.used()
    namespace.last = 300
    namespace.execute()
    assert namespace.used()
    assert not namespace.used()


@pytest.mark.parametrize("text", [None, "", "0.00 0.00 0.00 0/0 0\n"])
def test_a_kernel_that_does_not_tell_numbers_is_as_it_was(namespace: Namespace, text: str | None) -> None:
    if text is None:
        (namespace.folder / "loadavg").unlink()
    else:
        (namespace.folder / "loadavg").write_text(text)
    assert not namespace.used()
    assert not namespace.used()
