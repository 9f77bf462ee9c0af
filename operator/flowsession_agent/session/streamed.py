"""Passes on what a running test streams, line by line through a FIFO."""

from __future__ import annotations

import contextlib
import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from flowsession_agent.session.children import Children


class Streamed:
    """Passes the objects written to the FIFO at `path`, each a line of JSON, to `send_part` in its own thread until the block ends.

    When the receiver is gone they are still read, so that the test doesn't block.
    """

    def __init__(self, path: str, children: Children, send_part: Callable[[dict[str, Any]], None]) -> None:
        os.mkfifo(path, 0o600)
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR)  # opened for both, so it neither waits for a writer nor ends with one
        self._send_part: Callable[[dict[str, Any]], None] | None = send_part
        self._thread = children.thread(self._read, name="stream")

    def __enter__(self) -> Streamed:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            os.write(self._descriptor, b"\n\n")  # an empty line, even after a line that was cut off
        self._thread.join()
        os.close(self._descriptor)

    def _read(self) -> None:
        received = b""
        while True:
            *lines, received = (received + os.read(self._descriptor, 65536)).split(b"\n")
            for line in lines:
                if not line:
                    return
                self._take(line)

    def _take(self, line: bytes) -> None:
        from flowsession_agent.server.wire import GoneError

        with contextlib.suppress(ValueError):
            members = json.loads(line)
            if self._send_part is not None and isinstance(members, dict):
                try:
                    self._send_part(members)
                except GoneError:
                    self._send_part = None
