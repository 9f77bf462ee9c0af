"""What a finished layer is put to before anybody uses it: `pip check` compared with before, and an import of prompt flow."""

from __future__ import annotations

import json

from flowsession_agent.install import failures
from flowsession_agent.install.failures import Failure
from flowsession_agent.requirement_lines import normalise
from flowsession_agent.scripts import REPORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from flowsession_agent.install.venvs import Layer
    from flowsession_agent.job import Outcome


class Broken(Exception):
    """The layer breaks what worked before; `outcome` is the command's that showed it, where that is what to tell."""

    def __init__(self, message: str, *, outcome: Outcome | None = None) -> None:
        super().__init__(message)
        self.failure = Failure("Broken", message)
        self.outcome = outcome


def prove(layer: Layer, names: list[str], *, run: Callable[[list[str]], Outcome]) -> dict[str, Any]:
    """The report on `layer` (see report.py), for requirements that name `names`. Raises Broken, and what `run` raises."""
    outcome = run([layer.python, "-I", "-c", REPORT, layer.path + "/", json.dumps(names)])
    try:
        report: dict[str, Any] = json.loads(outcome.stdout)
    except ValueError:
        raise Broken(f"Installed, but Python can't list its packages any more: {_last(outcome)[:300]}.") from None
    module = _smoke_test(report)
    if module:
        # No looking for garbage: there is none, and it would take a fifth of the time.
        outcome = run([layer.python, "-I", "-c", f"import gc; gc.disable(); import {module}"])
        if outcome.exit_code != 0:
            last = failures.redact(_last(outcome))[:300]
            raise Broken(f"Installed, but prompt flow can't be imported any more: {last}.", outcome=outcome)
    return report


def _smoke_test(report: dict[str, Any]) -> str:
    """What to import (1.3 s), empty when the layer hides no module of the image and brings no prompt flow."""
    packages = {normalise(package["name"]): package for package in report["packages"]}
    brought = any(name.startswith("promptflow") and package["layer"] != "image" for name, package in packages.items())
    if not report["shadowed"] and not brought:
        return ""
    return "promptflow.client" if "promptflow-devkit" in packages else "promptflow.core" if "promptflow-core" in packages else ""


def _last(outcome: Outcome) -> str:
    return (outcome.stderr.strip().splitlines() or ["no output"])[-1]
