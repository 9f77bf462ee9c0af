"""Runs of another environment's flow in a session: the order brings the folder, the session must have the packages, and stays unchanged."""

import base64
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from .fakeindex import fake_index
from .support import Agent, eventually
from .test_runs import COUNT, EVALUATION, FLOW, SHOUT, data, lines, once, order, outputs, over, told

QUIET = {**FLOW, "shout.py": SHOUT.replace(b"text.upper()", b"text.lower() + open('end.txt').read()"), "count.py": COUNT, "end.txt": b"!"}
"""A flow with FLOW's file names and other content."""


@pytest.fixture
def home() -> Iterator[str]:
    """A path as short as in a pod, since prompt flow creates Unix sockets below it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield f"{folder}/session"


def encoded(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(content).decode() for name, content in files.items()}


def guest(files: Mapping[str, bytes], text: str | None = None, *, path: str | None = None) -> dict[str, Any]:
    """Return the members of an order that bring a flow."""
    asked = None if text is None else {"text": text, "path": path, "shown": path or "spec.requirementsText"}
    return {"guest": {"environment": "other", "requirements": asked}, "files": encoded(files)}


def test_an_evaluation_goes_on_in_the_session_whose_flow_gave_the_answers(start: Callable[..., Agent], home: str, flow_base: str) -> None:
    agent = start(python=flow_base, FLOWSESSION_HOME=home)
    agent.put("p1", "f1", files={**FLOW, "data.jsonl": data("a", "c")})
    order(agent)
    assert over(agent)["state"] == "Completed"
    before = agent.state()
    kept = agent.call("GET", "/v1/runs/outputs?id=r-1")[1]["archive"]
    truth = b"".join(json.dumps({"truth": word}).encode() + b"\n" for word in ("A", "X"))
    mapping = {"answer": "${run.outputs.answer}", "asked": "${run.inputs.word}", "truth": "${data.truth}"}
    asked = "# prompt flow as the image has it\npromptflow==1.10.0\n-r more.txt\n"
    files = {**EVALUATION, "truth.jsonl": truth, "requirements.txt": asked.encode(), "more.txt": b"ruamel_yaml>=0.17\n"}
    sent = {"earlier": {"name": "answers-0", "archive": kept}, "columnMapping": mapping, "data": "truth.jsonl"}
    status, begun = order(agent, "r-2", **sent, **guest(files, asked, path="requirements.txt"))
    assert status == 200, begun
    end = over(agent, "r-2")
    assert end["state"] == "Completed", json.dumps(end)
    assert end["metrics"] == {"accuracy": "0.5"}
    assert [line["grade"] for line in lines(outputs(agent, "r-2")["flow_outputs/output.jsonl"])] == ["a right", "c wrong"]
    after = agent.state()
    assert [after[name] for name in ("environment", "install", "packages")] == [
        before[name] for name in ("environment", "install", "packages")
    ]
    assert after["edits"]["files"] == before["edits"]["files"], "nothing is left in the session's flow folder"
    assert not (agent.home / "flow" / "grade.py").exists()


def test_its_files_are_its_own_whatever_they_are_called(start: Callable[..., Agent], home: str, flow_base: str) -> None:
    agent = start(python=flow_base, FLOWSESSION_HOME=home)
    agent.put("p1", "f1", files={**FLOW, "data.jsonl": data("Session")})
    for run_id, members, answer in (("r-1", guest({**QUIET, "data.jsonl": data("Guest")}), "guest!"), ("r-2", {}, "SESSION")):
        order(agent, run_id, **members)
        assert (end := over(agent, run_id))["state"] == "Completed", end
        assert [line["answer"] for line in lines(outputs(agent, run_id)["flow_outputs/output.jsonl"])] == [answer]
    order(agent, "r-3", **guest(QUIET))
    end = over(agent, "r-3")
    assert (end["code"], "no data.jsonl in the flow folder" in end["message"]) == ("DataNotFound", True), end


def test_it_goes_on_in_the_next_container_with_its_own_flow(start: Callable[..., Agent], home: str, flow_base: str, tmp_path: Path) -> None:
    agent = start(python=flow_base, FLOWSESSION_HOME=home)
    agent.put("p1", "f1", files=FLOW)
    members = guest({**once(tmp_path), "data.jsonl": data("a", "wait")})
    order(agent, concurrency=2, **members)
    eventually("a line is done", lambda: told(agent)["lines"]["completed"] == 1)
    agent.crash()
    (tmp_path / "go").touch()
    next_one = start(python=flow_base, FLOWSESSION_HOME=home)
    assert order(next_one, again=True, **members)[1]["state"] == "Running"
    assert (end := over(next_one))["state"] == "Completed", json.dumps(end)
    assert sorted((tmp_path / "seen").read_text().split()) == ["a", "wait", "wait"]


def test_packages_of_the_sessions_layer_are_compared_and_nothing_is_installed(
    start: Callable[..., Agent], plain_base: str, tmp_path: Path
) -> None:
    agent = start(python=plain_base)
    with fake_index() as index:
        index.add("tiny", "1.5", requires=("lower>=1",))
        index.add("lower", "1.0")
        installed = agent.install("p1", "tiny\n", files=FLOW, flow="f1", indexURL=index.url)
        assert installed["state"] == "Succeeded", installed
        packages = agent.call("GET", "/v1/packages")[1]
        text = 'tiny>=2\nnot-there\nlower\nwindows-only; sys_platform == "win32"\n-c limits.txt\ntiny @ https://files.example/tiny.whl\n'
        order(agent, **guest({**QUIET, "limits.txt": b"lower<1\nother<1\n"}, text, path="wanted/requirements.txt"))
        assert over(agent)["code"] == "SessionIncompatible"
        files = {**QUIET, "requirements.txt": text.encode(), "limits.txt": b"lower<1\nother<1\n", "data.jsonl": data("a")}
        order(agent, "r-2", **guest(files, text, path="requirements.txt"))
        end = over(agent, "r-2")
        assert (end["state"], end["code"], end["lines"]["total"]) == ("Failed", "SessionIncompatible", 0), end
        assert [error["message"] for error in end["errors"]] == [
            "'tiny>=2' (line 1 of requirements.txt): tiny 1.5 is installed",
            "'not-there' (line 2 of requirements.txt): it is not installed",
            "'tiny @ https://files.example/tiny.whl' (line 6 of requirements.txt): tiny 1.5 is installed, not from there",
            "constraint 'lower<1' (line 1 of limits.txt): lower 1.0 is installed",
        ]
        assert end["message"].startswith("4 of 4 requirements are not satisfied by what is installed there: 'tiny>=2' (line 1")
        order(agent, "r-3", **guest({**QUIET, "data.jsonl": data("a")}, "tiny<2\nlower"))
        end = over(agent, "r-3")
        assert (end["code"], "prompt flow is not installed" in end["message"]) == ("FlowInvalid", True), "its packages are there"
        assert agent.call("GET", "/v1/packages")[1] == packages
        assert agent.state()["install"]["packagesRevision"] == "p1"


def test_files_that_only_an_installer_reads_are_said_not_to_be_known(start: Callable[..., Agent], plain_base: str) -> None:
    agent = start(python=plain_base)
    agent.put("p1", "f1", files=FLOW)
    order(agent, **guest(QUIET, "-r https://me:secret@files.example/r.txt\npip\n"))
    end = over(agent)
    assert [error["message"] for error in end["errors"]] == [
        "'--requirement https://****@files.example/r.txt' (line 1 of spec.requirementsText): only an installer reads it"
    ]
    assert end["message"].startswith("1 of 2 requirements is not satisfied")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"files": None}, "guest and files come together"),
        ({"guest": None}, "guest and files come together"),
        ({"files": {"../x": ""}}, "not a path inside the flow folder"),
        ({"files": {"a": "?"}}, "files must be files by name"),
        ({"files": ["a"]}, "files must be files by name"),
        ({"files": {"a": base64.b64encode(bytes(8 * 1024 * 1024 + 1)).decode()}}, "of at most 8,388,608 bytes"),
        ({"guest": {"environment": 1, "requirements": None}}, "an environment's name and its requirements"),
        ({"guest": {"environment": "a", "requirements": {"text": 1, "path": None, "shown": ""}}}, "and its requirements"),
        ({"guest": {"environment": "a", "requirements": {"text": "", "path": "../x", "shown": ""}}}, "and its requirements"),
    ],
)
def test_orders_that_make_no_sense_are_refused(agent: Agent, change: dict[str, Any], says: str) -> None:
    status, refused = order(agent, **{**guest(QUIET), **change})
    assert (status, refused["code"]) == (400, "BadRequest")
    assert says in refused["message"]
