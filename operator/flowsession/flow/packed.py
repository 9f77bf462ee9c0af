"""A flow folder in little memory: each file is compressed, and stored once however many folders have it."""

import base64
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

SMALLEST_PACKED = 512
"""Bytes from which a file is worth compressing."""
LEVEL = 1
"""Compression level of zlib: a folder of 8 MiB takes about 50 ms."""
PIECE = 48 * 1024
"""Bytes of a file that are decompressed at a time while it is sent; a multiple of three, so that pieces of base64 can be concatenated."""
TOGETHER = 64 * 1024
"""Bytes of small files that are gathered into one write."""


@dataclass(frozen=True, eq=False)
class Blob:
    """The content of a file."""

    digest: bytes
    size: int
    data: bytes
    packed: bool

    def content(self) -> bytes:
        """Return the whole content."""
        return zlib.decompress(self.data) if self.packed else self.data

    def pieces(self) -> Iterator[bytes]:
        """Yield the content piece by piece."""
        if not self.packed:
            yield self.data
            return
        unpacker, rest = zlib.decompressobj(), self.data
        while rest:
            piece = b""
            while rest and len(piece) < PIECE:
                piece += unpacker.decompress(rest, PIECE - len(piece))
                rest = unpacker.unconsumed_tail
            yield piece


class PackedFolder(Mapping[str, bytes]):
    """Files by name; each access decompresses one."""

    def __init__(self, blobs: Mapping[str, Blob]) -> None:
        self._blobs = blobs

    @classmethod
    def of(cls, files: Mapping[str, bytes], shared: MutableMapping[bytes, Blob]) -> "PackedFolder":
        """Return the folder. Files that are in `shared` already are reused, and the others are added to it."""
        blobs = {}
        for name, content in files.items():
            digest = hashlib.sha256(content).digest()
            blob = shared.get(digest)
            if blob is None:
                packed = len(content) >= SMALLEST_PACKED
                blob = shared[digest] = Blob(digest, len(content), zlib.compress(content, LEVEL) if packed else content, packed)
            blobs[name] = blob
        return cls(blobs)

    def sharing(self, shared: MutableMapping[bytes, Blob]) -> "PackedFolder":
        """Return the same folder, which stores the files that are in `shared` only once."""
        return PackedFolder({name: shared.setdefault(blob.digest, blob) for name, blob in self._blobs.items()})

    def __getitem__(self, name: str) -> bytes:
        return self._blobs[name].content()

    def __iter__(self) -> Iterator[str]:
        return iter(self._blobs)

    def __len__(self) -> int:
        return len(self._blobs)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PackedFolder):
            return {name: blob.digest for name, blob in self._blobs.items()} == {name: blob.digest for name, blob in other._blobs.items()}
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]

    def blobs(self) -> Mapping[str, Blob]:
        """Return the files as they are stored."""
        return self._blobs


class EncodedFolder(Mapping[str, str]):
    """The folder in base64, as PUT /v1/environment takes it, but never encoded all at once."""

    def __init__(self, folder: PackedFolder) -> None:
        self.folder = folder

    def __getitem__(self, name: str) -> str:
        return base64.b64encode(self.folder[name]).decode()

    def __iter__(self) -> Iterator[str]:
        return iter(self.folder)

    def __len__(self) -> int:
        return len(self.folder)


def plain(body: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a body with its folder decompressed, for callers that can't send it in pieces."""
    return None if body is None else {name: dict(value) if isinstance(value, EncodedFolder) else value for name, value in body.items()}


def as_json(body: Mapping[str, Any] | None) -> tuple[int, Iterator[bytes]]:
    """Return the length in bytes and the pieces of a body as JSON. A folder among its members is decompressed while the pieces are
    consumed."""
    if body is None:
        return 0, iter(())
    folders = {name: value for name, value in body.items() if isinstance(value, EncodedFolder)}
    head = json.dumps({name: value for name, value in body.items() if name not in folders}).encode()
    if not folders:
        return len(head), iter((head,))
    ((name, encoded),) = folders.items()
    opening = head[:-1] + (b", " if len(head) > 2 else b"") + json.dumps(name).encode() + b": {"
    blobs = encoded.folder.blobs()
    names = [json.dumps(file).encode() for file in blobs]
    files = sum(len(file) + len(b': ""') + 4 * -(-blob.size // 3) for file, blob in zip(names, blobs.values(), strict=True))
    between = len(b", ") * max(0, len(blobs) - 1)
    return len(opening) + files + between + len(b"}}"), _gathered(_pieces(opening, names, list(blobs.values())))


def _pieces(opening: bytes, names: list[bytes], blobs: list[Blob]) -> Iterator[bytes]:
    yield opening
    for number, (name, blob) in enumerate(zip(names, blobs, strict=True)):
        yield (b", " if number else b"") + name + b': "'
        for piece in blob.pieces():
            yield base64.b64encode(piece)
        yield b'"'
    yield b"}}"


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in fewer pieces: thousands of small files must not cause thousands of writes."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        if len(waiting) >= TOGETHER:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)
