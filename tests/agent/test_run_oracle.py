"""For the same flow, data and run.yml, a `FlowRun` and `pf run create` give the same outputs, metrics and failed lines."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import modelserver
from flowsession.engine.store import objects
from flowsession.manifests import run_outputs

from .conftest import StartAgent
from .run_cases import CASES, Case
from .support import Agent
from .test_connections import KEY, Secrets, in_terminal, open_ai, runtime_base
from .test_runs import lines, outputs, over

__all__ = ["runtime_base"]

QUICK = (
    "failed lines",
    "variant",
    "file of environment variables",
    "constants",
    "class with a file of arguments",
    "another connection",
    "evaluation",
)
"""The cases that every test run includes. `make test-run-cases` runs all cases, which takes a quarter of an hour."""
ALL = "EVERY_RUN_CASE" in os.environ
SHARES = 3 if ALL else 1
"""The number of tests that the cases are split into, so that they can run concurrently."""
PF_RUN_CREATE = """
import json, os, sys
from promptflow._sdk._load_functions import load_run
from promptflow.client import PFClient
if __name__ == "__main__":  # the processes that run lines import this file too
    client = PFClient()
    for folder, name in json.load(sys.stdin):
        os.chdir(folder)
        done = {"error": ""}
        try:
            run = client.runs.create_or_update(load_run(source="run.yml", params_override=[{"name": name}]))
            done["folder"] = str(run._output_path)
        except Exception as error:
            done["error"] = str(error)
        with open("done.json", "w") as file:
            json.dump(done, file)
"""
"""Does what `pf run create --file run.yml --name NAME` does, for many folders and names."""


@pytest.fixture
def home() -> Iterator[str]:
    """A folder with a short path, since sockets are created below it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield f"{folder}/session"


def shared(share: int) -> dict[str, Case]:
    """Return a share of the cases, and the cases that they build on."""
    names = [name for name in CASES if ALL or name in QUICK]
    mine = {name: CASES[name] for name in names[share::SHARES]}
    return {**{case.earlier: CASES[case.earlier] for case in mine.values() if case.earlier}, **mine}


def run_by_prompt_flow(agent: Agent, python: str, root: Path, cases: dict[str, Case]) -> dict[str, dict[str, Any]]:
    """Return the result of each case when run by prompt flow in a terminal of the session."""
    asked = []
    for name, case in cases.items():
        folder = root / word(name)
        for file, text in {**case.files, "run.yml": case.run.replace("EARLIER", f"oracle-{word(case.earlier)}")}.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
        asked.append([str(folder), f"oracle-{word(name)}"])
    script = root / "oracle.py"
    script.write_text(PF_RUN_CREATE)
    done = in_terminal(agent, python, str(script), stdin=json.dumps(asked), seconds=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: json.loads((root / word(name) / "done.json").read_text()) for name in cases}


def word(name: str) -> str:
    return name.replace(" ", "-").replace("'", "")


def run_by_agent(agent: Agent, name: str, case: Case, archives: dict[str, str]) -> dict[str, Any]:
    """Return the result of the order that the operator makes from the case's run.yml."""
    files = {file: text.encode() for file, text in case.files.items()}
    assert agent.put("p1", word(name), files=files)[0] == 200
    body = {"user": "ada@example.com", "environmentRef": {"name": "chat"}, "runYaml": case.run.replace("EARLIER", word(case.earlier))}
    entry = objects.run({"metadata": {"name": word(name), "namespace": "n", "uid": f"{word(name)[:20]}-{len(name)}"}, "spec": body})
    assert not entry.problem, entry.problem
    order: dict[str, Any] = {**run_outputs.order(entry.meta.name, entry.meta.uid, entry.spec, entry.spec, entry.yaml, again=False)}
    if case.earlier:
        order["earlier"] = {"name": word(case.earlier), "archive": archives[case.earlier]}
    status, begun = agent.call("PUT", "/v1/runs", order)
    assert status == 200, begun
    end = over(agent, entry.meta.uid)
    status, answer = agent.call("GET", f"/v1/runs/outputs?id={entry.meta.uid}")
    archives[name] = answer.get("archive", "")
    return {**end, "files": outputs(agent, entry.meta.uid)}


def failed_lines(folder: Path) -> list[int]:
    records = [json.loads(file.read_text())["run_info"] for file in sorted((folder / "flow_artifacts").glob("*.jsonl"))]
    return [record["index"] for record in records if record["status"] == "Failed"]


def differences(name: str, case: Case, ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Return a description of each difference between the two results."""
    folder = Path(theirs.get("folder", "/nowhere"))
    if theirs["error"] or not (folder / "flow_outputs/output.jsonl").exists():
        said = theirs["error"] or json.loads((folder / "error.json").read_text())["message"].removeprefix("First error message is: ")
        both = ours["state"] == "Failed" and (case.words or said[:60]) in ours["message"]
        return [] if both else [f"{name}: {ours['state']}: {ours['message']} but {said}"]
    pairs = {
        "outputs": (lines(ours["files"].get("flow_outputs/output.jsonl", b"")), lines((folder / "flow_outputs/output.jsonl").read_bytes())),
        "inputs": (lines(ours["files"].get("inputs.jsonl", b"")), lines((folder / "inputs.jsonl").read_bytes())),
        "metrics": (ours["files"].get("metrics.json", b"").decode(), (folder / "metrics.json").read_text()),
        "failed lines": ([error["line"] for error in ours["errors"] if "line" in error], failed_lines(folder)),
        "failed lines as meant": (failed_lines(folder), list(case.failed)),
    }
    return [f"{name}: {what}: {mine!r} but {oracle!r}" for what, (mine, oracle) in pairs.items() if mine != oracle]


@pytest.mark.parametrize("share", range(SHARES))
def test_a_run_comes_to_what_pf_run_create_comes_to(share: int, start: StartAgent, runtime_base: str, tmp_path: Path, home: str) -> None:
    cases, secrets = shared(share), Secrets(tmp_path / "mounted")
    with modelserver.serving(KEY) as model:
        secrets.write("open-ai", open_ai(model.url))
        secrets.write("other", open_ai(model.url))
        variable = secrets.variable(open_ai_connection="open-ai", other_connection="other")
        agent = start(python=runtime_base, FLOWSESSION_HOME=home, FLOWSESSION_CONNECTIONS=variable)
        assert agent.put("p1", "f1", files={"flow.dag.yaml": b"nodes: []\n"})[0] == 200
        archives: dict[str, str] = {}
        ours = {name: run_by_agent(agent, name, case, archives) for name, case in cases.items()}
        theirs = run_by_prompt_flow(agent, runtime_base, tmp_path / "oracle", cases)
        found = [line[:500] for name, case in cases.items() for line in differences(name, case, ours[name], theirs[name])]
        assert not found, "\n".join(found)
        assert len(model.calls) % 2 == 0, "the model was asked as often"
