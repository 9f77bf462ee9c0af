"""Test processes that share the cluster (pytest-xdist), concurrently or one at a time. The first prepares it, the last cleans up."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


class Processes:
    """The processes of one test run, of which this is one. They share the run's folder. Without a folder, this is the only process.

    The kernel releases a lock when its process dies for any reason.
    """

    def __init__(self, folder: Path | None) -> None:
        self._own = None if folder else tempfile.TemporaryDirectory(prefix="flowsession-e2e-")
        self._folder = folder or Path(self._own.name)
        self._files: dict[str, int] = {}
        self._mode = fcntl.LOCK_UN

    def use(self, *, alone: bool) -> None:
        """Return when this process may use the cluster, shared or alone. It may until it asks for the other mode or is done."""
        mode = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        if mode != self._mode:
            self.done()
            fcntl.flock(self._file("use"), mode)
            self._mode = mode

    def done(self) -> None:
        """Release the cluster."""
        if self._mode != fcntl.LOCK_UN:
            fcntl.flock(self._file("use"), fcntl.LOCK_UN)
            self._mode = fcntl.LOCK_UN

    @contextlib.contextmanager
    def member(self, first: Callable[[], None], last: Callable[[], None]) -> Iterator[None]:
        """Keep the cluster prepared during the block. The first process to enter calls `first`, the last one to leave calls `last`."""
        with self._locked("gate"):
            begun = self._folder / "begun"
            if not begun.exists():
                first()
                begun.touch()
            fcntl.flock(self._file("members"), fcntl.LOCK_SH)
        try:
            yield
        finally:
            with self._locked("gate"):
                if self._is_last():
                    begun.unlink()
                    last()

    def _is_last(self) -> bool:
        try:
            fcntl.flock(self._file("members"), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(self._file("members"), fcntl.LOCK_UN)
            return False
        fcntl.flock(self._file("members"), fcntl.LOCK_UN)
        return True

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        fcntl.flock(self._file(name), fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file(name), fcntl.LOCK_UN)

    def _file(self, name: str) -> int:
        if name not in self._files:
            self._files[name] = os.open(self._folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        return self._files[name]
