"""The operator and its agents: the real one, tokens, and agents that are broken, hostile or missing."""

import base64
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apiserver.agents import HttpAgent, NoAgent, RealAgent
from apiserver.api import eventually, stays
from apiserver.background import Background
from apiserver.lab import Lab
from apiserver.operator_process import NAMESPACE
from fake_agent import Reply

SOON = {"flowsession.reconcile.session.install:UNREACHABLE_AFTER": 2.0}
"""A shorter limit than the usual 20 s."""


@pytest.fixture
def real(started: Lab, background: Background, tmp_path: Path) -> Callable[[], RealAgent]:
    """Run the real agent in all future pods. The result returns the latest one."""
    made: list[RealAgent] = []

    def make() -> RealAgent:
        made.append(RealAgent(background, tmp_path / str(len(made))))
        return made[-1]

    started.kubelet.make_agent = make
    return lambda: made[-1]


def _in_two_seconds(count: Callable[[], int]) -> int:
    stays(lambda: True, seconds=2)
    return count()


def _ready(lab: Lab, name: str = "ada") -> dict[str, Any]:
    """Return the condition once the session is Ready, even if its packages are not listed yet."""
    return lab.until_condition("Ready", "Running", name)


def test_the_real_agent_gets_the_flow_folder(started: Lab, real: Callable[[], RealAgent]) -> None:
    started.create_config_map(flow__dag__yaml="nodes: []\n", data__csv="a,b\n")
    items = [{"key": "flow.dag.yaml", "path": "flow.dag.yaml"}, {"key": "data.csv", "path": "data/x.csv"}]
    started.create_environment(source={"configMap": {"name": "flow", "items": items}})
    started.create_session()
    _ready(started)
    assert (real().home / "flow" / "data" / "x.csv").read_text() == "a,b\n"
    before = started.session()["status"]["flowRevision"]
    started.change_config_map(data__csv="c,d\n")
    eventually(lambda: started.session()["status"]["flowRevision"] != before)
    assert (real().home / "flow" / "data" / "x.csv").read_text() == "c,d\n"
    started.until_condition("InSync", "InSync")


def packed(**files: bytes) -> dict[str, str]:
    """Return the binaryData of a ConfigMap with the files in a .tar.gz. Names are given with `__` for the slash and `___` for the dot."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("___", ".").replace("__", "/"))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return {"flow.tar.gz": base64.b64encode(buffer.getvalue()).decode()}


def test_the_real_agent_gets_a_packed_folder_with_its_includes_and_each_change_of_them(started: Lab, real: Callable[[], RealAgent]) -> None:
    """The folder is nearly at the size limit: 8 MiB, 11 MiB as base64."""
    dag = b"additional_includes: [../../shared]\nnodes: []\n"
    large = b"0" * (8 * 1024 * 1024 - 200)
    started.create_config_map(binary=packed(flows__chat__flow___dag___yaml=dag, shared__util___py=b"1", flows__chat__large___csv=large))
    started.create_environment(source={"archive": {"configMap": {"name": "flow", "key": "flow.tar.gz"}}}, flowPath="flows/chat")
    started.create_session()
    _ready(started)
    assert (real().home / "flow" / "shared" / "util.py").read_text() == "1"
    assert (real().home / "flow" / "large.csv").stat().st_size == len(large)
    before = started.session()["status"]["flowRevision"]
    changed = packed(flows__chat__flow___dag___yaml=dag, shared__util___py=b"2")
    started.api.patch(started.path("configmaps", "flow"), {"binaryData": changed})
    eventually(lambda: started.session()["status"]["flowRevision"] != before)
    assert (real().home / "flow" / "shared" / "util.py").read_text() == "2"
    assert not (real().home / "flow" / "large.csv").exists()
    started.api.patch(started.path("configmaps", "flow"), {"binaryData": packed(flows__chat__flow___dag___yaml=dag)})
    started.until_environment("FlowInvalid", says="entry '../../shared' is not in the source")


def test_the_real_agent_agrees_to_the_end_of_an_idle_session(started: Lab, real: Callable[[], RealAgent]) -> None:
    started.create_environment()
    started.create_session(idle={"timeoutSeconds": 5})
    _ready(started)
    eventually(started.gone, what="the idle session ends")
    assert real().home.exists()


def test_the_real_agent_knows_no_other_pods_token(started: Lab, background: Background, tmp_path: Path) -> None:
    """An agent that was started for another pod refuses everything: addresses are reused, tokens are not."""

    class Another(RealAgent):
        def start(self, pod: dict[str, Any], ip: str) -> None:
            super().start(pod | {"metadata": pod["metadata"] | {"uid": "another"}}, ip)

    started.operator.restart(constants=SOON)
    started.kubelet.make_agent = lambda: Another(background, tmp_path)
    started.create_environment()
    started.create_session()
    started.until_condition("Ready", "AgentUnreachable", says="401")


def test_every_call_carries_a_token_for_this_very_pod(started: Lab) -> None:
    started.create_environment()
    for name in ("ada", "bob"):
        started.create_session(name)
    for name in ("ada", "bob"):
        started.until_ready(name)
        agent = started.agent(name)
        assert agent.refused == []
        assert agent.lines() in (["PUT /v1/environment"], ["PUT /v1/environment", "GET /v1/packages"])


@pytest.mark.parametrize("ahead", [3600, -3600], ids=["an hour ahead", "an hour behind"])
def test_a_node_with_another_clock_gets_tokens_that_fit(started: Lab, agents: Callable[..., None], ahead: float) -> None:
    agents(ahead=ahead)
    started.create_environment()
    started.create_session()
    started.until_ready()
    assert started.agent().refused == ["TokenExpired"]


def test_a_restarted_container_is_told_again(started: Lab, background: Background) -> None:
    started.environment_of_flow()
    started.create_session()
    started.until_ready()
    pod, fresh = started.the_pod(), HttpAgent(background=background)
    started.kubelet.restart_container(pod, fresh)
    eventually(lambda: "PUT /v1/environment" in fresh.lines(), what="the new agent is told its environment")
    started.settle()
    assert started.condition("Ready")["status"] == "True"
    assert started.session()["status"]["incarnation"] == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b'{"podUID": "another pod"}',
        b"[" * 100_000,
        b'{"podUID":' + b'{"a":' * 50_000,
        b"1" * 10_000,
        b'{"x": "' + b"a" * 9_000_000 + b'"}',
    ],
    ids=lambda body: repr(body[:16]) + f" ({len(body)})",
)
def test_an_agent_that_answers_garbage(lab: Lab, agents: Callable[..., None], garbage: bytes) -> None:
    lab.operator.start(constants=SOON)
    agents(instead=garbage)
    lab.create_environment()
    lab.create_session("mad")
    lab.until_condition("Ready", "AgentUnreachable", "mad", says="does not answer")
    agents()
    lab.create_session("sane")
    lab.until_ready("sane")
    lab.agent("mad").instead = None
    lab.until_ready("mad")
    assert lab.operator.lines("error") == []


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"environment": {"packagesRevision": 5}, "install": "x", "activity": []},
        {"environment": None, "install": {"state": "Exploded"}},
        {"version": "1e999", "activity": {"idleSeconds": -1, "busy": "yes"}},
    ],
    ids=str,
)
def test_an_agent_that_says_nothing_of_use_is_said_to(started: Lab, agents: Callable[..., None], parts: dict[str, Any]) -> None:
    agents()
    started.kubelet.hold = True
    started.create_environment()
    started.create_session()
    eventually(started.pods)
    uid = started.the_pod()["metadata"]["uid"]
    agents(instead={"podUID": uid, **parts})
    started.kubelet.release()
    eventually(lambda: started.agent().calls)
    ready = eventually(lambda: started.condition("Ready") if started.condition("Ready")["reason"] else None)
    assert ready["status"] == "False", ready
    assert ready["message"], f"a condition without a word helps nobody: {ready}"
    # The agent recovers in the same pod.
    started.agent().instead = None
    started.until_ready()


class Boaster(HttpAgent):
    """An agent whose every text has this length."""

    waits_for_news = False
    length = 25_000

    def state(self) -> dict[str, Any]:
        found, big = super().state(), "x" * self.length
        found["install"] |= {"tool": big, "stdoutTail": big, "stderrTail": big + "\x1b[31m\x00", "warnings": [big] * 3, "message": big}
        found["activity"]["what"] = big
        return found | {"bootID": big, "version": 10**300}


def test_answers_of_a_size_that_does_harm_are_not_read(started: Lab, background: Background) -> None:
    """Ten thousand sessions share the operator's memory."""

    class Shouter(Boaster):
        length = 500_000

    started.kubelet.make_agent = lambda: Shouter(background=background)
    started.create_environment(requirementsText="pandas")
    started.create_session()
    said = "its answer has more than 262,144 bytes"
    eventually(lambda: any(said in line.get("error", "") for line in started.operator.lines("debug")), what="it is said why")
    assert started.condition("Ready")["status"] != "True"
    assert started.operator.lines("error") == []


def test_huge_answers_are_cut(started: Lab, background: Background) -> None:
    started.kubelet.make_agent = lambda: Boaster(background=background)
    started.create_environment(requirementsText="pandas")
    started.create_session()
    started.until_ready()
    assert len(json.dumps(started.session()["status"])) < 40_000
    assert "\x1b" not in started.session()["status"]["install"]["stderrTail"]
    assert started.operator.lines("error") == []


@pytest.mark.parametrize("value", [10**400, float("inf"), float("nan"), -(10**400), "5", True, None, [], 1e308], ids=lambda v: str(v)[:8])
def test_numbers_that_are_none_do_no_harm(started: Lab, background: Background, value: Any) -> None:
    class Counter(HttpAgent):
        def state(self) -> dict[str, Any]:
            found = super().state()
            found["activity"]["idleSeconds"] = value
            found["install"]["seconds"] = value
            found["install"]["exitCode"] = value
            found["packages"]["count"] = value
            return found

    started.kubelet.make_agent = lambda: Counter(background=background)
    started.create_environment(requirementsText="pandas")
    started.create_session()
    started.until_ready()
    assert started.operator.lines("error") == []


def test_an_install_that_never_ends_is_not_followed_in_a_storm(started: Lab, background: Background) -> None:
    class Liar(HttpAgent):
        waits_for_news = False

        def state(self) -> dict[str, Any]:
            found = super().state()
            found["install"]["state"] = "Running"
            found["environment"]["packagesRevision"] = ""
            found["activity"]["what"] = f"install {len(self.calls)}"
            return found

    started.kubelet.make_agent = lambda: Liar(background=background)
    started.create_environment(requirementsText="pandas")
    started.create_session()
    started.until_condition("PackagesInstalled", "Installing")
    before, mark = len(started.agent().calls), started.recorder.mark()
    calls = _in_two_seconds(lambda: len(started.agent().calls)) - before
    assert calls <= 40, f"{calls} calls in 2 s"
    assert len(started.lines(since=mark)) <= 3


def test_packages_that_are_not_listed_keep_nobody_from_working(started: Lab, agents: Callable[..., None]) -> None:
    agents(instead=lambda call: b"[]" if call.path == "/v1/packages" else None)
    started.create_environment()
    started.create_session()
    _ready(started)
    before = len(started.agent().calls)
    stays(lambda: len(started.agent().calls) - before <= 10, seconds=2)
    assert started.condition("Ready")["status"] == "True"


@pytest.mark.parametrize(
    "packages",
    [
        {},
        {"packages": None},
        {"packages": [1, None, {}, {"name": "a\nb\x1b[31m", "version": 5}]},
        {"packages": [{"name": "n" * 9999}] * 30_000},
    ],
    ids=["nothing", "null", "odd", "far too many"],
)
def test_odd_lists_of_packages(started: Lab, background: Background, packages: dict[str, Any]) -> None:
    class Odd(HttpAgent):
        def reply(self, method: str, path: str, body: Any = None, *, run: str = "") -> Reply:
            return (200, packages) if path == "/v1/packages" else super().reply(method, path, body, run=run)

    started.kubelet.make_agent = lambda: Odd(background=background)
    started.create_environment()
    started.create_session()
    _ready(started)
    started.settle()
    for found in started.package_lists():
        assert len(found["data"]["packages.txt"]) + len(found["data"]["packages.json"]) < 1_000_000
        assert "\x1b" not in found["data"]["packages.txt"]
        assert json.loads(found["data"]["packages.json"]) is not None
    assert started.operator.lines("error") == []


def test_an_agent_that_does_not_listen_is_told_and_heals(lab: Lab, background: Background) -> None:
    lab.operator.start(constants=SOON)
    lab.kubelet.make_agent = NoAgent
    lab.create_environment()
    lab.create_session()
    lab.until_condition("Ready", "AgentUnreachable", says="port 8765")
    assert lab.session()["status"]["phase"] == "Failed"
    lab.until_event("AgentUnreachable")
    before = lab.recorder.mark()
    stays(lambda: lab.lines(since=before) == [], seconds=2)
    pod, agent = lab.the_pod(), HttpAgent(background=background)
    agent.start(pod, pod["status"]["podIP"])
    lab.kubelet.agents[pod["metadata"]["uid"]] = agent
    lab.until_ready()


def test_an_agent_that_refuses_its_environment(started: Lab, agents: Callable[..., None]) -> None:
    from aiohttp import web

    refusal = {"code": "BadRequest", "message": "files: 'a/../b' leads out of the folder"}
    agents(instead=lambda call: web.json_response(refusal, status=400) if call.method == "PUT" else None)
    started.create_environment()
    started.create_session()
    started.until_condition("Ready", "AgentRefused", says="leads out of the folder")
    calls = len(started.agent().calls)
    stays(lambda: len(started.agent().calls) == calls, seconds=2)


@pytest.mark.parametrize("state", ["Failed", "TimedOut"])
def test_a_failed_install_is_told_in_the_agents_words(started: Lab, background: Background, state: str) -> None:
    class Failing(HttpAgent):
        def state(self) -> dict[str, Any]:
            found = super().state()
            found["environment"]["packagesRevision"] = ""
            found["install"] |= {
                "state": state,
                "tool": "uv",
                "exitCode": 1,
                "message": "no version of nosuch",
                "stderrTail": "ERROR: nosuch",
            }
            return found

    started.kubelet.make_agent = lambda: Failing(background=background)
    started.create_environment(requirementsText="nosuch")
    started.create_session()
    reason = {"Failed": "InstallFailed", "TimedOut": "InstallTimeout"}[state]
    started.until_condition("PackagesInstalled", reason, says="no version of nosuch")
    assert started.condition("Ready")["status"] == "False"
    assert started.session()["status"]["install"]["stderrTail"] == "ERROR: nosuch"
    started.until_event(reason)
    assert started.pods(), "its pod stays, to be looked into"


def test_unscheduled_and_unpullable_are_told_and_heal(started: Lab) -> None:
    started.kubelet.hold = True
    started.create_environment()
    started.create_session()
    eventually(started.pods)
    pending = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient memory.",
    }
    started.kubelet.set_status(started.the_pod(), {"conditions": [pending]})
    started.until_condition("Ready", "Unschedulable", says="Insufficient memory")
    assert started.condition("ComputeAllocated")["reason"] == "Unschedulable"
    started.kubelet.release()
    started.until_ready()


KEYS = f"/api/v1/namespaces/{NAMESPACE}/secrets/flowsession-agent-keys"


def test_a_key_whose_secret_was_deleted_is_there_again_when_the_operator_has_stopped(started: Lab) -> None:
    before = started.api.get(KEYS)["data"]
    started.api.delete(KEYS)
    started.operator.stop()
    assert started.api.get(KEYS)["data"] == before


def test_a_lost_key_is_told_at_once_and_what_happens_next(lab: Lab) -> None:
    lab.operator.start()
    lab.create_environment()
    lab.create_session()
    lab.until_ready()
    lab.operator.kill()
    lab.api.delete(KEYS)
    lab.operator.start(constants={"flowsession.reconcile.session.edits:SILENT_SECONDS": 2.0})
    lab.until_condition("Ready", "KeyLost", says="or at once by the annotation flowsession.dev/reset-requested-at")
    lab.until_event("KeyLost")
    lab.api.patch(
        lab.path("computesessions", "ada"), {"metadata": {"annotations": {"flowsession.dev/reset-requested-at": "2026-11-28T14:00:00Z"}}}
    )
    lab.until_ready(seconds=30)
    assert lab.session()["status"]["incarnation"] == 2
