"""Stands in for kubectl in a terminal: one start, or one run, that lasts until the file `done` exists."""

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path


def main() -> None:
    words = sys.argv[1:]
    with Path(sys.argv[0]).with_name("called").open("a") as called:
        called.write(" ".join(words) + "\n")
    if words[0] == "create" and "name" in words:
        Path(sys.argv[0]).with_name("given").write_text(sys.stdin.read())
    elif words[0] == "create":
        print(json.dumps({"status": {"userInfo": {"username": "ada"}}}))
    elif words[0] == "apply":
        manifests = json.load(sys.stdin)
        for manifest in manifests["items"]:
            manifest["metadata"]["generation"] = 1
        print(json.dumps(manifests))
    elif words[1].startswith("flowruns"):
        run(Path(sys.argv[0]).with_name("done"), watched="-w" in words)
    elif "-w" in words:
        start(Path(sys.argv[0]).with_name("done"))


def start(done: Path) -> None:
    """Print the changes of a session that starts."""
    began = now()
    stages = [{"name": "Scheduled", "startedAt": began, "seconds": 0.2}, {"name": "PackagesInstalled", "startedAt": began}]
    tell("Installing", "False", "installing 3 requirements", stages)
    while not done.exists():
        time.sleep(0.02)
    stages[1]["seconds"] = 0.5
    tell("Running", "True", "it runs", [*stages, {"name": "Ready", "startedAt": began, "seconds": 0.7}])


def run(done: Path, *, watched: bool) -> None:
    """Print the changes of a run over three lines, of which one fails."""
    thing = {"metadata": {"name": "answers"}, "spec": {}, "status": {"phase": "Running", "startedAt": now()}}
    thing["status"] |= {"lines": {"total": 3, "completed": 1, "failed": 0}, "progress": "1/3"}
    print(json.dumps({"type": "ADDED", "object": thing} if watched else thing), flush=True)
    if not watched:
        return
    while not done.exists():
        time.sleep(0.02)
    problem = {"line": 2, "message": "no such word"}
    end = {"phase": "Failed", "lines": {"total": 3, "completed": 2, "failed": 1}, "progress": "2/3, 1 failed", "errors": [problem]}
    thing["status"] |= {**end, "completedAt": now()}
    print(json.dumps({"type": "MODIFIED", "object": thing}), flush=True)


def tell(phase: str, status: str, message: str, stages: list[dict[str, object]]) -> None:
    """Print a change as kubectl does."""
    ready = {"type": "Ready", "status": status, "reason": "Any", "message": message, "observedGeneration": 1, "lastTransitionTime": now()}
    found = {"observedGeneration": 1, "phase": phase, "nodeName": "node-b", "stages": stages, "conditions": [ready]}
    thing = {"metadata": {"name": "chat", "generation": 1}, "spec": {}, "status": found}
    print(json.dumps({"type": "MODIFIED", "object": thing}, indent=2), flush=True)


def now() -> str:
    """Return the current time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


if __name__ == "__main__":
    main()
