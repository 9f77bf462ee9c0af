"""Whether short commands and edits keep a session, over very many sessions, with operators that die. Prints a Markdown table.

`make bench-idle` runs it after the measurement on kubelets. Here the kubelet is played: a real etcd and API server, the real operator,
killed with -9 and started again every half a minute or so, and the real agent of each session as PID 1 of a pid namespace. Commands are
executed into it by nsenter, without a trace in a cgroup: `true` takes one number of the namespace, the least that a runtime can take, and
beside a loop a command takes as many as runc's. A session is early when it is deleted, or refuses a command or edit, before its timeout has
passed since its last one was begun (`nothing`: since it was Ready by its status, in whole seconds, or since the loop was left behind).

A command or edit that was not done within the timeout of the one before, because this machine is busy, proves nothing: the session may end
meanwhile. Its session is judged by the one before, without any more, and counted as cut off.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import urllib3

from apiserver.agents import RealAgent
from apiserver.api import Refused, eventually
from apiserver.background import Background
from apiserver.conftest import PrivateControlPlane, private_cluster
from apiserver.kubelet import Kubelet
from apiserver.lab import Lab
from apiserver.operator_process import Operator, Zygote
from apiserver.recorder import Recorder
from flowsession_agent import build
from localcluster import kubeconfig
from localcluster.kubeconfig import Api as Access

IN_NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
LOOP = "setsid sh -c 'while :; do date; sleep 0.7; done' </dev/null >/dev/null 2>&1 & exit 0"
"""A loop left behind by a closed terminal. Its `date` ends before the agent can see it, and it uses less than 1 % of a core."""
AS_RUNC = "import threading; [threading.Thread(target=int).start() for _ in range(4)]"
"""Uses as many pids of the namespace as runc does for one command."""


@dataclass
class Run:
    """One session. Times are by time.monotonic, 0 until set."""

    name: str
    work: str
    timeout: int
    used_at: float = 0.0
    uses: int = 0
    deleted_at: float = 0.0
    cut_off: bool = False
    refused: bool = False

    @property
    def early(self) -> bool:
        """Return whether it ended although somebody had used it within its timeout."""
        return self.refused or self.late < 0

    @property
    def late(self) -> float:
        return self.deleted_at - self.used_at - self.timeout


def execute(agent: RealAgent, *command: str) -> bool:
    """Run a command as a runtime does: in the namespaces of PID 1, without a parent there."""
    entered = ["nsenter", "--target", str(agent.child), "--pid", "--mount", *command]
    return subprocess.run(entered, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def edit(agent: RealAgent) -> bool:
    try:
        with (agent.home / "flow" / "notes.txt").open("a") as file:
            file.write("x\n")
    except OSError:
        return False
    return True


WORK: dict[str, tuple[bool, Callable[[RealAgent], bool] | None]] = {
    "nothing": (False, None),
    "nothing, beside a loop that was left behind": (True, None),
    "short commands": (False, lambda agent: execute(agent, "true")),
    "short commands beside such a loop": (True, lambda agent: execute(agent, sys.executable, "-IS", "-c", AS_RUNC)),
    "edits of the flow folder": (False, edit),
}
"""Whether a loop is left behind, and the use that is repeated."""


class Bench:
    """The cluster and its sessions."""

    def __init__(self, lab: Lab, runs: dict[str, Run], *, seconds: float) -> None:
        self.lab = lab
        self.runs = runs
        self.last_start = time.monotonic() + seconds
        self.over = threading.Event()
        self.restarts = 0

    def watch(self) -> None:
        """Record deletions as the API server reports them."""
        path, version = self.lab.path("computesessions"), ""
        while not self.over.is_set():
            version = version or self.lab.api.get(path)["metadata"]["resourceVersion"]
            try:
                for event in self.lab.api.watch(f"{path}?watch=true&resourceVersion={version}"):
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] == "DELETED":
                        self.runs[event["object"]["metadata"]["name"]].deleted_at = time.monotonic()
            except (Refused, OSError, KeyError, urllib3.exceptions.HTTPError):
                continue

    def kill_operators(self) -> None:
        while not self.over.wait(random.uniform(20, 40)):
            self.lab.operator.restart(wait=False)  # on a busy machine it may take a while
            self.restarts += 1

    def live(self, run: Run) -> None:
        """Run one session from its creation to its end, unless it is too late to start one."""
        if time.monotonic() > self.last_start:
            return
        self.lab.create_session(run.name, environment="env", idle={"action": "Delete", "timeoutSeconds": run.timeout})
        agent = eventually(lambda: self._agent(run), what=f"{run.name} is ready", seconds=300)
        loop, use = WORK[run.work]
        run.used_at = time.monotonic() - (time.time() - self._ready_at(run))
        if loop:
            run.used_at = time.monotonic()
            execute(agent, "sh", "-c", LOOP)
        until = time.monotonic() + random.uniform(1.0, 3.0) * run.timeout
        while use is not None and time.monotonic() < until:
            time.sleep(max(0.0, run.used_at + random.uniform(0.1, 0.8) * run.timeout - time.monotonic()))
            began = time.monotonic()
            done = not run.deleted_at and use(agent)
            run.cut_off = time.monotonic() > run.used_at + run.timeout
            run.refused = not done and not run.cut_off
            if run.cut_off or run.refused:
                break
            run.used_at, run.uses = began, run.uses + 1
        eventually(lambda: run.deleted_at, what=f"{run.name} ({run.work}) is deleted", seconds=4 * run.timeout + 180)

    def _ready_at(self, run: Run) -> float:
        return datetime.fromisoformat(self.lab.session(run.name)["status"]["readyAt"]).timestamp()

    def _agent(self, run: Run) -> RealAgent | None:
        session = self.lab.session(run.name)
        status = session.get("status") or {}
        if status.get("phase") != "Running":
            return None
        pod = self.lab.api.get(self.lab.path("pods", status["podName"]))
        agent = self.lab.kubelet.agents.get(pod["metadata"]["uid"])
        assert isinstance(agent, RealAgent)
        return agent


def report(bench: Bench, at_once: int, load: list[float]) -> int:
    """Print the table, and return how many were early."""
    runs = [run for run in bench.runs.values() if run.deleted_at]
    early = [run for run in runs if run.early]
    when = f"{datetime.now(UTC):%Y-%m-%d}"
    busy = f"on average {statistics.mean(load):.1f} processes wanting to run (at most {max(load):.1f})"
    print(f"Measured {when}: {len(runs)} sessions, {at_once} at a time, timeouts of 5 to 20 s, {bench.restarts} operators killed;")
    print(f"{os.cpu_count()} cores, {busy}.\n")
    print("| work | sessions | commands or edits | cut off | deleted early | lateness p50 | p99 | max |\n|---|---|---|---|---|---|---|---|")
    for kind in [*WORK, "all"]:
        chosen = [run for run in runs if kind in (run.work, "all")]
        if not chosen:
            continue
        late = sorted(run.late for run in chosen)
        uses, cut_off = sum(run.uses for run in chosen), sum(run.cut_off for run in chosen)
        print(
            f"| {kind} | {len(chosen)} | {uses} | {cut_off} | {sum(run.early for run in chosen)}"
            f" | {statistics.median(late):.2f} s | {late[min(len(late) - 1, round(0.99 * len(late)))]:.2f} s | {late[-1]:.2f} s |"
        )
    for run in early:
        print(f"EARLY: {run}, by {-run.late:.2f} s")
    return len(early)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1000, help="sessions")
    parser.add_argument("--at-once", type=int, default=40, help="sessions that live at the same time")
    parser.add_argument("--kinds", nargs="+", choices=list(WORK), default=list(WORK), help="kinds of work, of those in the table")
    parser.add_argument("--minutes", type=float, default=60, help="after these no further session is started")
    arguments = parser.parse_args()
    random.seed(1)
    kinds, load = arguments.kinds, [os.getloadavg()[0]]
    runs = {f"s{n}": Run(f"s{n}", kinds[n % len(kinds)], random.choice((5, 10, 20))) for n in range(arguments.n)}
    folder = Path(tempfile.mkdtemp(prefix="fs-idle-"))
    background = Background()
    numbers = iter(range(10 * arguments.n))
    try:
        with private_cluster(PrivateControlPlane, ("etcd", "kube-apiserver", "kube-controller-manager")) as cluster:
            recorder = Recorder(background, upstream=cluster.plane.server, ca=cluster.plane.ca)
            access = Access(recorder.url, cluster.plane.ca, cluster.plane.token)
            zygote = Zygote(kubeconfig.write(cluster.folder / "operator.kubeconfig", access, user="operator"))
            build.build(str(cluster.folder / "agent.pyz"))
            operator = Operator(zygote, recorder, folder=cluster.folder, archive=cluster.folder / "agent.pyz")
            kubelet = Kubelet(cluster.api, lambda: RealAgent(background, folder / f"agent{next(numbers)}", prefix=IN_NAMESPACE))
            bench = Bench(Lab(cluster.api, recorder, operator, kubelet), runs, seconds=60 * arguments.minutes)
            try:
                operator.start()
                bench.lab.environment_of_flow()
                for work in (bench.watch, bench.kill_operators):
                    threading.Thread(target=work, daemon=True).start()
                with ThreadPoolExecutor(arguments.at_once) as pool:
                    for _ in pool.map(bench.live, runs.values()):
                        load.append(os.getloadavg()[0])
            finally:
                bench.over.set()
                kubelet.stop()
                operator.kill()
                zygote.stop()
                recorder.stop()
    finally:
        background.stop()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if report(bench, arguments.at_once, load) else 0)


if __name__ == "__main__":
    main()
