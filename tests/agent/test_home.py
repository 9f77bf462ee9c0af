"""Files in the home are saved like edits if small, and reported as left out if not."""

import os
from pathlib import Path

from .conftest import StartAgent
from .editing import NONE, PUSHED, edits, flow
from .support import Agent
from .test_saved_edits import saved_of


def home(agent: Agent) -> Path:
    return agent.home / "home"


def leave_a_run(agent: Agent) -> None:
    """Write the files that `pf run create` leaves."""
    run = home(agent) / ".promptflow" / ".runs" / "r1"
    run.mkdir(parents=True)
    (run / "outputs.jsonl").write_text('{"a": 1}\n')
    (home(agent) / ".promptflow" / "pf.sqlite").write_bytes(b"SQLite format 3\0")


def test_a_run_is_saved_and_the_next_session_has_it(start: StartAgent, session: Agent, tmp_path: Path) -> None:
    leave_a_run(session)
    (flow(session) / "a.py").write_bytes(b"print(2)")
    found = edits(session)
    assert found["files"] == ["a.py", "~/.promptflow/.runs/r1/outputs.jsonl", "~/.promptflow/pf.sqlite"]
    assert found["waiting"] is True
    other = start(FLOWSESSION_HOME=str(tmp_path / "other"))
    other.put("p1", "f1", files=PUSHED, savedEdits=saved_of(session))
    assert (home(other) / ".promptflow" / ".runs" / "r1" / "outputs.jsonl").read_text() == '{"a": 1}\n'
    assert (flow(other) / "a.py").read_bytes() == b"print(2)"
    assert edits(other)["revision"] == found["revision"]
    assert not (flow(other) / ".flowsession.home").exists()


def test_caches_histories_logs_and_what_the_agent_wrote_are_no_edits(session: Agent) -> None:
    for name in (".cache/pip/x", ".local/lib/y.py", ".promptflow/pfs/x.log", ".bash_history", ".promptflow/a.log", "x.lock", ".venv/bin/z"):
        path = home(session) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    session.call("POST", "/v1/test", {"inputs": {}})  # writes prompt flow's settings
    assert edits(session) == NONE
    (home(session) / ".promptflow" / "pf.yaml").write_text("telemetry:\n  enabled: true\n")
    assert edits(session)["files"] == ["~/.promptflow/pf.yaml"]


def test_secrets_in_the_home_are_left_out(session: Agent) -> None:
    (home(session) / ".ssh").mkdir()
    (home(session) / ".ssh" / "id_ed25519").write_text("x")
    found = edits(session)
    assert (found["count"], found["leftOutFiles"]) == (0, ["~/.ssh/id_ed25519 (a name that secrets have)"])


def test_a_home_that_is_too_large_keeps_no_edits_from_being_saved(session: Agent) -> None:
    (flow(session) / "a.py").write_bytes(b"print(2)")
    (home(session) / "model.bin").write_bytes(bytes(5_000_000))
    found = edits(session)
    assert (found["files"], found["leftOutFiles"]) == (["a.py"], ["~/ (1 files with 5,000,000 bytes, too large to be saved)"])
    assert session.call("GET", "/v1/edits")[0] == 200


def test_a_home_that_does_not_fit_into_an_archive_is_left_out_of_it(session: Agent) -> None:
    (flow(session) / "a.py").write_bytes(b"print(2)")
    (home(session) / "noise.bin").write_bytes(os.urandom(2_000_000))
    status, answer = session.call("GET", "/v1/edits")
    assert (status, answer["files"]) == (200, ["a.py"])
    assert edits(session)["revision"] == answer["revision"]
    assert edits(session)["leftOut"] == 1
    (home(session) / "noise.bin").write_bytes(b"small now")
    assert edits(session)["files"] == ["a.py", "~/noise.bin"] or edits(session)["files"] == ["~/noise.bin", "a.py"]


def test_what_lies_in_the_home_already_is_not_overwritten(start: StartAgent, session: Agent, tmp_path: Path) -> None:
    leave_a_run(session)
    other = start(FLOWSESSION_HOME=str(tmp_path / "other"))
    (home(other) / ".promptflow").mkdir()
    (home(other) / ".promptflow" / "pf.sqlite").write_text("mine")
    other.put("p1", "f1", files=PUSHED, savedEdits=saved_of(session))
    assert (home(other) / ".promptflow" / "pf.sqlite").read_text() == "mine"
    assert (home(other) / ".promptflow" / ".runs" / "r1" / "outputs.jsonl").exists()
