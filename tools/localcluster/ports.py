"""Free ports of the loopback for programs that are started with a fixed one."""

import random
import socket

FIRST, LAST = 20_000, 32_000
"""Ports below the range that Linux uses for outgoing connections (from 32768), so that no connection takes one first."""


def free_port() -> int:
    """Return a port that nobody listens on."""
    while True:
        port = random.randint(FIRST, LAST)  # noqa: S311 - so that two programs that look at once rarely find the same
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
