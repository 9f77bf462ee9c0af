"""Misbehaving flows and terminals, and a stopped agent, on real kubelets: the session reports it and stays or comes back."""

import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo.targets import Local
from flowsession_agent.session.terminals import CUT_SECONDS

from .conftest import LABELS, Cluster, Object, environment, session
from .test_idle import LATEST, watch_until_deleted

FLOW = """\
inputs:
  deed: {type: string, default: nothing}
outputs:
  done: {type: string, reference: "${act.output}"}
nodes:
- {name: act, type: python, source: {type: code, path: act.py}, inputs: {deed: "${inputs.deed}"}}
"""
ACT = """\
import os
import signal
import time

from promptflow.core import tool


@tool
def act(deed: str) -> str:
    if deed == "fill":
        with open("/dev/shm/filled", "wb") as file:
            while True:
                file.write(bytes(1 << 20))
    elif deed == "memory":
        b"x" * (3 << 30)
    elif deed != "nothing":
        os.kill(os.getppid(), getattr(signal, deed))
        if deed == "SIGTERM":
            time.sleep(300)  # its end comes from the agent, before its answer
    return deed
"""


def flow_folder() -> Object:
    metadata = {"name": "flow", "labels": {"flowsession.dev/source": "true"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"flow.dag.yaml": FLOW, "act.py": ACT}}


def start(cluster: Cluster, *, idle: int = 3600) -> str:
    """Start a session with the flow and return its pod once it is Ready."""
    cluster.apply(flow_folder(), environment(source={"configMap": {"name": "flow"}}), session(idle=idle))
    return str(cluster.until_ready("s")["podName"])


def run_flow(cluster: Cluster, pod: str, deed: str) -> subprocess.CompletedProcess[str]:
    return cluster.kubectl.attempt("exec", pod, "--", "flow", "test", "--inputs", f"deed={deed}")


def restarts(cluster: Cluster, pod: str) -> int:
    found = cluster.get("pod", pod) or {}
    return max((entry["restartCount"] for entry in found.get("status", {}).get("containerStatuses", [])), default=0)


def test_a_flow_that_kills_its_parent_hard_kills_nobody(cluster: Cluster) -> None:
    """The kernel protects PID 1 of a pod from the pod's signals that it doesn't handle."""
    pod = start(cluster)
    ended = run_flow(cluster, pod, "SIGKILL")
    assert (ended.returncode, '"done": "SIGKILL"' in ended.stdout) == (0, True), ended.stderr
    assert restarts(cluster, pod) == 0
    assert cluster.status("s")["phase"] == "Running"


def test_a_flow_that_asks_its_parent_to_end_gets_its_session_back(cluster: Cluster) -> None:
    pod = start(cluster)
    ended = run_flow(cluster, pod, "SIGTERM")
    assert ended.returncode != 0, ended.stdout
    cluster.until("the container was started again", lambda: restarts(cluster, pod) == 1)
    cluster.until("the session serves again", lambda: cluster.status("s").get("containerRestarts") == 1)
    cluster.until_ready("s")
    cluster.until("the flow runs again", lambda: run_flow(cluster, pod, "nothing").returncode == 0, 60)
    assert cluster.status("s")["podName"] == pod


def test_a_flow_that_fills_the_disk_fails_with_the_reason_and_leaves_the_session_usable(cluster: Cluster) -> None:
    pod = start(cluster)
    ended = run_flow(cluster, pod, "fill")
    assert ended.returncode != 0
    assert "No space left on device" in ended.stderr

    def refused() -> bool:
        """Fill the remaining space, and what a process that has ended since has freed, and return whether a test is refused for it."""
        cluster.kubectl.attempt("exec", pod, "--", "sh", "-c", "cat /dev/zero >> /dev/shm/rest")
        return "No space is left in /dev/shm" in run_flow(cluster, pod, "nothing").stderr

    cluster.until("a test is refused", refused, 120)
    cluster.exec(pod, "rm", "/dev/shm/filled", "/dev/shm/rest")
    again = run_flow(cluster, pod, "nothing")
    assert again.returncode == 0, again.stderr
    assert restarts(cluster, pod) == 0
    assert cluster.status("s")["phase"] == "Running"


def test_a_flow_that_needs_too_much_memory_fails_with_the_reason_and_leaves_the_session_usable(cluster: Cluster) -> None:
    """Unlike an install that does (test_bad_input), which keeps the session from being Ready."""
    pod = start(cluster)
    ended = run_flow(cluster, pod, "memory")
    assert ended.returncode != 0
    assert "memory" in ended.stderr
    cluster.until("the flow runs", lambda: run_flow(cluster, pod, "nothing").returncode == 0, 60)
    installed = cluster.condition("s", "PackagesInstalled")
    assert (installed["status"], cluster.status("s")["podName"]) == ("True", pod)


def test_a_command_that_is_killed_for_memory_is_named_in_an_event(cluster: Cluster) -> None:
    pod = start(cluster)
    greedy = "import time; kept = []\nwhile True: kept.append(b'x' * 2**25); time.sleep(0.05)"
    assert cluster.kubectl.attempt("exec", pod, "--", "python3", "-c", greedy).returncode == 137
    (event,) = cluster.until_event("s", "ProcessKilledForMemory")
    assert event["message"].startswith("python3 -c import time; kept = []")
    assert "choose a larger size" in event["message"]
    assert restarts(cluster, pod) == 0


@pytest.fixture
def little_disk(cluster: Cluster) -> Iterator[str]:
    """Create a size whose sessions may write 300 MiB to their node."""
    capacity, linux = {"cpu": "2", "memory": "8Gi", "ephemeral-storage": "50Gi"}, {"kubernetes.io/os": "linux"}
    spec = {"azureName": "Standard_D2s_v3", "capacity": capacity, "nodeSelector": linux, "requests": {"ephemeral-storage": "300Mi"}}
    metadata = {"name": "standard-d2s-v3", "labels": LABELS}
    cluster.apply({"apiVersion": "flowsession.dev/v1alpha1", "kind": "VMSize", "metadata": metadata, "spec": spec})
    yield "Standard_D2s_v3"
    cluster.kubectl("delete", "vmsize", "standard-d2s-v3")


@pytest.mark.whole_cluster
def test_a_session_that_writes_more_than_its_limit_is_evicted_says_so_and_comes_back_with_its_edits(
    cluster: Cluster, little_disk: str
) -> None:
    cluster.apply(flow_folder(), environment(source={"configMap": {"name": "flow"}}), session(compute={"vmSize": little_disk}))
    before = cluster.until_ready("s")["podName"]
    cluster.exec(before, "sh", "-c", "echo kept > note.txt; head -c 400000000 /dev/zero > /tmp/large")
    cluster.until("another pod serves", lambda: (s := cluster.status("s")).get("podName") != before and s.get("phase") == "Running")
    assert cluster.exec(cluster.status("s")["podName"], "cat", "note.txt") == "kept\n"
    cluster.until_event("s", "Evicted", "ephemeral local storage usage exceeds the total limit of containers 300Mi")
    assert len(cluster.kubectl.list("pods", "-l", "flowsession.dev/session=s", "--field-selector", "status.phase=Running")) == 1


@pytest.mark.parametrize("tty", [True, False], ids=["terminal", "pipe"])
def test_sleep_left_behind_by_a_closed_terminal_does_not_keep_the_session(cluster: Cluster, tty: bool) -> None:
    cluster.apply(environment(), session(idle=8))
    pod = cluster.until_ready("s")["podName"]
    command = ["sh", "-c", 'trap "" HUP; sleep infinity < /dev/null > /dev/null 2>&1 & exit 0']
    flags = ["-it"] if tty else []
    screen, keyboard = pty.openpty()
    terminal = subprocess.Popen(cluster.command("exec", *flags, pod, "--", *command), stdin=keyboard, stdout=keyboard, stderr=keyboard)
    assert terminal.wait(60) == 0
    closed_at = time.time()
    os.close(screen)
    os.close(keyboard)
    assert "sleep\0infinity" in left_in(cluster, pod)
    deleted_at, last = watch_until_deleted(cluster, "s", 60)
    assert closed_at + 8 - 1 < deleted_at < closed_at + 8 + LATEST + 2, last["status"]


def left_in(cluster: Cluster, pod: str) -> str:
    """Return the command lines of the pod's processes, read from outside, since a command in the pod would count as work."""
    return "\n".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in pids_of(cluster, pod))


def pids_of(cluster: Cluster, pod: str) -> list[int]:
    """Return the pod's processes by their pids on this machine, PID 1 of the pod first."""
    if not isinstance(cluster.target, Local):
        pytest.skip("only the local cluster's nodes are this machine")
    uid = (cluster.get("pod", pod) or {})["metadata"]["uid"]
    wanted = f"FLOWSESSION_POD_UID={uid}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                inside = next(line for line in (folder / "status").read_text().splitlines() if line.startswith("NSpid:"))
                found.append((int(inside.split()[-1]), int(folder.name)))
        except OSError:
            continue
    return [pid for _, pid in sorted(found)]


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_stopped_agent_does_not_take_its_absence_for_idleness(cluster: Cluster) -> None:
    cluster.apply(environment(), session(idle=10))
    pod = cluster.until_ready("s")["podName"]
    with stopped(pids_of(cluster, pod)[0]):
        time.sleep(20)  # two timeouts, during which the session must not end
        assert cluster.status("s")["phase"] == "Running", "who can't be asked is not idle"
    thawed_at = time.time()
    deleted_at, last = watch_until_deleted(cluster, "s", 120)
    assert deleted_at >= thawed_at + 10
    assert cluster.events("s")[-1]["reason"] == "Idle", last["status"]


def test_a_terminal_whose_client_was_killed_still_counts(cluster: Cluster) -> None:
    """Nothing in the pod shows that the client is gone. Work must not be deleted, so it counts until the kubelet's own timeout."""
    assert CUT_SECONDS == 4 * 3600, "streamingConnectionIdleTimeout of a kubelet, unless it was set"
    cluster.apply(environment(), session(idle=5))
    pod = cluster.until_ready("s")["podName"]
    client = subprocess.Popen(cluster.command("exec", pod, "--", "sleep", "600"))
    cluster.until("it runs", lambda: "sleep\x00600" in left_in(cluster, pod), 30)
    client.kill()
    client.wait()
    time.sleep(15)  # three timeouts, during which the session must not end
    assert "sleep\x00600" in left_in(cluster, pod), "this runtime ends what lost its client: then there is nothing to judge"
    assert cluster.condition("s", "Active")["reason"] == "InUse"
