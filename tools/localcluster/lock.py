"""One `up` or `down` at a time on a machine."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localcluster.say import progress

_FILE = Path("/run/flowsession-localcluster.lock")


@contextmanager
def held() -> Iterator[None]:
    """Wait for the lock, and say so. The kernel releases it when the holder dies for any reason."""
    while True:
        descriptor = os.open(_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(descriptor)
            if _is_in_place(descriptor):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
                yield
                return
        finally:
            os.close(descriptor)


def remove() -> None:
    """Remove the lock file. Only for the holder, at its end."""
    _FILE.unlink(missing_ok=True)


def _is_in_place(descriptor: int) -> bool:
    """Return whether the locked file is still in place. `down` removes the file it holds, and a lock on a removed file excludes nobody."""
    try:
        return os.fstat(descriptor).st_ino == _FILE.stat().st_ino
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        progress(f"another cluster command is running (pid {os.pread(descriptor, 20, 0).decode() or 'unknown'}); waiting for it")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
