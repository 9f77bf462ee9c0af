"""kubectl against one cluster."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcluster.say import CannotContinue
from localcluster.shell import run

Object = dict[str, Any]


@dataclass(frozen=True)
class Kubectl:
    """`namespace` is the namespace of all namespaced objects."""

    program: Path
    kubeconfig: Path
    namespace: str = "default"

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return its output. Raises CannotContinue with its message if it fails."""
        return run(*self._command(), *arguments, stdin=stdin)

    def get(self, kind: str, name: str) -> Object | None:
        """Return the object, or None if it does not exist."""
        text = self("get", kind, name, "--ignore-not-found", "-o", "json")
        found: Object | None = json.loads(text) if text.strip() else None
        return found

    def list(self, kind: str, *arguments: str) -> list[Object]:
        """Return all objects of a kind in the namespace."""
        items: list[Object] = json.loads(self("get", kind, *arguments, "-o", "json"))["items"]
        return items

    def show(self, *arguments: str) -> None:
        """Run the command and print its output for the person, indented, below the command line as they would type it."""
        print(f"    $ kubectl {' '.join(arguments)}", flush=True)
        print_indented(self(*arguments))

    def attempt(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command and return its result, whether it succeeded or not."""
        command = [*map(str, self._command()), *arguments]
        try:
            return subprocess.run(command, input=stdin, capture_output=True, text=True, errors="replace", check=False)
        except FileNotFoundError:
            raise CannotContinue(f"the program {self.program} is not there any more; run this again.") from None

    def _command(self) -> tuple[str | Path, ...]:
        return (self.program, "--kubeconfig", self.kubeconfig, "--namespace", self.namespace)


def print_indented(text: str) -> None:
    """Print a block of another program's output."""
    for line in text.rstrip().splitlines():
        print(f"    {line}".rstrip(), flush=True)
