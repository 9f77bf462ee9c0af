"""`PUT /v1/environment` and `GET /v1/state`: revisions, the flow folder and the long poll, without installs."""

import base64
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import StartAgent
from .support import POD_UID, Agent, eventually


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_state_before_anything(agent: Agent) -> None:
    state = agent.state()
    assert state["podUID"] == POD_UID
    assert state["environment"] == {"packagesRevision": "", "flowRevision": ""}
    assert (state["install"]["state"], state["retired"], state["activity"]["what"]) == ("None", False, "start")
    assert state["agent"]["protocol"] == 1


def test_the_first_call_with_nothing_to_install_answers_that_all_is_there(agent: Agent) -> None:
    status, state = agent.put("p1", "f1", files={"flow.dag.yaml": b"nodes: []"})
    assert status == 200
    assert state["environment"] == {"packagesRevision": "p1", "flowRevision": "f1"}
    assert (state["install"]["state"], state["install"]["tool"], state["install"]["packagesRevision"]) == ("Succeeded", "", "p1")
    assert tree(agent.home / "flow") == {"flow.dag.yaml": b"nodes: []"}
    assert not (agent.home / "venv").exists()


def test_the_packages_are_counted_a_little_later(agent: Agent) -> None:
    assert agent.put("p1")[1]["packages"]["count"] == 0
    count = eventually("counted", lambda: agent.state()["packages"]["count"])
    assert count == len(agent.call("GET", "/v1/packages")[1]["packages"])
    assert agent.state()["activity"]["busy"] is False


@pytest.mark.parametrize("text", ["", "\n# nothing\n  # yet\n", "--index-url https://index.example/simple\n--pre\n"])
def test_requirements_that_ask_for_nothing(agent: Agent, text: str) -> None:
    _, state = agent.put("p1", requirements={"text": text, "path": None})
    assert state["install"]["state"] == "Succeeded"


def test_the_same_order_again_changes_nothing(agent: Agent) -> None:
    agent.put("p1", "f1", files={"a": b"1"})
    first = agent.settled()
    (agent.home / "flow" / "a").write_bytes(b"edited in the session")
    assert agent.put("p1", "f1", files={"a": b"1"})[1]["version"] == first["version"]
    assert tree(agent.home / "flow") == {"a": b"edited in the session"}


def test_a_new_flow_revision_takes_away_what_was_pushed_and_leaves_what_the_session_made(agent: Agent) -> None:
    agent.put("p1", "f1", files={"a.py": b"1", "data/old.csv": b"x", "data/deep/er.bin": bytes(range(256))})
    (agent.home / "flow" / "data" / "mine.txt").write_text("kept")
    agent.put("p1", "f2", files={"a.py": b"2", "ünï/ж.txt": b"\0\xff", "empty": b""})
    assert tree(agent.home / "flow") == {"a.py": b"2", "data/mine.txt": b"kept", "ünï/ж.txt": b"\0\xff", "empty": b""}
    assert not (agent.home / "flow" / "data" / "deep").exists()
    _, state = agent.put("p1", "", files=None)
    assert state["environment"]["flowRevision"] == ""
    assert tree(agent.home / "flow") == {"data/mine.txt": b"kept"}


def test_links_are_replaced_and_what_is_in_the_way_is_moved_aside(agent: Agent, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.csv").write_text("not ours")
    flow = agent.home / "flow"
    flow.mkdir(exist_ok=True)
    (flow / "data").symlink_to(outside)
    (flow / "file").symlink_to(outside / "x.csv")
    (flow / "folder").write_text("the session's")
    (flow / "plain").mkdir()
    status, _ = agent.put("p1", "f1", files={"data/x.csv": b"1", "file": b"2", "folder/y": b"3", "plain": b"4"})
    assert status == 200
    assert (outside / "x.csv").read_text() == "not ours"
    assert {"data/x.csv": b"1", "file": b"2", "folder/y": b"3", "plain": b"4", "folder.kept": b"the session's"}.items() <= tree(
        flow
    ).items()


@pytest.mark.parametrize(
    "name",
    ["../up", "/absolute", "a/../b", "a//b", "./a", "a/.", "", "a/", "nul\0", "x" * 256, "/".join(["d" * 200] * 6), "\udcff"],
    ids=lambda name: ascii(name[:12]),
)
def test_names_that_could_leave_the_folder_or_that_no_file_system_takes(agent: Agent, name: str) -> None:
    status, answer = agent.put("p1", "f1", files={name: b"x", "good": b"x"})
    assert (status, answer["code"]) == (400, "BadRequest")
    assert not (agent.home / "flow" / "good").exists()


def test_a_file_can_not_be_a_folder_too(agent: Agent) -> None:
    assert agent.put("p1", "f1", files={"a": b"", "a/b": b""})[0] == 400


def test_too_many_files(agent: Agent) -> None:
    status, answer = agent.put("p1", "f1", files={f"f{number}": b"" for number in range(10_001)})
    assert (status, "10000" in answer["message"]) == (400, True)


@pytest.mark.parametrize(
    "change",
    [
        {"packagesRevision": ""},
        {"packagesRevision": 5},
        {"flowRevision": []},
        {"files": {"a": "not base64!"}},
        {"files": {"a": 5}},
        {"files": ["a"]},
        {"requirements": "pandas"},
        {"requirements": {"text": "x", "path": "../x"}},
        {"installer": {"tool": "Conda"}},
        {"installer": {"timeoutSeconds": 0}},
        {"installer": {"timeoutSeconds": True}},
        {"installer": {"environment": {"LD_PRELOAD": "x.so"}}},
        {"installer": {"environment": {"HTTPS_PROXY": 5}}},
        {"installer": {"indexURL": "https://a b"}},
        {"retry": "yes"},
    ],
    ids=json.dumps,
)
def test_members_that_can_not_be_meant(agent: Agent, change: dict[str, Any]) -> None:
    body = {"packagesRevision": "p1", "flowRevision": "f1", "files": {"a": base64.b64encode(b"x").decode()}, "requirements": None, **change}
    status, answer = agent.call("PUT", "/v1/environment", body)
    assert (status, answer["code"]) == (400, "BadRequest")
    assert agent.state()["environment"] == {"packagesRevision": "", "flowRevision": ""}


def test_the_long_poll_answers_at_the_next_change(agent: Agent) -> None:
    version = agent.settled()["version"]
    answers: list[dict[str, Any]] = []
    waiting = threading.Thread(target=lambda: answers.append(agent.call("GET", f"/v1/state?since={version}&wait=30")[1]))
    waiting.start()
    agent.call("POST", "/v1/keepalive")  # activity doesn't count as a change
    assert waiting.is_alive()
    agent.put("p1")
    waiting.join(20)
    assert answers[0]["environment"]["packagesRevision"] == "p1"
    assert answers[0]["version"] > version


def test_the_long_poll_answers_when_its_time_is_over(agent: Agent) -> None:
    started = time.monotonic()
    assert agent.call("GET", f"/v1/state?since={agent.state()['version']}&wait=0.5")[0] == 200
    assert time.monotonic() - started >= 0.5
    for query in ("since=x&wait=1", "since=1&wait=-1", "since=1&wait=nan", "since=1", "wait=5"):
        assert agent.call("GET", f"/v1/state?{query}")[0] == 400


def test_a_restarted_container_finds_what_its_volume_holds(start: StartAgent, python: str) -> None:
    first = start(python=python)
    first.put("p1", "f1", files={"a": b"1", "b": b"2"})
    (first.home / "flow" / "a").write_bytes(b"edited")
    boot = first.state()["bootID"]
    first.close()
    second = start(python=python)
    state = second.state()
    assert state["environment"] == {"packagesRevision": "p1", "flowRevision": "f1"}
    assert state["bootID"] != boot
    second.put("p1", "f1", files={"a": b"1", "b": b"2"})
    assert (second.home / "flow" / "a").read_bytes() == b"edited"
    second.put("p1", "f2", files={"a": b"3"})
    assert tree(second.home / "flow") == {"a": b"3", "a.kept": b"edited"}


@pytest.mark.parametrize("junk", [b"", b"[]", b'{"pushed": 5}', b"\xff\xfe", b"[" * 100_000], ids=repr)
def test_a_record_that_is_not_ours_counts_as_nothing(start: StartAgent, tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "session").mkdir()
    (tmp_path / "session" / "environment.json").write_bytes(junk)
    agent = start()
    assert agent.state()["environment"] == {"packagesRevision": "", "flowRevision": ""}
    assert agent.put("p1")[1]["environment"]["packagesRevision"] == "p1"


def test_a_session_that_is_being_ended_takes_no_other_environment(agent: Agent) -> None:
    agent.put("p1", "f1", files={"a": b"1"})
    eventually("retired", lambda: agent.call("POST", "/v1/retire", {"idleAtLeast": 0})[0] == 200)
    assert agent.put("p1", "f1", files={"a": b"1"})[0] == 200
    for packages, flow in (("p2", "f1"), ("p1", "f2")):
        status, answer = agent.put(packages, flow, files={"a": b"1"})
        assert (status, answer["code"]) == (409, "Retired")
    assert agent.call("DELETE", "/v1/retire")[1]["retired"] is False
    assert agent.put("p2", "f1", files={"a": b"1"})[0] == 200
