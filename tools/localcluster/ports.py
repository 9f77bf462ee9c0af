"""Ports of the loopback for programs that are started with a fixed one."""

import random
import socket

FIRST, LAST = 20_000, 32_000
"""Below the range from which Linux takes ports of outgoing connections (32768 on), so that none of those comes first."""


def free_port() -> int:
    """A port that nobody listens on."""
    while True:
        port = random.randint(FIRST, LAST)  # noqa: S311 - so that two programs that look at once rarely find the same
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
