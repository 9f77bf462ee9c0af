"""Whether somebody is connected to a server that runs in the session. Listening alone is no work; a connection is."""

from __future__ import annotations

import os

LISTEN, ESTABLISHED = "0A", "01"
"""States in /proc/net/tcp (include/net/tcp_states.h)."""


FEWEST_SOCKETS = 3
"""Fewest sockets in the network namespace if a server has a client: the agent's listener, the server's listener, and a connection."""


def served(proc: str, pids: list[int]) -> str:
    """Return `server :PORT` of a server among these processes that has a client, even a port-forwarded one; else empty.

    For each list of sockets the kernel scans a table of up to half a million slots, whoever owns them: 5 ms for each of two lists, every
    second, in every session. So it isn't asked if nothing can be served.
    """
    if not pids or _in_use(proc) < FEWEST_SOCKETS:
        return ""
    listening, connected = _sockets(proc)
    for port in sorted(connected & listening.keys()):
        if _held(proc, pids, listening[port]):
            return f"server :{port}"
    return ""


def _in_use(proc: str) -> int:
    """Return the kernel's count of TCP sockets in the agent's network namespace; FEWEST_SOCKETS if it doesn't count them."""
    found = 0
    for name, listed, head in (("sockstat", "tcp", "TCP:"), ("sockstat6", "tcp6", "TCP6:")):
        try:
            with open(f"{proc}/net/{name}", encoding="ascii") as file:
                counts = [line.split() for line in file if line.startswith(head)]
            found += int(counts[0][2])  # TCP: inuse 2 orphan 0 ...
        except (OSError, ValueError, IndexError):
            if os.path.exists(f"{proc}/net/{listed}"):  # else there is no IPv6
                return FEWEST_SOCKETS
    return found


def _sockets(proc: str) -> tuple[dict[int, set[str]], set[int]]:
    """Return the listening sockets, as inodes by port, and the local ports with a connection."""
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
    """Return whether one of the processes has one of the sockets. A network namespace may be shared with others."""
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
