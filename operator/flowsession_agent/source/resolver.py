"""Read one source, once, in a thread. Every further call gets the same result."""

from __future__ import annotations

import sys
import threading

from flowsession_agent.source.errors import SourceError
from flowsession_agent.source.order import SourceOrder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flowsession_agent.session.children import Children
    from flowsession_agent.settings import Home
    from flowsession_protocol.messages import Source


class Resolver:
    """The one read that this pod exists for."""

    def __init__(self, *, home: Home, children: Children, credentials: str, mount: str) -> None:
        self._home = home
        self._children = children
        self._credentials = credentials
        self._mount = mount
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._answer: Source = {"state": "Running"}

    def answer(self, body: Any, *, wait: float) -> Source:
        """Return what was read, or state Running if that isn't done after `wait` seconds. The first call starts it. Raises ApiError."""
        order = SourceOrder(body)
        with self._lock:
            if self._thread is None:
                self._thread = self._children.thread(lambda: self._run(order), name="source")
        self._ended.wait(wait)
        return self._answer

    def _read(self, order: SourceOrder) -> Source:
        if order.folder is not None:
            from flowsession_agent.source import folder

            return folder.read(order.folder, mount=self._mount)
        from flowsession_agent.source import git

        return git.read(order, home=self._home, children=self._children, credentials=self._credentials)

    def _run(self, order: SourceOrder) -> None:
        try:
            self._answer = self._read(order)
        except SourceError as error:
            self._answer = {"state": "Failed", "code": error.code, "message": error.message}
        except Exception as error:  # whatever failed, the environment's status must report it
            print(f"flowsession agent: reading the source failed: {error!r}", file=sys.stderr, flush=True)
            self._answer = {
                "state": "Failed",
                "code": "InternalError",
                "message": f"reading the source failed: {type(error).__name__}: {error}",
            }
        self._ended.set()
