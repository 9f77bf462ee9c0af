"""Keeps prompt flow's store in the session in step with the mounted connections.

Filling it imports prompt flow, which takes 1.5 s of processor time. So a separate process does it in parallel with the session's start: as
soon as the packages are installed, and again within seconds after a Secret changes. Code that runs the flow calls `ensure` first. Filling
is not work: it never keeps a session awake.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading

from flowsession_agent.connections import mounted
from flowsession_agent.connections.mounted import REFUSED

STORE = os.path.join(".promptflow", "pf.sqlite")
"""The store's path, below the session's home."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from flowsession_agent.connections.provider import Provider
    from flowsession_agent.install.packages import Packages
    from flowsession_agent.server.state import State
    from flowsession_agent.session.children import Children
    from flowsession_agent.settings import Home

SECONDS = 120
VARIABLE = "PF_HTTP_CONNECTION_PROVIDER_ENDPOINT"
"""The variable from which prompt flow's core takes the address of the provider."""


class Connections:
    """The session's connections. A session without any pays nothing for this class."""

    def __init__(self, *, home: Home, state: State, children: Children, packages: Packages, changed: Callable[[], None]) -> None:
        """`changed` is called after the store was refilled because a Secret changed, and when the refused connections change."""
        self._home, self._state, self._children, self._packages = home, state, children, packages
        self._changed = changed
        self._listed = mounted.listed(os.environ)
        self._lock = threading.Lock()
        self._known: tuple[str, str] | None = None  # what the store was filled from, and by which Python
        self._provider: Provider | None = None
        self._file = 0  # the store's inode then: a store that a restore replaces or people delete is refilled
        self._refused: dict[str, str] = {}
        self._told: tuple[tuple[str, str] | None, dict[str, str]] = (None, {})  # what the last `watch` saw

    def watch(self) -> None:
        """Fill the store if it differs from the Secrets. Called every second."""
        if self._listed and (self._state.packages_revision or self._state.install.state in ("Failed", "TimedOut")):
            self.ensure()  # a test or run may have done so already
            before, self._told = self._told, (self._known, self._refused)
            if self._told != before and (before[0] is not None or self._refused):
                self._changed()

    def ensure(self) -> bool:
        """Bring prompt flow's store in step with the Secrets. Return whether it was not. Raises OSError if no process can be started."""
        if not self._listed:
            return False
        with self._lock:
            wanted = (mounted.stamp(self._listed), self._packages.python)
            if wanted == self._known and self._file == self._inode():
                return False
            self._fill()
            self._known, self._file = wanted, self._inode()  # even after a failure: the same input would fail again
            return True

    def _fill(self) -> None:
        from flowsession_agent.connections import keyring
        from flowsession_agent.scripts import FILL
        from flowsession_agent.session.job import Job

        self._home.make()
        keyring.provide(self._home.home)
        python, environ = self._python()
        environ.pop(VARIABLE, None)
        job = Job(self._children, environ=environ, cwd=self._home.tmp, seconds=SECONDS)
        outcome = job.run([python, "-c", FILL, json.dumps(self._recorded())])
        try:
            answer: dict[str, Any] = json.loads(outcome.stdout)
            filled, problems, core = list(map(str, answer["filled"])), answer["problems"], answer["core"]
        except (ValueError, KeyError, TypeError):
            why = "took too long" if outcome.timed_out else f"ended with exit code {outcome.exit_code}"
            print(f"flowsession agent: filling prompt flow's store of connections {why}", file=sys.stderr, flush=True)
            return
        self._record(filled)
        self._refused = {name: str(problem["message"]) for name, problem in problems.items() if problem["code"] == REFUSED}
        mounted.note_refused(self._home.home, self._refused)
        self._serve(core, str(answer["site"]))
        for name, problem in problems.items():
            print(f"flowsession agent: connection {name!r}: {problem['message']}", file=sys.stderr, flush=True)

    def ready(self) -> tuple[str, dict[str, str]]:
        """Update the connections. Return the session's Python and the environment in which it runs the flow. Raises OSError."""
        self.ensure()
        return self.environment()

    def environment(self) -> tuple[str, dict[str, str]]:
        """Return the same without updating the connections."""
        python, environ = self._python()
        if self._provider is not None and self._provider.connections:
            environ[VARIABLE] = self._provider.endpoint
        return python, environ

    def _python(self) -> tuple[str, dict[str, str]]:
        from flowsession_agent.session import flow_env

        python = self._packages.python
        return python, flow_env.environ(os.environ, home=self._home, scripts=os.path.dirname(python))

    def _serve(self, core: dict[str, Any] | None, site: str) -> None:
        """Let prompt flow's core find the connections, in tests that the agent starts and in every Python that a terminal starts."""
        if core is not None and self._provider is None:
            from flowsession_agent.connections.provider import Provider
            from flowsession_agent.session.pid1 import protect

            protect()  # this process holds the values from now on
            self._provider = Provider(self._children)
        if self._provider is None:
            return
        self._provider.connections = core or {}
        path = os.path.join(site, "flowsession_connections.pth")
        if core is None or not path.startswith(self._home.home):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"import os; os.environ.setdefault({VARIABLE!r}, {self._provider.endpoint!r})\n")

    def _inode(self) -> int:
        try:
            return os.stat(os.path.join(self._home.home, STORE)).st_ino
        except OSError:
            return 0

    def _recorded(self) -> list[str]:
        """Return the names that were filled before. The record survives a restart of the container, as the store does."""
        try:
            with open(self._record_path, encoding="utf-8") as file:
                return [str(name) for name in json.load(file)]
        except (OSError, ValueError, TypeError):
            return []

    def _record(self, names: list[str]) -> None:
        with open(self._record_path, "w", encoding="utf-8") as file:
            json.dump(names, file)

    @property
    def _record_path(self) -> str:
        from flowsession_agent.connections import keyring

        return os.path.join(self._home.home, keyring.FOLDER, "filled.json")
