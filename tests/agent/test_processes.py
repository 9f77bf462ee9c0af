"""What /proc says of work, read from a made-up /proc."""

from pathlib import Path

from flowsession_agent.processes import Processes, parse_stat


class Machine:
    """A /proc with a clock, for an agent that is PID 1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 0.0
        self.processes = Processes(own=lambda: [77], proc=str(folder), agent=1, clock=lambda: self.now, ticks_per_second=100)
        self.set(1, parent=0, command="agent")

    def set(
        self, pid: int, *, parent: int = 1, ticks: int = 0, state: str = "S", command: str = "python x.py", name: str = "python"
    ) -> None:
        folder = self.folder / str(pid)
        folder.mkdir(exist_ok=True)
        (folder / "cmdline").write_bytes(command.replace(" ", "\0").encode() + b"\0" if command else b"")
        fields = [state, parent, 0, 0, 0, 0, 0, 0, 0, 0, 0, ticks, 0, 0, 0, 20, 0, 1, 0, 500 + pid, 0, 0]
        (folder / "stat").write_text(f"{pid} ({name}) " + " ".join(map(str, fields)))

    def look(self, *, after: float = 1) -> str:
        self.now += after
        return self.processes.look()


def test_who_has_no_parent_came_from_outside(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert machine.look() == ""
    machine.set(30, parent=0, command="sh -c " + "x" * 300)
    assert machine.look() == ("exec sh -c " + "x" * 300)[:105]
    machine.set(30, parent=0, state="Z")
    assert machine.look() == ""


def test_more_than_a_hundredth_of_a_core_over_five_seconds_is_work(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.set(30, ticks=10_000)
    machine.look()
    for second in range(1, 20):
        machine.set(30, ticks=10_000 + second)
        assert machine.look() == ""  # exactly 1 %
    machine.set(30, ticks=10_030)
    assert machine.look() == "process python x.py"
    assert machine.look(after=4) == "process python x.py"
    assert machine.look(after=2) == ""


def test_a_process_that_was_not_there_before_started_from_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.look()
    machine.set(30, ticks=6)
    assert machine.look() == "process python x.py"


def test_the_agents_own_helpers_do_not_count(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.look()
    machine.set(77, ticks=500)
    machine.set(78, parent=77, ticks=500)
    machine.set(76, parent=78, ticks=500)
    assert machine.look() == ""


def test_names_with_parentheses_and_commands_with_escapes(tmp_path: Path) -> None:
    assert parse_stat(b"5 (a) b) (c) S 1 0 0 0 0 0 0 0 0 0 1 2 3 4 20 0 1 0 99 0").name == "a) b) (c"
    machine = Machine(tmp_path)
    machine.set(30, parent=0, command="evil\x1b[31m\nname")
    assert machine.look() == "exec evil [31m name"
    machine.set(30, parent=0, command="", name="kworker")
    assert machine.look() == "exec [kworker]"
