"""The operator as its own process, which reaches the API server through the recorder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from apiserver.api import eventually
from apiserver.recorder import Recorder, _alive, kill_process
from localcluster.ports import free_port

CHECKOUT = Path(__file__).resolve().parents[2]
NAMESPACE = "flowsession-system"
RUNTIME_IMAGE = "runtime:test"
SETTINGS: dict[str, Any] = {
    "runtimeImage": RUNTIME_IMAGE,
    "agentVia": "Direct",
    "session": {
        "sizeName": "small",
        "requests": {"cpu": "100m", "memory": "64Mi"},
        "limits": {"memory": "1Gi"},
        "terminationGracePeriodSeconds": 1,
    },
}


class Zygote:
    """The process that operators are forked from."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(KUBECONFIG=str(kubeconfig)),  # the client library reads it when it is imported
            start_new_session=True,
        )

    def fork(self, order: dict[str, Any]) -> int:
        """Fork an operator and return its pid."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def stop(self) -> None:
        kill_process(self._process.pid)
        self._process.wait()


def environment(**more: str) -> dict[str, str]:
    """Return the tests' own environment without the variables that could lead the operator to another cluster."""
    kept = {name: value for name, value in os.environ.items() if name not in ("KUBECONFIG", "POD_NAMESPACE", "LOG_LEVEL")}
    return {**kept, "PYTHONPATH": str(CHECKOUT / "operator"), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **more}


class Operator:
    """The operator process that tests start, kill and start again. Only one runs at a time."""

    def __init__(self, zygote: Zygote, recorder: Recorder, *, folder: Path, archive: Path) -> None:
        self._zygote = zygote
        self._recorder = recorder
        self._folder = folder
        self._archive = archive
        self._edits_port = free_port()
        self._starts = 0
        self.pid = 0
        self.pristine = False
        """Whether the running process has default settings, so that another test may reuse it."""
        self._log_from = 0
        self.log = folder / "operator-0.log"
        recorder.kill = self.kill

    def start(self, *, settings: dict[str, Any] | None = None, constants: dict[str, float] | None = None, wait: bool = True) -> None:
        """Start it. With `wait`, return once it watches everything."""
        eventually(lambda: not self.running, what="the one before is gone")
        self._starts += 1
        self._log_from = 0
        self.pristine = settings is None and not constants
        self.log = self._folder / f"operator-{self._starts}.log"
        order = {
            "argv": self.arguments(settings or SETTINGS),
            "log": str(self.log),
            "constants": constants or {},
        }
        self.pid = self._zygote.fork(order)
        if wait:
            self.wait_until_watching()

    def go_on(self) -> None:
        """Start it, or reuse the healthy process of another test. Its log starts anew."""
        if self.running and self.pristine:
            self._log_from = self.log.stat().st_size
            self.wait_until_watching()
        else:
            self.kill()
            self.start()

    def command(self) -> tuple[list[str], dict[str, str]]:
        """Return the command that people start it with, and its environment."""
        return [sys.executable, "-m", "flowsession", *self.arguments(SETTINGS)], environment(KUBECONFIG=str(self._zygote.kubeconfig))

    def arguments(self, settings: dict[str, Any]) -> list[str]:
        file = self._folder / "settings.yaml"
        file.write_text(yaml.safe_dump(settings))
        edits = ["--edits-port", str(self._edits_port), "--edits-address", f"127.0.0.1:{self._edits_port}"]
        return [
            *("--settings", str(file), "--agent", str(self._archive), "--port", "0", "--namespace", NAMESPACE, "--log-level", "debug"),
            *edits,
        ]

    def wait_until_watching(self) -> None:
        deadline = time.monotonic() + 20
        while not all(
            self._recorder.watching(kind)
            for kind in (
                "computesessions",
                "flowenvironments",
                "pods",
                "configmaps",
                "computeinstances",
                "flowruns",
                "vmsizes",
                "resourcequotas",
            )
        ):
            assert self.running, f"the operator ended: {self.last_words()}"
            assert time.monotonic() < deadline, f"the operator does not watch: {self.last_words()}"
            time.sleep(0.01)

    def kill(self) -> None:
        """Send SIGKILL and return once the process is gone."""
        if self.pid:
            kill_process(self.pid)

    def stop(self) -> None:
        """Send SIGTERM, as Kubernetes does to stop a pod, then SIGKILL if it is still running after 10 s."""
        if not self.running:
            return
        os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + 10
        while self.running and time.monotonic() < deadline:
            time.sleep(0.01)
        self.kill()

    def restart(self, **options: Any) -> None:
        """Kill it with -9 and start a new one."""
        self.kill()
        self.start(**options)

    @property
    def running(self) -> bool:
        return bool(self.pid) and _alive(self.pid)

    def lines(self, *levels: str) -> list[dict[str, Any]]:
        """Return the current process's log entries at these levels."""
        found = []
        for line in self._text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {"level": "error", "message": line}
            if not levels or entry.get("level") in levels:
                found.append(entry)
        return found

    def last_words(self) -> str:
        return self._text()[-3000:] or "(no log)"

    def _text(self) -> str:
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(self._log_from)
            return file.read().decode(errors="replace")
