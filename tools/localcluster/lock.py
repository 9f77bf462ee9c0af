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
    """Waits for its turn, saying so. The kernel lets go of the lock when the holder dies, however it dies."""
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
    """Takes the lock file away; only for the holder, at its end."""
    _FILE.unlink(missing_ok=True)


def _is_in_place(descriptor: int) -> bool:
    """`down` removes the file it holds, and a lock on a removed file keeps nobody out."""
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
