"""How exact the idle end is: many sessions with mixed work on real kubelets. Prints a Markdown table.

`make bench-idle` after `make deploy`; takes some minutes. Lateness is the API server's DELETED event against the end of the session's
last work plus its timeout. When work began and ended is told by the work itself, in the pod's termination message: so the pods' clock must
be this program's, as on a cluster of one machine. Work that never began is none: its session counts from its readyAt, as an unused one.
"""

import argparse
import http.client
import json
import os
import random
import re
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

GROUP = "flowsession.dev/v1alpha1"
FLOW = """\
inputs:
  seconds: {type: double}
outputs:
  slept: {type: double, reference: "${nap.output}"}
nodes:
- {name: nap, type: python, source: {type: code, path: nap.py}, inputs: {seconds: "${inputs.seconds}"}}
"""
NODE = """\
import time
from promptflow.core import tool


@tool
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds
"""
SHELL = "log() { echo $1 $(date +%s.%N) >> /dev/termination-log; }; log began; sleep SECONDS; log ended"
PYTHON = """
import time
def log(what):
    with open("/dev/termination-log", "a") as file:
        file.write(f"{what} {time.time()}\\n")
log("began")
"""
BUSY = """
end = time.time() + SECONDS
while time.time() < end:
    enough = time.process_time() + 0.01
    while time.process_time() < enough:
        pass
    time.sleep(0.2)
log("ended")
"""
"""Uses some 5 % of a core. It must count as work, and 200 of them must not dominate the measurement."""
RUN = """
import json, os, socket
body = json.dumps({"inputs": {"seconds": SECONDS}}).encode()
connection = socket.socket(socket.AF_UNIX)
connection.connect(os.environ["FLOWSESSION_HOME"] + "/agent.sock")
connection.sendall(b"POST /v1/test HTTP/1.1\\r\\nHost: agent\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
answer = connection.recv(65536)
log("ended" if answer.startswith(b"HTTP/1.1 200") else "failed")
"""
"""Requests the run and waits. Waiting alone is no work: the run keeps the session."""


def left_behind(program: str) -> list[str]:
    """Return a command for `kubectl exec` that starts a Python program which outlives its terminal."""
    return ["sh", "-c", 'setsid python3 -IS -c "$0" < /dev/null > /dev/null 2>&1 &', PYTHON + program]


NOTE = "log() { echo $1 $(date +%s.%N) >> /dev/termination-log; }; log ended"
SHORT = "short commands, one now and then"
WORK: dict[str, list[list[str]]] = {
    "nothing": [],
    "an exec'd shell": [["sh", "-c", SHELL]],
    "terminals, one after the other": [["sh", "-c", SHELL.replace("SECONDS", "HALF")]] * 2,
    "a busy process that ends": [left_behind(BUSY)],
    "a busy process that falls asleep": [left_behind(BUSY + "time.sleep(100000)")],
    "a test in progress": [left_behind(RUN)],
    SHORT: [["sh", "-c", NOTE]] * 6,
}
"""Work in a session after its start, as commands for `kubectl exec`, one after the other."""

TOLD = re.compile(r"^(began|ended|failed) ([0-9.]+)$", re.MULTILINE)


@dataclass
class Run:
    """One session with its work and its end. Times are seconds since 1970."""

    name: str
    work: str
    timeout: int
    ready_at: float = 0.0
    pod: str = ""
    told: str | None = None
    """The pod's termination message, written by the work. None until the pod has ended."""
    deleted_at: float = 0.0

    @property
    def times(self) -> list[tuple[str, float]]:
        """Return the times that the work recorded: began, ended, failed. If it recorded none, the message is the end of the agent's log."""
        return [(found[1], float(found[2])) for found in TOLD.finditer(self.told or "")]

    @property
    def cut_off(self) -> bool:
        """Return whether the session was deleted during its work."""
        words = [what for what, _ in self.times]
        return words.count("began") > words.count("ended") + words.count("failed")

    @property
    def never_opened(self) -> bool:
        """Return whether the session had work and ended before the work began."""
        return bool(WORK[self.work]) and not self.times

    @property
    def late(self) -> float:
        """Return the seconds from the end of its last work plus the timeout to its deletion. A start counts as work. Negative is early."""
        return self.deleted_at - max([self.ready_at, *(at for _, at in self.times)]) - self.timeout

    @property
    def early(self) -> bool:
        return self.cut_off or self.late < 0


@dataclass
class Api:
    """The API server, through `kubectl proxy`."""

    address: str
    namespace: str
    runs: dict[str, Run]
    changed: threading.Condition = field(default_factory=threading.Condition)

    def create(self, plural: str, kind: str, name: str, spec: Object) -> None:
        connection = http.client.HTTPConnection(self.address)
        body = {"apiVersion": GROUP, "kind": kind, "metadata": {"name": name}, "spec": spec}
        connection.request(
            "POST", f"/apis/{GROUP}/namespaces/{self.namespace}/{plural}", json.dumps(body), {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        if answer.status != 201:
            raise RuntimeError(f"{kind} {name}: {answer.read().decode()}")
        connection.close()

    def watch(self) -> None:
        """Read watch events of sessions and pods while the proxy runs."""
        for path, seen in ((f"/apis/{GROUP}", self._session), ("/api/v1", self._pod)):
            plural = "pods" if path == "/api/v1" else "computesessions"
            connection = http.client.HTTPConnection(self.address)
            connection.request("GET", f"{path}/namespaces/{self.namespace}/{plural}?watch=true&timeoutSeconds=86400")
            threading.Thread(target=self._read, args=(connection.getresponse(), seen), daemon=True).start()

    def until(self, what: str, run: Run, seconds: float) -> None:
        """Wait until the run has this attribute set."""
        with self.changed:
            if not self.changed.wait_for(lambda: getattr(run, what), seconds):
                raise RuntimeError(f"session {run.name} ({run.work}, {run.timeout} s): no {what} after {seconds:.0f} s")

    def _read(self, stream: Any, seen: Any) -> None:
        while line := stream.readline():
            now, event = time.time(), json.loads(line)
            with self.changed:
                seen(event["type"], event["object"], now)
                self.changed.notify_all()

    def _session(self, event: str, session: Object, now: float) -> None:
        run, status = self.runs[session["metadata"]["name"]], session.get("status", {})
        if event == "DELETED":
            run.deleted_at = now
        elif status.get("phase") == "Running" and not run.pod:
            run.ready_at, run.pod = datetime.fromisoformat(status["readyAt"]).timestamp(), status["podName"]

    def _pod(self, event: str, pod: Object, _: float) -> None:
        run = self.runs[pod["metadata"]["ownerReferences"][0]["name"]]
        for container in pod["status"].get("containerStatuses", []):
            if ended := container["state"].get("terminated"):
                run.told = ended.get("message", "")
        if event == "DELETED" and run.told is None:
            run.told = ""


def live(run: Run, api: Api, kubectl: Kubectl) -> None:
    """Run one session from its creation to its end."""
    environment = "napping" if run.work == "a test in progress" else "plain"
    idle = {"action": "Delete", "timeoutSeconds": run.timeout}
    api.create("computesessions", "ComputeSession", run.name, {"environmentRef": {"name": environment}, "user": run.name, "idle": idle})
    api.until("pod", run, 900)
    seconds = random.uniform(0.5, 2.0) * run.timeout
    for command in WORK[run.work]:
        if run.work == SHORT:
            time.sleep(random.uniform(0.1, 0.7) * run.timeout)
        words = [word.replace("SECONDS", f"{seconds:.2f}").replace("HALF", f"{seconds / 2:.2f}") for word in command]
        kubectl.attempt("exec", run.pod, "--", *words)
    api.until("deleted_at", run, run.timeout * 4 + 120)
    with api.changed:
        if not api.changed.wait_for(lambda: run.told is not None, 120):
            raise RuntimeError(f"the pod of session {run.name} did not end")


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * len(ordered) + 0.5) - 1)]


def report(runs: list[Run], at_once: int, load: list[float]) -> None:
    """Print the table, and below it the early sessions and the latest ones."""
    print(
        f"Measured {datetime.now(UTC):%Y-%m-%d}: {len(runs)} sessions, {at_once} at a time, timeouts of 5 to 60 s;"
        f" {os.cpu_count()} cores, on average {statistics.mean(load):.1f} processes wanting to run (at most {max(load):.1f}).\n"
    )
    print("| work | sessions | ended before the work began | deleted early | lateness p50 | p99 | max |\n|---|---|---|---|---|---|---|")
    for kind in [*WORK, "all"]:
        chosen = [run for run in runs if kind in (run.work, "all")]
        late = [run.late for run in chosen]
        print(
            f"| {kind} | {len(chosen)} | {sum(run.never_opened for run in chosen)} | {sum(run.early for run in chosen)}"
            f" | {statistics.median(late):.2f} s | {percentile(late, 0.99):.2f} s | {max(late):.2f} s |"
        )
    print()
    for run in sorted(runs, key=lambda run: -run.late)[:5]:
        print(f"latest: {tell(run)}")
    for run in runs:
        if run.early:
            print(f"EARLY: {tell(run)}{', while it worked' if run.cut_off else ''}")
        if any(what == "failed" for what, _ in run.times):
            print(f"the run failed: {tell(run)}")


def tell(run: Run) -> str:
    times = ", ".join(f"{what} {at - run.ready_at:.2f}" for what, at in run.times) or "no work"
    return (
        f"{run.name} ({run.work}, timeout {run.timeout} s) by {run.late:.2f} s; seconds after readyAt"
        f" {run.ready_at:.0f}: {times}, deleted {run.deleted_at - run.ready_at:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=200, help="sessions")
    parser.add_argument("--at-once", type=int, default=20, help="sessions that live at the same time")
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
    kinds = list(WORK)
    runs = {f"s{n}": Run(f"s{n}", kinds[n % len(kinds)], random.choice((5, 10, 20, 40, 60))) for n in range(arguments.n)}
    api = Api(proxy.stdout.readline().split()[-1], namespace, runs)
    load: list[float] = []
    over = threading.Event()

    def observe_load() -> None:
        while not over.wait(5):
            load.append(os.getloadavg()[0])

    try:
        files = {"flow.dag.yaml": FLOW, "nap.py": NODE}
        labels = {"flowsession.dev/source": "true"}
        flow = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "nap", "labels": labels}, "data": files}
        kubectl("apply", "-f", "-", stdin=json.dumps(flow))
        api.create("flowenvironments", "FlowEnvironment", "plain", {})
        api.create("flowenvironments", "FlowEnvironment", "napping", {"source": {"configMap": {"name": "nap"}}})
        api.watch()
        threading.Thread(target=observe_load, daemon=True).start()
        with ThreadPoolExecutor(arguments.at_once) as pool:
            list(pool.map(lambda run: live(run, api, kubectl), runs.values()))
    finally:
        over.set()
        proxy.kill()
        proxy.wait()
        kubectl("delete", "namespace", namespace, "--wait=false")
    report(list(runs.values()), arguments.at_once, load)


if __name__ == "__main__":
    main()
