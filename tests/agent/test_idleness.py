"""When a session counts as idle, with a clock set by the test."""

from collections.abc import Callable

import pytest

from flowsession_agent.errors import ApiError
from flowsession_agent.server.state import State
from flowsession_agent.session.activity import AWAY_SECONDS, RETIREMENT_SECONDS, Activity
from flowsession_agent.session.processes import ProcessActivity

PERIOD = 0.5


class Session:
    """An Activity whose processes and clock the test controls."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.seen = ProcessActivity()
        self.edited_at, self.thorough = 0.0, False
        self.activity = Activity(state=State(), look=lambda: self.seen, edited=self.edited, clock=lambda: self.now)

    def edited(self, thorough: bool) -> tuple[float, str]:
        self.thorough = thorough
        return self.edited_at, "notes.txt"

    def pass_time(self, seconds: float, *, seen: Callable[[], ProcessActivity] | None = None) -> None:
        """Advance the clock, and sample twice a second as a session does."""
        for _ in range(round(seconds / PERIOD)):
            self.now += PERIOD
            if seen:
                self.seen = seen()
            self.activity.sample()

    def retires(self, *, idle_at_least: float) -> bool:
        try:
            self.activity.retire(idle_at_least=idle_at_least)
        except ApiError:
            return False
        return True

    @property
    def idle_seconds(self) -> float:
        seconds: float = self.activity.members()["idleSeconds"]
        return seconds


@pytest.fixture
def session() -> Session:
    return Session()


def test_idleness_counts_from_the_last_work_of_a_process_not_from_the_look_that_finds_it_asleep(session: Session) -> None:
    session.pass_time(10, seen=lambda: ProcessActivity(now="process x", what="process x", at=session.now))
    worked_until = session.now
    session.pass_time(2, seen=lambda: ProcessActivity(now="process x", what="process x", at=worked_until))
    assert session.activity.members() == {"busy": True, "idleSeconds": 2.0, "what": "process x"}
    assert not session.retires(idle_at_least=1), "it may only have paused"
    session.pass_time(2, seen=lambda: ProcessActivity(what="process x", at=worked_until))
    assert session.activity.members() == {"busy": False, "idleSeconds": 4.0, "what": "process x"}
    assert not session.retires(idle_at_least=5)
    session.pass_time(1)
    assert session.retires(idle_at_least=5)


def test_a_changed_file_of_the_flow_folder_is_work_that_is_over_at_once(session: Session) -> None:
    session.pass_time(60)
    session.edited_at = session.now - 1
    session.pass_time(1)
    assert session.activity.members() == {"busy": False, "idleSeconds": 2.0, "what": "edit notes.txt"}
    assert not session.retires(idle_at_least=3)
    session.pass_time(1)
    assert session.retires(idle_at_least=3)


def test_before_the_door_closes_all_files_are_looked_at(session: Session) -> None:
    session.pass_time(60)
    assert not session.thorough
    assert session.retires(idle_at_least=5)
    assert session.thorough


def test_an_open_terminal_is_never_idle(session: Session) -> None:
    session.pass_time(100, seen=lambda: ProcessActivity(now="exec bash", what="exec bash", at=session.now))
    assert session.activity.members() == {"busy": True, "idleSeconds": 0, "what": "exec bash"}
    assert not session.retires(idle_at_least=0)


def test_a_run_is_never_idle_whatever_its_processes_do(session: Session) -> None:
    with session.activity.work("api test"):
        session.pass_time(100)
        assert session.activity.members() == {"busy": True, "idleSeconds": 0, "what": "api test"}
        assert not session.retires(idle_at_least=5)
    assert session.idle_seconds == 0


def test_what_began_since_the_last_look_is_seen_before_the_door_closes(session: Session) -> None:
    session.pass_time(60)
    session.seen = ProcessActivity(now="exec ls", what="exec ls", at=session.now)
    assert not session.retires(idle_at_least=5)


@pytest.mark.parametrize("away", [AWAY_SECONDS + 1, 60, 3600, 86400])
def test_time_while_nobody_could_look_is_no_idleness(session: Session, away: float) -> None:
    """While an agent is stopped, a container frozen or a machine paused, work may go unobserved or be impossible."""
    session.pass_time(4)
    session.now += away
    assert not session.retires(idle_at_least=5)
    assert session.idle_seconds == 0
    session.pass_time(4.5)
    assert not session.retires(idle_at_least=5)
    session.pass_time(0.5)
    assert session.retires(idle_at_least=5)


def test_a_late_look_is_no_reason_to_start_anew(session: Session) -> None:
    session.pass_time(4)
    session.now += AWAY_SECONDS
    assert session.retires(idle_at_least=5)


def test_an_agent_that_was_stopped_before_its_first_look(session: Session) -> None:
    session.now += 60
    assert not session.retires(idle_at_least=5)
    assert session.idle_seconds == 0


def test_looks_that_fail_leave_no_idle_time_behind() -> None:
    session = Session()
    session.pass_time(4)

    def fail() -> ProcessActivity:
        raise OSError("no /proc")

    working, session.activity._look = session.activity._look, fail
    for _ in range(20):
        session.now += PERIOD
        with pytest.raises(OSError, match="no /proc"):
            session.activity.retire(idle_at_least=5)
    session.activity._look = working
    session.activity.sample()
    assert session.idle_seconds == 0


def test_the_wall_clock_does_not_matter(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting a node's clock an hour forward or back changes nothing: the monotonic clock measures idleness."""
    for jump in (3600.0, -3600.0):
        session.pass_time(2)
        before = session.idle_seconds
        monkeypatch.setattr("time.time", lambda jump=jump: 1_000_000_000.0 + jump)
        session.pass_time(2)
        assert session.idle_seconds == before + 2


def test_a_door_left_shut_opens_by_itself_also_after_a_pause_of_the_node(session: Session) -> None:
    session.pass_time(10)
    assert session.retires(idle_at_least=5)
    session.now += RETIREMENT_SECONDS + 60
    session.activity.sample()
    with session.activity.work("keep-alive"):
        pass
