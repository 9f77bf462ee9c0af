"""Information on processes from /proc: which are alive, their identity, and their listening sockets."""

import os
from collections.abc import Iterator
from pathlib import Path

_LISTEN = "0A"
_START_TIME = 21
"""Index of `starttime` in /proc/PID/stat, counted from 0 with pid and comm (proc(5) calls it field 22)."""


def start_time(pid: int) -> int | None:
    """Return the process's start in clock ticks after boot, or None if it is gone or a zombie. Together with the pid it is unique."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may itself hold spaces and parentheses, hence the search from the right.
    state, *fields = text[text.rindex(")") + 2 :].split()
    return None if state in "ZX" else int(fields[_START_TIME - 3])


def boot_id() -> str:
    """Return the id of this boot. Start times of different boots are not comparable."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def command_line(pid: int) -> list[str]:
    """Return the process's arguments, or [] if it is gone or a kernel thread."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def processes() -> Iterator[int]:
    """Return an iterator over all current process ids."""
    return (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdecimal())


def listeners(port: int) -> list[tuple[str, int]]:
    """Return (IPv4 address or "::", socket inode) of everything that listens on the port."""
    found = []
    for table, wildcard in (("tcp", None), ("tcp6", "::")):
        path = Path("/proc/net", table)
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            local, state, inode = (line.split()[column] for column in (1, 3, 9))
            address, _, hex_port = local.partition(":")
            if state == _LISTEN and int(hex_port, 16) == port:
                found.append((wildcard or ".".join(str(byte) for byte in reversed(bytes.fromhex(address))), int(inode)))
    return found


def owner(inode: int) -> str:
    """Return `name (pid N)` of the process that holds the socket."""
    target = f"socket:[{inode}]"
    for pid in processes():
        try:
            if any(str(descriptor.readlink()) == target for descriptor in Path(f"/proc/{pid}/fd").iterdir()):
                return f"{Path(f'/proc/{pid}/comm').read_text().strip()} (pid {pid})"
        except OSError:
            continue
    return "a process that can't be seen from here"
