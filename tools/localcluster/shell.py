"""Runs other programs and turns their failures into one sentence."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from localcluster.say import CannotContinue


def run(*command: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, stdin: str | None = None) -> str:
    """Run the command and return its stdout. `env` is added to our environment. Raises CannotContinue with its last lines."""
    words = [str(word) for word in command]
    try:
        result = subprocess.run(
            words, env={**os.environ, **(env or {})}, cwd=cwd, input=stdin, capture_output=True, text=True, errors="replace", check=False
        )
    except FileNotFoundError:
        raise CannotContinue(f"the program {words[0]} is not installed; install it and run this again.") from None
    if result.returncode != 0:
        last = " / ".join((result.stderr.strip() or result.stdout.strip()).splitlines()[-3:]) or "it printed nothing"
        raise CannotContinue(f"`{' '.join(words)}` failed with exit code {result.returncode}: {last}")
    return result.stdout


def succeeds(*command: str | Path) -> bool:
    """Return whether the command exists and exits 0. Its output is discarded."""
    try:
        return subprocess.run([str(word) for word in command], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
