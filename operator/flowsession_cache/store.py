"""The files that the cache holds, each under the SHA-256 that it was found to have, and no more of them than was allowed."""

import hashlib
from collections import OrderedDict
from pathlib import Path

LARGEST_SHARE = 4
"""A file that would take more than one part in so many of the room isn't kept: it would drive out everybody's others."""

SIDE = ".metadata-"
"""Between a wheel's hash and its metadata's, in the name of the metadata's own file."""


class Store:
    """A folder of files by hash. What was used longest ago goes first when the room is used up."""

    def __init__(self, folder: Path, *, limit: int) -> None:
        self._files = folder / "files"
        self._incoming = folder / "incoming"
        self.limit = limit
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._reserved = 0
        self.metadata: dict[str, str] = {}
        """The SHA-256 of the metadata inside a wheel, by the wheel's own."""

    def open(self) -> None:
        """Take over what an earlier start left, less what it had not finished; raises OSError where the folder can't be written."""
        self._files.mkdir(parents=True, exist_ok=True)
        self._incoming.mkdir(exist_ok=True)
        for unfinished in self._incoming.iterdir():
            unfinished.unlink()
        found = [(path.stat(), path) for path in self._files.iterdir()]
        for stat, path in sorted(found, key=lambda each: each[0].st_mtime):
            self._sizes[path.name] = stat.st_size
            wheel, _, metadata = path.name.partition(SIDE)
            if metadata:
                self.metadata[wheel] = metadata
        self._make_room(0)

    @property
    def size(self) -> int:
        """Bytes of the files held and of those that are coming."""
        return sum(self._sizes.values()) + self._reserved

    def find(self, sha256: str) -> Path | None:
        """The file with this hash, None when it isn't held. Asking counts as using."""
        if sha256 not in self._sizes:
            return None
        path = self._files / sha256
        if not path.exists():  # somebody cleaned the volume
            del self._sizes[sha256]
            self._forget_metadata(sha256)
            return None
        self._sizes.move_to_end(sha256)
        return path

    def find_metadata(self, wheel: str) -> Path | None:
        """The metadata of a wheel that is or was held, in a file of its own."""
        digest = self.metadata.get(wheel)
        return self.find(f"{wheel}{SIDE}{digest}") if digest else None

    def takes(self, size: int) -> bool:
        """Whether a file of `size` bytes is kept at all."""
        return size <= self.limit // LARGEST_SHARE

    def incoming(self, sha256: str) -> Path:
        """Where the bytes of a file go until they are all there and proved."""
        return self._incoming / sha256

    def reserve(self, size: int) -> None:
        """Make room for `size` more bytes that are coming."""
        self._make_room(size)
        self._reserved += size

    def release(self, size: int) -> None:
        """Give back what was reserved."""
        self._reserved -= size

    def keep(self, sha256: str, size: int) -> None:
        """The incoming file was found to have this hash: it may be served from now on."""
        self.incoming(sha256).rename(self._files / sha256)
        self._sizes[sha256] = size

    def keep_metadata(self, wheel: str, content: bytes) -> None:
        """Put a held wheel's metadata beside it; raises OSError."""
        digest = hashlib.sha256(content).hexdigest()
        name = f"{wheel}{SIDE}{digest}"
        self.incoming(name).write_bytes(content)
        self.keep(name, len(content))
        self.metadata[wheel] = digest

    def discard(self, sha256: str) -> None:
        """Remove an incoming file that came to nothing."""
        self.incoming(sha256).unlink(missing_ok=True)

    def halve(self) -> None:
        """The disk had less room than was allowed: give some back."""
        self._shrink(sum(self._sizes.values()) // 2)

    def _make_room(self, size: int) -> None:
        self._shrink(self.limit - self._reserved - size)

    def _shrink(self, target: int) -> None:
        held = sum(self._sizes.values())
        while self._sizes and held > target:
            name, size = self._sizes.popitem(last=False)
            held -= size
            (self._files / name).unlink(missing_ok=True)
            self._forget_metadata(name)

    def _forget_metadata(self, name: str) -> None:
        """Where the file that went held a wheel's metadata, and not the wheel itself."""
        wheel, _, metadata = name.partition(SIDE)
        if metadata and self.metadata.get(wheel) == metadata:
            del self.metadata[wheel]
