"""Runs on kubelets: a container killed and a pod lost in mid-run, and data and outputs on a claim."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Cluster, Object, claimed, environment, flow_run
from .test_edits import kill_pid_1

DAG = """\
inputs: {text: {type: string}}
outputs: {answer: {type: string, reference: "${shout.output}"}}
nodes:
- {name: shout, type: python, source: {type: code, path: shout.py}, inputs: {text: "${inputs.text}"}}
- {name: count, type: python, aggregation: true, source: {type: code, path: count.py}, inputs: {answers: "${shout.output}"}}
"""
SHOUT = """\
import os, time
from promptflow.core import tool

@tool
def run(text: str) -> str:
    with open("/claims/results/seen", "a") as file:
        file.write(text + "\\n")
    while text.startswith("wait") and not os.path.exists(f"/claims/results/go-{text}"):
        time.sleep(0.1)
    return text.upper()
"""
COUNT = """\
from promptflow.core import log_metric, tool

@tool
def run(answers: list) -> int:
    log_metric("answers", len(answers))
    return len(answers)
"""
WORDS = ["a", "b", "wait"]


@pytest.fixture
def volume(cluster: Cluster) -> Iterator[Path]:
    """Yield the folder behind the claim `results`, which any node can mount."""
    with tempfile.TemporaryDirectory(prefix="fs-claim-") as name:
        root = Path(name)
        (root / "data.jsonl").write_text("".join(json.dumps({"word": word}) + "\n" for word in WORDS))
        for path in (root, root / "data.jsonl"):
            os.chown(path, 1000, 1000)
        with claimed(cluster, "results", root):
            yield root


def run_of(name: str, **spec: Any) -> Object:
    return flow_run(name, of="chat", lines={"concurrency": 3}, **spec)


def status(cluster: Cluster, name: str) -> dict[str, Any]:
    return (cluster.get("flowrun", name) or {}).get("status", {})


def over(cluster: Cluster, name: str, *, phase: str = "Completed") -> dict[str, Any]:
    """Return the run's status once it has ended. It must have this phase."""
    found = cluster.until("it is over", lambda: (now := status(cluster, name)).get("completedAt") and now, 180)
    assert found["phase"] == phase, json.dumps(found)
    return found


def test_a_run_goes_on_when_its_container_is_killed_and_when_its_pod_is_lost(cluster: Cluster, volume: Path) -> None:
    flow = {"flow.dag.yaml": DAG, "shout.py": SHOUT, "count.py": COUNT}
    labels = {"flowsession.dev/source": "true"}
    cluster.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "flow", "labels": labels}, "data": flow},
        environment("chat", source={"configMap": {"name": "flow"}}),
        run_of(
            "lost",
            data={"persistentVolumeClaim": {"claimName": "results", "path": "data.jsonl"}},
            columnMapping={"text": "${data.word}"},
            outputs={"persistentVolumeClaim": {"claimName": "results", "path": "runs"}},
        ),
    )
    found = cluster.until("two lines are done", lambda: (now := status(cluster, "lost")).get("lines", {}).get("completed") == 2 and now)
    assert cluster.get("csess", found["sessionName"])["spec"]["claims"] == [{"claimName": "results", "readOnly": False}]
    cluster.kubectl("delete", "pod", found["podName"], "--grace-period=0", "--force", "--wait=false")
    cluster.until("it goes on in the next pod", lambda: status(cluster, "lost").get("podName") not in (None, found["podName"]))
    (volume / "go-wait").touch()
    end = over(cluster, "lost")
    assert (end["lines"], end["metrics"], end["resumes"]) == ({"total": 3, "completed": 3, "failed": 0}, {"answers": "3"}, 1)
    kept = volume / end["outputs"]["persistentVolumeClaim"]["path"]
    lines = [json.loads(line)["answer"] for line in (kept / "flow_outputs" / "output.jsonl").read_text().splitlines()]
    assert lines == ["A", "B", "WAIT"]
    assert sorted((volume / "seen").read_text().split()) == ["a", "b", "wait", "wait"], "what was done is not done again"

    (volume / "go-wait").unlink()
    cluster.apply(run_of("killed", run="lost", sessionRef={"name": end["sessionName"]}, columnMapping={"text": "${run.inputs.word}"}))
    cluster.until("two lines are done", lambda: status(cluster, "killed").get("lines", {}).get("completed") == 2)
    kill_pid_1(cluster.get("pod", status(cluster, "killed")["podName"])["metadata"]["uid"])
    cluster.until("it goes on in the next container", lambda: status(cluster, "killed").get("resumes") == 1)
    (volume / "go-wait").touch()
    assert over(cluster, "killed")["metrics"] == {"answers": "3"}
    assert sorted((volume / "seen").read_text().split()) == sorted([*WORDS, *WORDS, "wait", "wait"])

    (volume / "go-wait").unlink()
    cluster.apply(run_of("canceled", run="lost", sessionRef={"name": end["sessionName"]}, columnMapping={"text": "${run.inputs.word}"}))
    cluster.until("two lines are done", lambda: status(cluster, "canceled").get("lines", {}).get("completed") == 2)
    cluster.patch("flowrun", "canceled", {"spec": {"cancel": True}})
    canceled = over(cluster, "canceled", phase="Canceled")
    assert canceled["lines"] == {"total": 3, "completed": 2, "failed": 0}
    assert canceled["outputs"]["configMapNames"]
