"""The list of the session's packages, read by its Python on demand and cached until the next install."""

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
        """The Python that sees the session's packages. The path is its layer's, so that a later install doesn't change it while in use."""
        return os.path.join(self._home.venvs, self._venv, "bin", "python") if self._venv else sys.executable

    def installed(self, *, venv: str, names: list[str], report: dict[str, Any] | None = None) -> None:
        """Record that the session uses the layer `venv`, for requirements that name `names`. `report` is the install's."""
        self._venv, self._names = venv, names
        self._known = report["packages"] if report else None
        self._counted = self._known is not None
        self._state.packages_count = len(self._known or ())

    def count(self) -> None:
        """Read the packages unless that was done since the last install. Tried only once: callers of `read` get the error."""
        if not self._counted:
            self._counted = True
            with contextlib.suppress(ApiError, OSError):
                self.read()

    def read(self) -> list[Package]:
        """Return the list of `GET /v1/packages`. Raises ApiError with 500 if the session's Python can't list them."""
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
            if self._venv == venv:  # otherwise an install has ended meanwhile
                self._known = found
                self._state.packages_count = len(found)
            return found
