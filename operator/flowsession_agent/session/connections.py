"""Whether somebody is connected to a server that runs in the session. Listening alone is no work; a connection is."""

from __future__ import annotations

import os

LISTEN, ESTABLISHED = "0A", "01"
"""States in /proc/net/tcp (include/net/tcp_states.h)."""


def served(proc: str, pids: list[int]) -> str:
    """`server :PORT` of a server among these processes that has a client, a port-forwarded one too; else empty."""
    listening, connected = _sockets(proc)
    for port in sorted(connected & listening.keys()):
        if _held(proc, pids, listening[port]):
            return f"server :{port}"
    return ""


def _sockets(proc: str) -> tuple[dict[int, set[str]], set[int]]:
    """Return the sockets that listen, as inodes by port, and the local ports with a connection."""
    listening: dict[int, set[str]] = {}
    connected = set()
    for name in ("tcp", "tcp6"):
        try:
            with open(f"{proc}/net/{name}", encoding="ascii") as file:
                lines = file.readlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            port = int(fields[1].rpartition(":")[2], 16)
            if fields[3] == LISTEN:
                listening.setdefault(port, set()).add(fields[9])
            elif fields[3] == ESTABLISHED:
                connected.add(port)
    return listening, connected


def _held(proc: str, pids: list[int], inodes: set[str]) -> bool:
    """Return whether one of the processes has one of the sockets; a network namespace may be shared with others."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in pids:
        try:
            descriptors = os.listdir(f"{proc}/{pid}/fd")
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                if os.readlink(f"{proc}/{pid}/fd/{descriptor}") in wanted:
                    return True
            except OSError:
                continue
    return False
