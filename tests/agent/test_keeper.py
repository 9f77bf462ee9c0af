"""The agent announces waiting edits, and exits once they are taken, or after a bounded time."""

import os
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from flowsession_agent.edits.keeper import LONGEST_UNQUIET_SECONDS, QUIET_SECONDS, Keeper
from flowsession_agent.server.datagrams import FIRST_PAUSE, LONGEST_PAUSE
from flowsession_protocol import EXIT_EDITS_UNSAVED

from .conftest import StartAgent
from .editing import PUSHED, edits, flow
from .support import POD_UID, Agent, eventually


class Bed:
    """A keeper whose clock the test controls."""

    def __init__(self) -> None:
        self.now = 100.0
        self.revision = ""
        self.said: list[tuple[float, bool]] = []
        self.keeper = Keeper(unsaved=lambda: self.revision, say=self._say, grace_seconds=30, clock=lambda: self.now)

    def _say(self, ending: bool) -> None:
        self.said.append((self.now, ending))

    def live(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.keeper.look()
            self.now += 0.5


def test_nothing_is_said_while_nothing_waits() -> None:
    bed = Bed()
    bed.live(1000)
    assert bed.said == []


def test_edits_are_said_to_wait_when_nothing_has_changed_for_a_few_seconds() -> None:
    bed = Bed()
    bed.live(10)
    bed.revision = "a"
    bed.live(10)
    assert bed.said == [(110 + QUIET_SECONDS, False), (110 + QUIET_SECONDS + FIRST_PAUSE, False)][: len(bed.said)]
    assert bed.said


def test_a_folder_that_never_rests_is_saved_all_the_same() -> None:
    bed = Bed()
    for number in range(60):
        bed.revision = f"r{number}"
        bed.live(1)
    assert bed.said[0][0] <= 100 + LONGEST_UNQUIET_SECONDS + 1


def test_what_nobody_heeds_is_said_after_ever_longer_pauses_and_shown() -> None:
    bed = Bed()
    bed.revision = "a"
    bed.live(3600)
    pauses = [later - earlier for (earlier, _), (later, _) in zip(bed.said, bed.said[1:], strict=False)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE
    assert bed.keeper.unheard
    bed.revision = ""
    bed.live(2)
    assert not bed.keeper.unheard


def test_the_end_is_put_off_for_a_part_of_the_grace_period_at_most() -> None:
    bed = Bed()
    bed.revision = "a"

    def sleep(seconds: float) -> None:
        bed.now += seconds

    assert not bed.keeper.hand_over(since=bed.now, meanwhile=lambda: None, sleep=sleep)
    assert 19 < bed.now - 100 < 21
    assert {ending for _, ending in bed.said} == {True}
    bed.revision = ""
    assert bed.keeper.hand_over(since=bed.now, meanwhile=lambda: None, sleep=sleep)


# -- with a real agent


@pytest.fixture
def ear() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.settimeout(20)
        yield bound


def pushed(agent: Agent, ear: socket.socket) -> Agent:
    assert agent.put("p1", "f1", files=PUSHED, editsAddress=f"127.0.0.1:{ear.getsockname()[1]}")[0] == 200
    return agent


def printed_lines(ear: socket.socket) -> str:
    """Return the next datagram about edits."""
    while (said := ear.recv(2048).decode()).endswith(" checked\n"):
        pass
    return said


WAITING, ENDING = f"flowsession-edits 1 {POD_UID} waiting\n", f"flowsession-edits 1 {POD_UID} ending\n"


def test_an_edit_is_said_to_wait_until_it_is_settled(start: StartAgent, python: str, ear: socket.socket) -> None:
    agent = pushed(start(pid1=True, python=python), ear)
    (flow(agent) / "a.py").write_bytes(b"print(2)")
    assert printed_lines(ear) == WAITING
    assert edits(agent)["waiting"] is True
    revision = agent.call("GET", "/v1/edits")[1]["revision"]
    status, state = agent.call("POST", "/v1/edits/settle", {"revision": revision, "saved": True})
    assert (status, state["edits"].get("waiting"), state["edits"]["saved"]) == (200, None, True)
    (flow(agent) / "a.py").write_bytes(b"print(3)")
    assert edits(agent)["waiting"] is True
    assert printed_lines(ear) == WAITING


def test_edits_that_are_let_go_are_announced_too(start: StartAgent, python: str, ear: socket.socket) -> None:
    agent = pushed(start(pid1=True, python=python), ear)
    (flow(agent) / "a.py").write_bytes(b"print(2)")
    agent.call("POST", "/v1/edits/settle", {"revision": edits(agent)["revision"], "saved": True})
    agent.call("POST", "/v1/edits/discard")
    assert printed_lines(ear) == WAITING
    assert edits(agent).get("waiting") is None


def test_an_agent_with_edits_ends_when_they_are_taken(start: StartAgent, python: str, ear: socket.socket) -> None:
    agent = pushed(start(pid1=True, python=python), ear)
    (flow(agent) / "a.py").write_bytes(b"print(2)")
    os.kill(agent.pid, signal.SIGTERM)
    while printed_lines(ear) != ENDING:
        continue
    taken = agent.call("GET", "/v1/edits")[1]
    assert taken["files"] == ["a.py"]
    assert agent.process.poll() is None
    (flow(agent) / "late.py").write_bytes(b"late")
    agent.call("POST", "/v1/edits/settle", {"revision": taken["revision"], "saved": True})
    assert agent.process.poll() is None, "what was written meanwhile is unsaved"
    agent.call("POST", "/v1/edits/settle", {"revision": agent.call("GET", "/v1/edits")[1]["revision"], "saved": True})
    assert agent.process.wait(60) == 128 + signal.SIGTERM


def test_what_can_not_be_saved_keeps_no_pod(start: StartAgent, ear: socket.socket) -> None:
    agent = pushed(start(pid1=True), ear)
    (flow(agent) / "a.py").write_bytes(b"print(2)")
    agent.call("POST", "/v1/edits/settle", {"revision": edits(agent)["revision"], "saved": False})
    assert "saved" not in edits(agent)
    os.kill(agent.pid, signal.SIGTERM)
    assert agent.process.wait(60) == 128 + signal.SIGTERM


def test_an_agent_whose_operator_is_dead_ends_within_its_part_of_the_grace_period(start: StartAgent) -> None:
    agent = start(pid1=True, FLOWSESSION_GRACE_SECONDS="3")
    agent.put("p1", "f1", files=PUSHED, editsAddress="127.0.0.1:9")
    (flow(agent) / "a.py").write_bytes(b"print(2)")
    os.kill(agent.pid, signal.SIGTERM)
    time.sleep(0)
    assert agent.process.poll() is None
    assert agent.process.wait(60) == EXIT_EDITS_UNSAVED
    assert "the last edits were not taken" in agent.log.read_text()


def test_a_restarted_container_says_again_what_waits(start: StartAgent, ear: socket.socket) -> None:
    agent = pushed(start(pid1=True), ear)
    (flow(agent) / "a.py").write_bytes(b"print(2)")
    revision = edits(agent)["revision"]
    agent.close()
    again = start(pid1=True)
    assert edits(again)["revision"] == revision
    assert edits(again)["waiting"] is True
    pushed(again, ear)
    assert printed_lines(ear) == WAITING


@pytest.mark.parametrize("body", [{}, [], {"revision": 1, "saved": True}, {"revision": "x", "saved": "yes"}])
def test_a_settlement_has_a_revision_and_a_word(session: Agent, body: object) -> None:
    assert session.call("POST", "/v1/edits/settle", body)[1]["code"] == "BadRequest"


@pytest.mark.parametrize("address", ["", "nowhere", "nowhere.invalid:1", "127.0.0.1:99999", ":", "::1", "[::1]:9"])
def test_an_address_that_leads_nowhere_breaks_nothing(start: StartAgent, address: str) -> None:
    agent = start(pid1=True)
    assert agent.put("p1", "f1", files=PUSHED, editsAddress=address)[0] == 200
    (flow(agent) / "a.py").write_bytes(b"print(2)")
    eventually("it waits", lambda: edits(agent).get("waiting"))
