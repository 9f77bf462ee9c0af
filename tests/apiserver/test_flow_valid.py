"""FlowValid against a real API server: set soon after a change, on the session and its environment, with hardly any writes."""

import json
import time

from apiserver.agents import HttpAgent
from apiserver.api import eventually
from apiserver.lab import Lab
from apiserver.test_budget import BESIDES, READY

MISSING = {"code": "ModuleMissing", "message": "No module named 'bs4': add it", "file": "fetch.py", "line": 3, "node": "fetch"}


def checking(lab: Lab, **fields: object) -> None:
    """Have future agents check flows."""
    background = lab.kubelet.make_agent().background
    lab.kubelet.make_agent = lambda: HttpAgent(background=background, **{"verdict": "Valid", **fields})


def until_valid(lab: Lab, reason: str, *, name: str = "ada") -> float:
    """Return the seconds until the session and its environment have this reason."""
    began = time.monotonic()
    lab.until_condition("FlowValid", reason, name)
    lab.until_condition("FlowValid", reason, "env", plural="flowenvironments")
    return time.monotonic() - began


def test_a_start_with_a_flow_folder_costs_at_most_one_write_more_than_one_without(started: Lab) -> None:
    checking(started)
    started.environment_of_flow()
    started.until_environment("Resolved")
    before = started.recorder.mark()
    started.create_session()
    started.until_ready()
    until_valid(started, "Valid")
    started.settle()
    lines = sorted(started.lines(since=before, without=("flowenvironments",)))
    assert lines in (sorted(READY + BESIDES), sorted([*READY, *BESIDES, "PATCH computesessions/status"])), "the verdict may come later"
    assert started.lines(since=before).count("PATCH flowenvironments/status") == 2, "its image's digest, once in its life, and the verdict"


def test_a_change_is_checked_and_told_at_once_and_the_agent_is_left_alone_afterwards(started: Lab) -> None:
    checking(started)
    started.environment_of_flow()
    started.create_session()
    started.until_ready()
    until_valid(started, "Valid")
    started.settle()
    before, agent = started.recorder.mark(), started.agent()
    agent.verdict, agent.problems = "Invalid", [MISSING]
    started.change_config_map(flow__dag__yaml="nodes: []\nname: other\n")
    seconds = until_valid(started, "Invalid")
    print(f"told {seconds - agent.check_seconds:.2f} s after what the check takes")
    assert "fetch.py line 3, node 'fetch': No module named 'bs4'" in started.condition("FlowValid")["message"]
    assert started.condition("FlowValid", "env", plural="flowenvironments")["message"].startswith("session 'ada': fetch.py")
    started.settle()
    lines = started.lines(since=before)
    assert lines.count("PATCH computesessions/status") == 2, lines
    assert lines.count("PATCH flowenvironments/status") == 2, lines
    calls = len(agent.calls)
    time.sleep(2.0)
    assert len(agent.calls) == calls, "no connection to a settled session"


def test_an_agent_that_checks_for_ever_costs_no_write_and_few_calls(started: Lab) -> None:
    checking(started, check_seconds=3600.0)
    started.environment_of_flow()
    started.create_session()
    started.until_ready()
    started.settle(quiet=4.0)
    before, agent = started.recorder.mark(), started.agent()
    calls = len(agent.calls)
    time.sleep(6.0)
    assert started.lines(since=before, without=("flowenvironments",)) == []
    assert len(agent.calls) - calls <= 4
    assert started.condition("FlowValid")["reason"] == "Checking"


def test_nothing_that_an_agent_says_of_the_flow_breaks_a_status(started: Lab) -> None:
    problem = {"code": [], "message": "\x00\ud800" * 400, "file": "f" * 1000, "line": -3, "node": {"a": 1}}
    checking(started, verdict="Invalid", problems=[problem] * 40)
    started.environment_of_flow()
    started.create_session()
    started.until_ready()
    until_valid(started, "Invalid")
    assert len(json.dumps(started.condition("FlowValid"))) < 4000
    eventually(lambda: started.session()["status"].get("packages"), what="all else goes on")


def test_another_verdict_that_an_agent_announces_costs_one_call_and_one_write(started: Lab) -> None:
    checking(started, verdict="Invalid", problems=[MISSING])
    started.environment_of_flow()
    started.create_session()
    started.until_ready()
    until_valid(started, "Invalid")
    started.settle()
    before, agent = started.recorder.mark(), started.agent()
    calls = len(agent.calls)
    agent.verdict, agent.problems = "Valid", []
    agent.send("checked")
    until_valid(started, "Valid")
    started.settle()
    assert agent.lines()[calls:] == ["GET /v1/state"]
    assert started.lines(since=before).count("PATCH computesessions/status") == 1
