"""What is installed in the session, asked of its Python when someone wants to know, and remembered until the next install."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading

from flowsession_agent.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flowsession_agent.server.state import State
    from flowsession_agent.session.children import Children
    from flowsession_agent.settings import Home
    from flowsession_protocol.messages import Package

SECONDS = 60


class Packages:
    """The session's packages by layer."""

    def __init__(self, *, home: Home, state: State, children: Children) -> None:
        self._home = home
        self._state = state
        self._children = children
        self._lock = threading.Lock()
        self._venv = ""
        self._names: list[str] = []
        self._known: list[Package] | None = None
        self._counted = True

    @property
    def python(self) -> str:
        """The Python that sees the session's packages: by its layer's own path, so that a later install doesn't change it underneath."""
        return os.path.join(self._home.venvs, self._venv, "bin", "python") if self._venv else sys.executable

    def installed(self, *, venv: str, names: list[str], report: dict[str, Any] | None = None) -> None:
        """The session now uses the layer `venv`, for requirements that name `names`; `report` is what the install saw."""
        self._venv, self._names = venv, names
        self._known = report["packages"] if report else None
        self._counted = self._known is not None
        self._state.packages_count = len(self._known or ())

    def count(self) -> None:
        """Read the packages if nobody has since the last install; tried once, since whoever asks for the list learns what is wrong."""
        if not self._counted:
            self._counted = True
            with contextlib.suppress(ApiError, OSError):
                self.read()

    def read(self) -> list[Package]:
        """Return the list of `GET /v1/packages`; raises ApiError with 500 when the session's Python can't tell."""
        from flowsession_agent.scripts import REPORT
        from flowsession_agent.session.job import Job

        with self._lock:
            known, venv = self._known, self._venv
            if known is not None:
                return known
            layer = os.path.join(self._home.venvs, venv) + "/" if venv else ""
            job = Job(self._children, environ=dict(os.environ), cwd=self._home.root, seconds=SECONDS)
            outcome = job.run([self.python, "-I", "-c", REPORT, layer, json.dumps(self._names)])
            try:
                found: list[Package] = json.loads(outcome.stdout)["packages"]
            except (ValueError, KeyError, TypeError):
                last = (outcome.stderr.strip().splitlines() or ["no output"])[-1]
                raise ApiError(500, "InternalError", f"{self.python} can't list its packages: {last[:300]}") from None
            if self._venv == venv:  # else an install came in between
                self._known = found
                self._state.packages_count = len(found)
            return found
