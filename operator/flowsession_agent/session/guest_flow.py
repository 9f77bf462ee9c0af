"""A flow of another environment that is run in this session: write its folder, and check that its requirements are satisfied here.

Nothing is installed for it. If the session lacks a requirement, that is reported, and the run does not begin.
"""

from __future__ import annotations

import json
import os

from flowsession_agent.errors import ApiError
from flowsession_agent.session import flow_folder, run_order
from flowsession_protocol import limits
from flowsession_protocol.masking import masked
from flowsession_protocol.variables import TRACING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, Mapping

    from flowsession_agent.install.requirement_lines import Line
    from flowsession_agent.session.job import Job
    from flowsession_protocol import messages

SECONDS = 120
MOST_NAMED = 5
REMOTE = ("http://", "https://")


def unpack(files: Mapping[str, str], folder: str) -> str:
    """Write the flow folder below the run's own folder and return its path. Raises OSError."""
    root = os.path.join(folder, "guest-flow")
    os.makedirs(root, exist_ok=True)
    for name, content in files.items():
        data = run_order.content_of(content)
        flow_folder.put(root, name, lambda file, data=data: file.write(data))  # type: ignore[misc]
    return root


def check(asked: messages.Requirements | None, root: str, folder: str, *, job: Job, python: str, venvs: str) -> None:
    """Raise ApiError SessionIncompatible unless the installed packages satisfy the requirements. Its `errors` list the unsatisfied ones.

    `venvs` is the folder of the session's layers. Raises OSError.
    """
    from flowsession_agent.scripts import SATISFIED
    from flowsession_agent.session.flow_test import last_words

    if asked is None:
        return
    lines, unseen = _lines(asked, root, folder)
    given = os.path.join(folder, "requirements.json")
    with open(given, "w", encoding="utf-8") as file:
        json.dump(lines, file)
    layer = os.path.dirname(os.path.dirname(python)) + "/" if python.startswith(venvs + "/") else ""
    outcome = job.run([python, "-I", "-c", SATISFIED, layer, given])
    try:
        answer = json.loads(outcome.stdout)
        found = [*unseen, *map(str, answer["unsatisfied"])]
        count, asked_for = int(answer["count"]) + len(unseen), int(answer["asked"]) + len(unseen)
    except (ValueError, KeyError, TypeError):
        why = last_words(outcome.stderr) or f"exit code {outcome.exit_code}"
        raise ApiError(422, "SessionIncompatible", f"its packages can't be compared with the requirements: {why}") from None
    if found:
        few = "; ".join(found[:MOST_NAMED]) + ("; ..." if count > MOST_NAMED else "")
        message = f"{count} of {asked_for} requirements {'is' if count == 1 else 'are'} not satisfied by what is installed there: {few}"
        raise ApiError(422, "SessionIncompatible", message[: limits.PROBLEM], errors=[{"message": each} for each in found])


def traced(environ: Mapping[str, str], environment: str) -> dict[str, str]:
    """Return the environment variables, with the run's spans attributed to its own environment."""
    wanted = json.loads(environ.get(TRACING) or "{}")
    if not wanted:
        return dict(environ)
    resource = {**wanted["resource"], "flowsession.environment": environment}
    return {**environ, TRACING: json.dumps({**wanted, "resource": resource})}


def _lines(asked: messages.Requirements, root: str, folder: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return every line that names a distribution, constraints included, and sentences about files that only an installer reads."""
    from flowsession_agent.install import requirement_lines

    place, name = (root, asked["path"]) if asked["path"] else (folder, "requirements.txt")
    path = os.path.join(place, name)
    if not asked["path"] or not os.path.isfile(path):
        flow_folder.put(place, name, lambda file: file.write(asked["text"].encode()))
    lines = requirement_lines.read(path, root=root, shown=asked["shown"])
    found = [(line, False) for line in lines]
    for line in lines:
        folder = os.path.dirname(path if line.file == asked["shown"] else os.path.join(root, line.file))
        for target in _targets(line, "--constraint"):
            constraints = os.path.join(folder, target)
            found += [(one, True) for one in requirement_lines.read(constraints, root=root, shown=os.path.relpath(constraints, root))]
    unmet = [{"text": line.text, "place": line.place, "constraint": constraint} for line, constraint in found if line.body]
    unseen = [
        f"'{option} {masked(target)}' ({line.place}): only an installer reads it"
        for line, _ in found
        for option in ("--requirement", "--constraint")
        for target in line.values(option)
        if target.startswith(REMOTE)
    ]
    return unmet, unseen


def _targets(line: Line, option: str) -> Iterator[str]:
    return (target for target in line.values(option) if not target.startswith(REMOTE))
