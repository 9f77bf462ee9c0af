"""One file's download from its index: fetched once for all requests, and verified before anybody gets its last bytes."""

import asyncio
import hashlib
import logging
import os
import re
import zipfile
from collections.abc import AsyncIterator

import aiohttp

from flowsession_cache.pages import File
from flowsession_cache.store import Store
from flowsession_cache.transport import lost_tls

CHUNK = 256 * 1024
HELD_BACK = 64 * 1024
"""Bytes at a file's end that wait for its verification, so that nobody ever gets all of a file whose hash differs from its index's."""

LARGEST_METADATA = 4 * 1024 * 1024
_METADATA = re.compile(r"[^/]+\.dist-info/METADATA")

log = logging.getLogger("flowsession.cache")


class NotKept(Exception):
    """Nothing is wrong with the file, but this cache can't hold it (too large, no room). Fetch it from its index."""


class FetchFailed(Exception):
    """The index did not deliver what it had promised; the text says why."""


class Download:
    """A download in progress. Its outcome reaches all readers. A reader that leaves changes nothing."""

    def __init__(self, file: File, *, store: Store, session: aiohttp.ClientSession, slots: asyncio.Semaphore) -> None:
        """Create the incoming file. Raises OSError if the cache's folder has no room for another file."""
        self._file = file
        self._store = store
        self._session = session
        self._slots = slots
        self._changed = asyncio.Condition()
        self._descriptor = os.open(store.incoming(file.sha256), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._received = 0
        self._reserved = 0
        self._live_of = False
        self._error: NotKept | FetchFailed | None = None
        self.size: int | None = None

    async def run(self) -> None:
        """Fetch and verify the file. Errors of the index or the disk are raised to the readers, not here."""
        try:
            async with self._slots:
                await self._fetch()
            metadata = await asyncio.to_thread(self._metadata)
            self._store.keep(self._file.sha256, self._received)
            self._live_of = True
            if metadata:
                self._store.keep_metadata(self._file.sha256, metadata)
        except (NotKept, FetchFailed) as error:
            self._error = error
        except (aiohttp.ClientError, TimeoutError) as error:
            self._error = FetchFailed(f"{self._file.url}: {type(error).__name__} {error}".rstrip())
        except OSError as error:
            self._store.halve()
            self._error = NotKept(f"the cache can't write: {error.strerror}")
        finally:
            self._store.release(self._reserved)
            if not self._live_of:
                self._error = self._error or NotKept("the cache is going away")
                self._store.discard(self._file.sha256)
                log.warning("%s was not brought: %s", self._file.name, self._error)
            async with self._changed:
                self._changed.notify_all()
            os.close(self._descriptor)  # nothing may be awaited after it: readers that still find this download read from there

    async def read(self) -> AsyncIterator[bytes]:
        """Yield the file's bytes as they arrive. Raises NotKept or NotBrought, before the last of them, if the download fails.

        Reading must begin before `run` ends. It then continues to the file's end, wherever the file was moved.
        """
        descriptor = os.dup(self._descriptor)
        try:
            sent = 0
            while not (self._live_of and sent == self._received):
                await self._more_than(sent)
                while data := os.pread(descriptor, min(CHUNK, self._readable - sent), sent):
                    sent += len(data)
                    yield data
        finally:
            os.close(descriptor)

    async def _more_than(self, sent: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._readable > sent or self._live_of or self._error)
        if self._error:
            raise self._error

    @property
    def _readable(self) -> int:
        return self._received if self._live_of else max(0, self._received - HELD_BACK)

    async def _fetch(self) -> None:
        digest = hashlib.sha256()
        async with self._session.get(self._file.url, headers={"Accept-Encoding": "identity"}) as response:
            if response.status != 200:
                raise FetchFailed(f"{self._file.url} answered {response.status}")
            if lost_tls(self._file.url, response):
                raise FetchFailed(f"{self._file.url} was redirected to an address without TLS")
            self._reserve(response.content_length or 0)
            self.size = response.content_length
            async for data in response.content.iter_chunked(CHUNK):
                self._reserve(self._received + len(data))
                digest.update(data)
                rest = memoryview(data)
                while rest:  # a nearly full disk accepts a part, and refuses the next
                    rest = rest[os.write(self._descriptor, rest) :]
                self._received += len(data)
                async with self._changed:
                    self._changed.notify_all()
        if digest.hexdigest() != self._file.sha256:
            raise FetchFailed(f"{self._file.url} has the SHA-256 {digest.hexdigest()}, not {self._file.sha256} as its index says")

    def _metadata(self) -> bytes:
        """Return the metadata inside a wheel, which PEP 658 has indexes offer next to it; empty for anything else."""
        if not self._file.name.endswith(".whl"):
            return b""
        try:
            with zipfile.ZipFile(self._store.incoming(self._file.sha256)) as wheel:
                found = [info for info in wheel.infolist() if _METADATA.fullmatch(info.filename)]
                return wheel.read(found[0]) if len(found) == 1 and found[0].file_size <= LARGEST_METADATA else b""
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError):
            return b""  # the installer will report what is wrong with the wheel

    def _reserve(self, total: int) -> None:
        if not self._store.takes(total):
            raise NotKept(f"larger than the {self._store.limit // 4} bytes that one file may take of the cache")
        if total > self._reserved:
            self._store.reserve(total - self._reserved)
            self._reserved = total
