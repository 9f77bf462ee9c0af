"""A flow folder and edits to it, for the tests of edits."""

from pathlib import Path
from typing import Any

from .support import Agent

PUSHED = {"flow.dag.yaml": b"nodes: []", "a.py": b"print(1)", "lib/b.py": b"pass", "old.txt": b"old"}


NONE = {"count": 0, "files": [], "bytes": 0, "revision": "", "offered": "", "restored": False}


def edits(agent: Agent) -> dict[str, Any]:
    found: dict[str, Any] = agent.state()["edits"]
    return found


def flow(agent: Agent) -> Path:
    return agent.home / "flow"


def edit_everything(agent: Agent) -> None:
    folder = flow(agent)
    (folder / "a.py").write_bytes(b"print(2)")
    (folder / "new").mkdir()
    (folder / "new" / "ünï.bin").write_bytes(bytes(range(256)))
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("/nowhere/at all")
    (folder / "lib" / "b.py").chmod(0o755)
    (folder / "old.txt").unlink()


EVERYTHING = ["a.py", "lib/b.py", "link", "new/ünï.bin", "old.txt (deleted)", "run.sh"]


def listing(agent: Agent) -> dict[str, Any]:
    """Return every file of the flow folder with its exec bit and content, and every link with its target."""
    found: dict[str, Any] = {}
    for path in flow(agent).rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(flow(agent)))] = str(path.readlink())
        elif path.is_file():
            found[str(path.relative_to(flow(agent)))] = (bool(path.stat().st_mode & 0o100), path.read_bytes())
    return found
