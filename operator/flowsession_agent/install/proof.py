"""Verify a finished layer before it is used: compare `pip check` with its result without the layer, and import prompt flow."""

from __future__ import annotations

import json

from flowsession_agent.install.failures import Failure
from flowsession_agent.scripts import REPORT, SMOKE
from flowsession_protocol.masking import masked
from flowsession_protocol.requirements import normalise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Sequence

    from flowsession_agent.install.requirement_lines import Line
    from flowsession_agent.install.venvs import Layer
    from flowsession_agent.session.job import Outcome


class Broken(Exception):
    """The layer breaks what worked before. `outcome`: of the command that showed it, if its output is to be reported."""

    def __init__(self, message: str, *, outcome: Outcome | None = None) -> None:
        super().__init__(message)
        self.failure = Failure("Broken", message)
        self.outcome = outcome


def prove(layer: Layer, lines: Sequence[Line], *, run: Callable[[list[str]], Outcome]) -> dict[str, Any]:
    """Return the report on `layer` (see report.py), for the requirements `lines`. Raises Broken, and what `run` raises."""
    names = sorted({line.name for line in lines if line.name})
    outcome = run([layer.python, "-I", "-c", REPORT, layer.path + "/", json.dumps(names)])
    try:
        report: dict[str, Any] = json.loads(outcome.stdout)
    except ValueError:
        raise Broken(f"Installed, but Python can't list its packages any more: {_last(outcome)[:300]}.") from None
    module = _smoke_test(report)
    if module:
        outcome = run([layer.python, "-I", "-c", SMOKE, module, layer.path + "/"])
        if outcome.exit_code != 0:
            raise Broken(_explained(outcome, report, lines), outcome=outcome)
    return report


def _explained(outcome: Outcome, report: dict[str, Any], lines: Sequence[Line]) -> str:
    """Return a message with the first error, the package and the line that it points to, and the way out."""
    try:
        answer = json.loads(outcome.stdout.strip().splitlines()[-1])
        error, name = str(answer["error"]), normalise(str(answer["culprit"]))
    except (ValueError, LookupError, TypeError):
        error, name = _last(outcome), ""
    message = f"Installed, but prompt flow can't be imported any more: {masked(error)[:300].rstrip('.')}."
    package = next((package for package in report["packages"] if normalise(package["name"]) == name), None)
    if package is None:
        return f"{message} Leave out, or give other versions of, the packages that the image has too."
    line = _line_behind(name, report, lines)
    brought = "" if line is None else f", asked for by {masked(line.text)[:100]!r} ({line.place})"
    if line is not None and line.name != name:
        brought = f", which {masked(line.text)[:100]!r} ({line.place}) brings"
    way = "the image lacks it: leave it out, or take another version"
    if package.get("replaces"):
        way = f"the image has {package['replaces']}: leave out the version, or allow that one"
    return f"{message} The cause is {package['name']} {package['version']}{brought}; {way}."


def _line_behind(name: str, report: dict[str, Any], lines: Sequence[Line]) -> Line | None:
    """Return the line that names the package, or else one that names a package requiring it, directly or not."""
    asked = {line.name: line for line in lines if line.name}
    by = {normalise(package["name"]): list(map(normalise, package["requiredBy"])) for package in report["packages"]}
    waiting, known = [name], {name}
    while waiting:
        name = waiting.pop(0)
        if name in asked:
            return asked[name]
        waiting += [one for one in by.get(name, ()) if one not in known]
        known.update(waiting)
    return None


def _smoke_test(report: dict[str, Any]) -> str:
    """Return the module to import (1.3 s); empty if the layer neither hides a module of the image nor has prompt flow."""
    packages = {normalise(package["name"]): package for package in report["packages"]}
    brought = any(name.startswith("promptflow") and package["layer"] != "image" for name, package in packages.items())
    if not report["shadowed"] and not brought:
        return ""
    return "promptflow.client" if "promptflow-devkit" in packages else "promptflow.core" if "promptflow-core" in packages else ""


def _last(outcome: Outcome) -> str:
    return (outcome.stderr.strip().splitlines() or ["no output"])[-1]
