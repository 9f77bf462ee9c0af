"""The files that the cache holds, each under its verified SHA-256, and within the size limit."""

import hashlib
from collections import OrderedDict
from pathlib import Path

LARGEST_SHARE = 4
"""A file larger than the size limit divided by this isn't kept, since it would drive out everybody's other files."""

SIDE = ".metadata-"
"""Separator of a wheel's hash and its metadata's, in the name of the metadata's file."""


class Store:
    """A folder of files by hash. The least recently used are evicted when the limit is reached."""

    def __init__(self, folder: Path, *, limit: int) -> None:
        self._files = folder / "files"
        self._incoming = folder / "incoming"
        self.limit = limit
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._reserved = 0
        self.metadata: dict[str, str] = {}
        """The SHA-256 of the metadata inside a wheel, by the wheel's own."""

    def open(self) -> None:
        """Take over the files that an earlier start left, except unfinished ones. Raises OSError if the folder can't be written."""
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
        """Bytes of the files held and of those being fetched."""
        return sum(self._sizes.values()) + self._reserved

    def find(self, sha256: str) -> Path | None:
        """Return the file with this hash, or None if it isn't held. A call counts as a use."""
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
        """Return the metadata's file of a wheel that is or was held, or None."""
        digest = self.metadata.get(wheel)
        return self.find(f"{wheel}{SIDE}{digest}") if digest else None

    def takes(self, size: int) -> bool:
        """Return whether a file of `size` bytes is kept at all."""
        return size <= self.limit // LARGEST_SHARE

    def incoming(self, sha256: str) -> Path:
        """Return the path for a file's bytes until they are complete and verified."""
        return self._incoming / sha256

    def reserve(self, size: int) -> None:
        """Reserve room for `size` more bytes that are being fetched."""
        self._make_room(size)
        self._reserved += size

    def release(self, size: int) -> None:
        """Release `size` reserved bytes."""
        self._reserved -= size

    def keep(self, sha256: str, size: int) -> None:
        """Hold the incoming file, which was found to have this hash, from now on."""
        self.incoming(sha256).rename(self._files / sha256)
        self._sizes[sha256] = size

    def keep_metadata(self, wheel: str, content: bytes) -> None:
        """Store a held wheel's metadata next to it. Raises OSError."""
        digest = hashlib.sha256(content).hexdigest()
        name = f"{wheel}{SIDE}{digest}"
        self.incoming(name).write_bytes(content)
        self.keep(name, len(content))
        self.metadata[wheel] = digest

    def discard(self, sha256: str) -> None:
        """Remove an incoming file whose download failed."""
        self.incoming(sha256).unlink(missing_ok=True)

    def halve(self) -> None:
        """Evict half of the bytes held, since the disk has less room than the limit."""
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
        """Forget a wheel's metadata if the removed file held that, and not the wheel itself."""
        wheel, _, metadata = name.partition(SIDE)
        if metadata and self.metadata.get(wheel) == metadata:
            del self.metadata[wheel]
