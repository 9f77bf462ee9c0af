"""How long `kubectl flow` takes to print its help and to list sessions, compared with kubectl itself, on the current cluster.

    PYTHONPATH=tools python bench/cli.py

Wall-clock medians of alternating calls, as installed with this Python and as a release's one file. Prints what docs/figures.md holds.
Writes only to a temporary folder.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from localcluster import binaries
from release import __main__ as release

CALLS = 20
LISTED = "computesessions.flowsession.dev"


def main() -> int:
    """Measure, print, and return 0."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        release.main([str(folder / "dist"), "https://releases.example.com/flowsession"])
        environ = _environ(folder)
        kubectl = shutil.which("kubectl", path=environ["PATH"])
        if kubectl is None:
            sys.exit("kubectl is not on the PATH")
        installed, one_file = (
            [str(Path(sys.executable).with_name("kubectl-flow"))],
            [sys.executable, str(folder / "dist" / release.PROGRAM)],
        )
        calls = {
            "kubectl --help": [kubectl, "--help"],
            "kubectl flow --help": [*installed, "--help"],
            "kubectl flow --help, one file": [*one_file, "--help"],
            "kubectl get": [kubectl, "get", LISTED],
            "kubectl flow ls": [*installed, "ls"],
            "kubectl flow ls, one file": [*one_file, "ls"],
            "kubectl flow ls, through kubectl": [kubectl, "flow", "ls"],
        }
        took = _measured(calls, environ)
    print(f"| call | p50 | against the same of kubectl |\n|---|---|---|\n{_rows(took)}")
    print(f"\nn = {CALLS}, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    return 0


def _environ(folder: Path) -> dict[str, str]:
    """Return the environment with the cluster's kubectl, if built, and a fresh cache."""
    path = f"{Path(sys.executable).parent}:{binaries.install_folder()}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "XDG_CACHE_HOME": str(folder / "cache")}


def _measured(calls: dict[str, list[str]], environ: dict[str, str]) -> dict[str, list[float]]:
    """Return the seconds of each call, except each first one, which fills caches."""
    took: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(CALLS + 1):
        for name, words in calls.items():
            began = time.perf_counter()
            subprocess.run(words, env=environ, capture_output=True, check=True)
            if number:
                took[name].append(time.perf_counter() - began)
    return took


def _rows(took: dict[str, list[float]]) -> str:
    medians = {name: statistics.median(values) for name, values in took.items()}
    beside = {name: medians["kubectl --help" if "--help" in name else "kubectl get"] for name in medians}
    return "\n".join(f"| {name} | {value * 1000:.0f} ms | {value / beside[name]:.1f} x |" for name, value in medians.items())


if __name__ == "__main__":
    sys.exit(main())
