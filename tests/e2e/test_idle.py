"""Idleness on real kubelets: never early, at most 2 s late, and never while somebody works."""

import json
import subprocess
import time
from datetime import datetime

from conftest import Cluster, environment, session

LATEST = 2.0
"""Seconds past the deadline at which an idle session must have been deleted."""


def seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def watch_until_deleted(cluster: Cluster, name: str, limit: float) -> tuple[float, dict]:
    """When the API server reported the deletion, and the object as it last was."""
    command = cluster.command("get", "csess", name, "--watch", "--output-watch-events", "-o", "json")
    watcher = subprocess.Popen(["timeout", str(limit), *command], stdout=subprocess.PIPE, text=True)
    assert watcher.stdout is not None
    decoder, buffer = json.JSONDecoder(), ""
    try:
        while chunk := watcher.stdout.readline():
            buffer += chunk
            try:
                event, end = decoder.raw_decode(buffer.lstrip())
            except ValueError:
                continue
            buffer = buffer.lstrip()[end:]
            if event["type"] == "DELETED":
                return time.time(), event["object"]
    finally:
        watcher.kill()
        watcher.wait()
    raise AssertionError(f"session {name} was not deleted within {limit} s")


def test_an_unused_session_is_deleted_at_its_time(cluster: Cluster) -> None:
    cluster.apply(environment(), session(idle=10))
    status = cluster.until_ready("s")
    deleted_at, last = watch_until_deleted(cluster, "s", 60)
    deadline = seconds(last["status"]["lastActivity"]["at"]) + 10
    assert deadline <= deleted_at <= seconds(last["status"]["expiresAt"]) + LATEST
    cluster.until_gone("pod", status["podName"])
    assert [event["reason"] for event in cluster.events("s")] == ["Running", "IdleSoon", "Idle"]


def test_a_live_terminal_keeps_the_session_and_its_end_starts_the_clock(cluster: Cluster) -> None:
    cluster.apply(environment(), session(idle=8))
    status = cluster.until_ready("s")
    terminal = subprocess.Popen(cluster.command("exec", status["podName"], "--", "sh", "-c", "sleep 25; true"))
    active = cluster.until_condition("s", "Active", status="True", reason="InUse", seconds=30)
    assert "exec" in active["message"]
    assert terminal.wait(60) == 0
    ended_at = time.time()
    deleted_at, last = watch_until_deleted(cluster, "s", 60)
    assert deleted_at >= ended_at + 8 - 1.5, "the agent looks once a second"
    assert deleted_at <= ended_at + 8 + LATEST + 1.5
    assert "exec" in last["status"]["lastActivity"]["what"]


def test_a_busy_process_keeps_the_session(cluster: Cluster) -> None:
    cluster.apply(environment(), session(idle=10))
    status = cluster.until_ready("s")
    cluster.exec(status["podName"], "sh", "-c", "timeout 30 python3 -c 'while True: pass' >/dev/null 2>&1 & exit 0")
    active = cluster.until_condition("s", "Active", status="True", reason="InUse", seconds=30)
    assert "python3" in active["message"]
    assert cluster.session("s")
    cluster.until_gone("csess", "s", 90)


def test_idle_action_none_is_never_deleted(cluster: Cluster) -> None:
    cluster.apply(environment(), session("kept", action="None", idle=5), session("ended", user="bob@example.com", idle=5))
    cluster.until_ready("kept")
    cluster.until_ready("ended")
    cluster.until_gone("csess", "ended", 60)
    time.sleep(5)  # a whole further timeout
    status = cluster.status("kept")
    assert status["phase"] == "Running"
    assert "expiresAt" not in status


def test_a_longer_timeout_counts_at_once(cluster: Cluster) -> None:
    cluster.apply(environment(), session(idle=3600))
    cluster.until_ready("s")
    cluster.patch("csess", "s", {"spec": {"idle": {"timeoutSeconds": 5}}})
    cluster.until_gone("csess", "s", 40)
