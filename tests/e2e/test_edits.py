"""Edits in a session's flow folder outlive the session."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.targets import Local
from localcluster import cluster as local_cluster

from .conftest import Cluster, Object, environment, session
from .preemption import urgent_pod
from .test_manage import ask, handled, now, until_phase

FOLDER = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "flow", "labels": {"flowsession.dev/source": "true"}},
    "data": {"flow.dag.yaml": "inputs: {}\noutputs: {}\nnodes: []\n", "prompt.jinja2": "Say hello.\n", "old.txt": "old\n"},
}
OF_FOLDER = environment(source={"configMap": {"name": "flow"}}, requirementsText="")


def edit(cluster: Cluster, pod: str) -> None:
    cluster.exec(pod, "sh", "-c", "cd /session/flow; echo 'Say goodbye.' > prompt.jinja2; mkdir -p data; echo 1 > data/new.csv; rm old.txt")


def edited(cluster: Cluster, pod: str) -> bool:
    said = cluster.exec(pod, "sh", "-c", "cd /session/flow; cat prompt.jinja2 data/new.csv; ls old.txt 2>/dev/null || echo gone")
    return said.split("\n")[:3] == ["Say goodbye.", "1", "gone"]


def saved(cluster: Cluster) -> list[str]:
    return [body["metadata"]["name"] for body in cluster.kubectl.list("configmaps", "-l", "flowsession.dev/content=edits")]


def test_edits_survive_the_idle_end_and_the_next_session_has_them(cluster: Cluster) -> None:
    cluster.apply(FOLDER, OF_FOLDER, session(idle=20))
    edit(cluster, cluster.until_ready("s")["podName"])

    def warned() -> Object | None:
        found = cluster.status("s")
        soon = [c for c in found.get("conditions", ()) if (c["type"], c["reason"]) == ("Active", "IdleSoon")]
        return found if soon and "data/new.csv" in soon[0]["message"] else None

    status = cluster.until("the idle end is announced with what was edited", warned, 60)
    assert "prompt.jinja2" in status["edits"]["files"]
    cluster.until_gone("csess", "s", 60)
    (name,) = saved(cluster)
    cluster.apply(session("again"))
    after = cluster.until_ready("again")
    assert edited(cluster, after["podName"])
    assert after["edits"]["savedTo"] == name
    cluster.apply(session("bobs", user="bob@example.com"))
    assert not edited(cluster, cluster.until_ready("bobs")["podName"]), "another user's edits"


def test_suspend_and_reset_keep_edits(cluster: Cluster) -> None:
    cluster.apply(FOLDER, OF_FOLDER, session())
    before = cluster.until_ready("s")
    edit(cluster, before["podName"])
    cluster.patch("csess", "s", {"spec": {"suspend": True}})
    until_phase(cluster, "s", "Suspended")
    cluster.patch("csess", "s", {"spec": {"suspend": False}})
    resumed = cluster.until_ready("s")
    assert edited(cluster, resumed["podName"])
    value = now()
    ask(cluster, "s", "reset", value)
    cluster.until("the reset is done", lambda: handled(cluster, "s", "reset", value) and cluster.status("s").get("phase") == "Running")
    assert edited(cluster, cluster.status("s")["podName"])
    assert len(saved(cluster)) == 1, "the same edits are saved once"


def test_when_the_environment_has_changed_edits_are_offered(cluster: Cluster) -> None:
    cluster.apply(FOLDER, OF_FOLDER, session())
    edit(cluster, cluster.until_ready("s")["podName"])
    cluster.patch("csess", "s", {"spec": {"suspend": True}})
    until_phase(cluster, "s", "Suspended")
    cluster.apply({**FOLDER, "data": {**FOLDER["data"], "more.txt": "new\n"}})
    cluster.patch("csess", "s", {"spec": {"suspend": False}})
    pod = cluster.until_ready("s")["podName"]
    assert not edited(cluster, pod)
    cluster.exec(pod, "flow", "restore")
    assert edited(cluster, pod)


def test_edits_that_are_too_large_put_the_end_off(cluster: Cluster) -> None:
    cluster.apply(FOLDER, OF_FOLDER, session(idle=10))
    pod = cluster.until_ready("s")["podName"]
    cluster.exec(pod, "sh", "-c", "head -c 3000000 /dev/urandom > /session/flow/model.bin")
    active = cluster.until_condition("s", "Active", status="False", reason="EditsNotSaved", seconds=60)
    assert "model.bin" in active["message"]
    assert "flow edits --discard" in active["message"]
    assert cluster.status("s")["phase"] == "Running"
    cluster.exec(pod, "flow", "edits", "--discard")
    cluster.until_gone("csess", "s", 120)
    assert saved(cluster) == []


def write(cluster: Cluster, pod: str, text: str) -> None:
    cluster.exec(pod, "sh", "-c", f"echo {text} > /session/flow/note.txt")


def notes(cluster: Cluster) -> str:
    pod = cluster.status("s").get("podName", "")
    return cluster.kubectl.attempt("exec", pod, "--", "cat", "/session/flow/note.txt").stdout.strip()


def until_saved(cluster: Cluster, before: str = "") -> str:
    """Return the revision of the edits that were saved while the session keeps running."""
    return cluster.until("the edits are saved", lambda: (r := cluster.status("s").get("edits", {}).get("revision", "")) != before and r, 60)


def until_back(cluster: Cluster, before: Object, text: str) -> Object:
    def is_back() -> Object | None:
        status = cluster.status("s")
        new = status.get("podName") != before["podName"] and status.get("phase") == "Running"
        return status if new and notes(cluster) == text else None

    return cluster.until(f"a new pod has {text!r}", is_back, 120)


GREEDY = """
import os, time
while True:
    if os.fork() == 0:
        held = b"x" * (4 << 20)
        time.sleep(600)
    time.sleep(0.01)
"""
"""Takes all memory in pieces smaller than the agent, so that the kernel, which kills the largest process, kills the agent."""


def kill_pid_1(pod_uid: str) -> None:
    """Kill the agent as a machine failure would. The local cluster's containers are processes of this machine."""
    (pid,) = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and _is_agent(path, pod_uid)]
    os.kill(pid, signal.SIGKILL)


def _is_agent(process: Path, pod_uid: str) -> bool:
    try:
        inside = (process / "status").read_text().partition("NSpid:")[2].splitlines()[0].split()
        return inside[-1] == "1" and len(inside) > 1 and f"FLOWSESSION_POD_UID={pod_uid}".encode() in (process / "environ").read_bytes()
    except OSError:
        return False


@pytest.mark.whole_cluster
def test_edits_survive_whatever_ends_the_pod(cluster: Cluster) -> None:
    cluster.apply(FOLDER, OF_FOLDER, session())
    status = cluster.until_ready("s")
    edit(cluster, status["podName"])
    until_saved(cluster)

    write(cluster, status["podName"], "evicted")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": status["podName"], "namespace": cluster.namespace}}
    path = f"/api/v1/namespaces/{cluster.namespace}/pods/{status['podName']}/eviction"
    cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    status = until_back(cluster, status, "evicted")
    assert edited(cluster, status["podName"])
    cluster.until_event("s", "EditsSaved")

    write(cluster, status["podName"], "preempted")
    with urgent_pod(cluster, status):
        status = until_back(cluster, status, "preempted")

    write(cluster, status["podName"], "killed")
    assert cluster.kubectl.attempt("exec", status["podName"], "--", "python3", "-c", GREEDY).returncode != 0
    cluster.until("the container was restarted and has them", lambda: restarts(cluster) and notes(cluster) == "killed")
    cluster.until_ready("s")
    cluster.until_event("s", "OutOfMemory")

    cluster.kubectl.attempt("exec", status["podName"], "--", "sh", "-c", "echo ended > /session/flow/note.txt; kill -TERM 1; sleep 20")
    cluster.until("the container was ended and has them", lambda: restarts(cluster) > 1 and notes(cluster) == "ended")
    cluster.until_ready("s")
    cluster.until("what was written by then is saved", lambda: not waiting(cluster))

    before = cluster.status("s")["edits"]["revision"]
    write(cluster, status["podName"], "saved in time")
    until_saved(cluster, before)
    cluster.kubectl("delete", "pod", status["podName"], "--force", "--grace-period=0")
    until_back(cluster, status, "saved in time")
    cluster.until_event("s", "EditsNotSaved", "comes back as it was saved at")


def test_a_deleted_session_has_its_last_edits_saved(cluster: Cluster) -> None:
    cluster.apply(FOLDER, OF_FOLDER, session())
    pod = cluster.until_ready("s")["podName"]
    edit(cluster, pod)
    write(cluster, pod, "last")
    cluster.kubectl("delete", "csess", "s")
    cluster.apply(session())
    status = cluster.until_ready("s")
    assert notes(cluster) == "last"
    assert edited(cluster, status["podName"])
    cluster.until_event("plain", "EditsSaved", "session s: ")
    cluster.until_event("s", "EditsRestored", "session s saved")
    (body,) = cluster.kubectl.list("configmaps", "-l", "flowsession.dev/content=edits")
    assert set(body["binaryData"]) == {"edits.sealed"}
    assert "Say goodbye" not in json.dumps(body)


@pytest.fixture
def operators_node(cluster: Cluster) -> Iterator[str]:
    """Return the operator's node. A test may cordon it, so that no further pod starts there."""
    if not isinstance(cluster.target, Local):
        pytest.skip("only the local cluster's kubelets are this machine's to stop")

    def only_one() -> Object | None:
        pods = cluster.within("flowsession-system").kubectl.list("pods", "-l", "app.kubernetes.io/name=flowsession")
        return pods[0] if len(pods) == 1 else None

    operator = cluster.until("one operator, the one before it gone", only_one)
    yield operator["spec"]["nodeName"]
    cluster.kubectl("uncordon", operator["spec"]["nodeName"])


def is_ready(cluster: Cluster, kind: str, name: str) -> bool:
    conditions = (cluster.get(kind, name) or {})["status"]["conditions"]
    return next(condition["status"] for condition in conditions if condition["type"] == "Ready") == "True"


@pytest.mark.whole_cluster
def test_edits_survive_a_lost_node(cluster: Cluster, operators_node: str) -> None:
    """The kubelet and the agent are dead. For 50 s of the test Kubernetes waits for the kubelet (node-monitor-grace-period). Then an
    administrator marks the node as out of service (docs/sessions.md). Without that it takes 5 minutes more, the time for which pods
    tolerate such a node, plus the grace period."""
    cluster.kubectl("cordon", operators_node)
    cluster.apply(FOLDER, OF_FOLDER, session())
    before = cluster.until_ready("s")
    cluster.kubectl("uncordon", operators_node)
    edit(cluster, before["podName"])
    write(cluster, before["podName"], "kept")
    until_saved(cluster)
    node, pod = before["nodeName"], cluster.get("pod", before["podName"])
    assert pod
    with local_cluster.without_kubelet(node):
        kill_pid_1(pod["metadata"]["uid"])
        cluster.until("Kubernetes has noticed", lambda: not is_ready(cluster, "node", node), 90)
        cluster.until("and has said so of its pods", lambda: not is_ready(cluster, "pod", before["podName"]), 30)
        assert cluster.status("s")["podName"] == before["podName"], "nobody knows yet whether it works on"
        out_of_service = "node.kubernetes.io/out-of-service"
        cluster.kubectl("taint", "nodes", node, f"{out_of_service}=nodeshutdown:NoExecute")
        try:
            after = until_back(cluster, before, "kept")
        finally:
            cluster.kubectl("taint", "nodes", node, f"{out_of_service}:NoExecute-")
        assert after["nodeName"] == operators_node
        assert edited(cluster, after["podName"])
        cluster.until_event("s", "NodeLost", before["podName"])
        cluster.until_event("s", "EditsNotSaved", "comes back as it was saved at")
    assert len(cluster.kubectl.list("pods", "-l", "flowsession.dev/session=s")) == 1


def waiting(cluster: Cluster) -> bool:
    state = json.loads(cluster.exec(cluster.status("s")["podName"], "flow", "edits", "--json"))
    return bool(state.get("waiting"))


def restarts(cluster: Cluster) -> int:
    pod = cluster.get("pod", cluster.status("s")["podName"]) or {}
    return int(pod.get("status", {}).get("containerStatuses", [{}])[0].get("restartCount", 0))
