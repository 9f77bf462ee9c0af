"""How exact the idle end is: many sessions with mixed work on real kubelets. Prints a Markdown table.

`make bench-idle` after `make deploy`; takes some minutes. Lateness is the API server's DELETED event against the end of the session's last
work plus its timeout, as this program knows them; for a session that nobody used, after its readyAt.
"""

import argparse
import http.client
import json
import random
import statistics
import subprocess
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from demo import programs
from demo.kubectl import Kubectl
from demo.targets import choose

Object = dict[str, Any]

WORK = {
    "nothing": None,
    "an exec'd shell": "sleep {seconds}",
    "a busy process": "(timeout {seconds} sh -c '"
    "while :; do i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; sleep 0.2; done' > /dev/null 2>&1 &)",
    "terminals, one after the other": "sleep {half}",
}
"""What is done in a session after its start, as a shell command by `kubectl exec`."""


EARLY = 0.05
"""Seconds before the end of the timeout from which on a deletion counts as early: what the clocks of two programs may differ by."""


@dataclass
class Run:
    """One session: what was done in it, and when it went."""

    name: str
    work: str
    timeout: int
    last_work: float = 0.0
    """When its last work ended, in seconds since 1970; the start counts as work."""
    deleted_at: float = 0.0
    done: threading.Event = field(default_factory=threading.Event)


class Watch:
    """The API server's word on when sessions became ready and when they went."""

    def __init__(self, address: str, namespace: str, runs: dict[str, Run]) -> None:
        self._connection = http.client.HTTPConnection(address)
        self._connection.request("GET", f"/apis/flowsession.dev/v1alpha1/namespaces/{namespace}/computesessions?watch=true")
        self._stream = self._connection.getresponse()
        self._runs = runs
        self.ready: dict[str, str] = {}
        self.changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while line := self._stream.readline():
            now, event = time.time(), json.loads(line)
            name, status = event["object"]["metadata"]["name"], event["object"].get("status", {})
            if event["type"] == "DELETED":
                self._runs[name].deleted_at = now
                self._runs[name].done.set()
            with self.changed:
                if status.get("phase") == "Running" and name not in self.ready:
                    self._runs[name].last_work = datetime.fromisoformat(status["readyAt"]).timestamp()
                    self.ready[name] = status["podName"]
                self.changed.notify_all()

    def until_ready(self, name: str, seconds: float) -> str:
        """The session's pod."""
        with self.changed:
            if not self.changed.wait_for(lambda: name in self.ready, seconds):
                raise RuntimeError(f"session {name} was not ready after {seconds:.0f} s")
            return self.ready[name]


def live(run: Run, watch: Watch, kubectl: Kubectl) -> None:
    """Does the session's work, then waits for its end."""
    pod = watch.until_ready(run.name, 900)
    command = WORK[run.work]
    if command is not None:
        seconds = random.uniform(0.5, 2.0) * run.timeout
        for _ in range(2 if "{half}" in command else 1):
            began = time.time()
            kubectl("exec", pod, "--", "sh", "-c", command.format(seconds=round(seconds), half=round(seconds / 2, 1)))
            run.last_work = began + round(seconds) if run.work == "a busy process" else time.time()
    if not run.done.wait(run.timeout * 4 + 120):
        raise RuntimeError(f"session {run.name} ({run.work}, {run.timeout} s) was not deleted")


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * len(ordered) + 0.5) - 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=200, help="sessions")
    parser.add_argument("--at-once", type=int, default=40, help="sessions that live at the same time")
    arguments = parser.parse_args()
    random.seed(1)
    target = choose()
    namespace = f"bench-{uuid.uuid4().hex[:6]}"
    kubectl = Kubectl(programs.kubectl(), target.kubeconfig, namespace)
    kubectl("create", "namespace", namespace)
    proxy = subprocess.Popen(
        [str(kubectl.program), "--kubeconfig", str(kubectl.kubeconfig), "proxy", "--port=0"], stdout=subprocess.PIPE, text=True
    )
    assert proxy.stdout is not None
    address = proxy.stdout.readline().split()[-1]
    kinds = list(WORK)
    runs = {f"s{n}": Run(f"s{n}", kinds[n % len(kinds)], random.choice((5, 10, 20, 40, 60))) for n in range(arguments.n)}
    kubectl("apply", "-f", "-", stdin=json.dumps(_object("FlowEnvironment", "plain", {})))
    watch = Watch(address, namespace, runs)

    def one(run: Run) -> None:
        idle = {"action": "Delete", "timeoutSeconds": run.timeout}
        spec = {"environmentRef": {"name": "plain"}, "user": run.name, "idle": idle}
        kubectl("apply", "-f", "-", stdin=json.dumps(_object("ComputeSession", run.name, spec)))
        live(run, watch, kubectl)

    try:
        with ThreadPoolExecutor(arguments.at_once) as pool:
            list(pool.map(one, runs.values()))
    finally:
        proxy.kill()
        proxy.wait()
        kubectl("delete", "namespace", namespace, "--wait=false")
    print(f"Measured {datetime.now(UTC):%Y-%m-%d}: {len(runs)} sessions, {arguments.at_once} at a time, timeouts of 5 to 60 s.\n")
    print("| work | sessions | deleted early | lateness p50 | p99 | max |\n|---|---|---|---|---|---|")
    for kind in [*kinds, "all"]:
        late = [run.deleted_at - run.last_work - run.timeout for run in runs.values() if kind in (run.work, "all")]
        print(
            f"| {kind} | {len(late)} | {sum(seconds < -EARLY for seconds in late)} | {statistics.median(late):.2f} s"
            f" | {percentile(late, 0.99):.2f} s | {max(late):.2f} s |"
        )
    for run in runs.values():
        if (early := run.deleted_at - run.last_work - run.timeout) < -EARLY:
            print(f"early: {run.name} ({run.work}, timeout {run.timeout} s) by {-early:.2f} s")


def _object(kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": "flowsession.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


if __name__ == "__main__":
    main()
