"""One package index: its projects' pages, cached while the index itself allows, ten minutes at most."""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import aiohttp

from flowsession_cache import pages
from flowsession_cache.addresses import key_of
from flowsession_cache.pages import Page
from flowsession_cache.transport import lost_tls

LONGEST_FRESH = 600.0
"""Seconds for which a page stays fresh at most, like PyPI's own max-age."""

LARGEST_PAGE = 64 * 1024 * 1024
REMEMBERED = 96 * 1024 * 1024
"""Bytes of pages that are cached for one index."""

_MAX_AGE = re.compile(r"max-age=(\d+)")


class Unavailable(Exception):
    """The index gave no page. Carries the status of the response, and why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class _Remembered:
    page: Page
    etag: str
    asked_at: float
    fresh_until: float


class Index:
    """The pages of the index at `url`, which are at `{url}/{project}/`."""

    def __init__(self, url: str, *, session: aiohttp.ClientSession, metadata: Mapping[str, str]) -> None:
        """`metadata`: the SHA-256 of the metadata of wheels that the cache holds, by the wheels' own. It grows."""
        self.url = url.rstrip("/")
        self.key = key_of(url)
        self._session = session
        self._metadata = metadata
        self._pages: OrderedDict[str, _Remembered] = OrderedDict()
        self._held: dict[str, dict[str, str]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._size = 0

    async def page(self, project: str, *, fresh: bool = False) -> tuple[Page, int]:
        """Return the page of a project (its normalized name), and the seconds for which it is fresh. `fresh`: ask the index in any case.

        Raises Unavailable.
        """
        asked = time.monotonic()
        lock = self._locks.setdefault(project, asyncio.Lock())
        try:
            async with lock:
                known = self._pages.get(project)
                # A page that another caller fetched while this one waited is fresh enough.
                if known and known.fresh_until > time.monotonic() and (not fresh or known.asked_at >= asked):
                    self._pages.move_to_end(project)
                else:
                    known = await self._fetch(project, known)
                    self._remember(project, known)
                held = self._held.pop(project, None)
                if held:
                    known = replace(known, page=known.page.offering(held))
                    self._remember(project, known)
                return known.page, max(0, int(known.fresh_until - time.monotonic()))
        finally:
            if not lock.locked():
                self._locks.pop(project, None)

    def offer(self, project: str, wheel: str) -> None:
        """Let the project's page offer the metadata of a wheel that is held from now on."""
        if wheel in self._metadata:
            self._held.setdefault(project, {})[wheel] = self._metadata[wheel]

    async def _fetch(self, project: str, known: _Remembered | None) -> _Remembered:
        url = f"{self.url}/{project}/"
        headers = {"Accept": pages.ACCEPT, **({"If-None-Match": known.etag} if known and known.etag else {})}
        asked_at = time.monotonic()
        try:
            async with self._session.get(url, headers=headers) as response:
                fresh_until = time.monotonic() + _fresh_seconds(response.headers.get("Cache-Control", ""))
                if response.status == 304 and known:
                    return replace(known, asked_at=asked_at, fresh_until=fresh_until)
                if response.status in (404, 410):
                    raise Unavailable(404, f"{url} answered {response.status}")
                if response.status != 200:
                    raise Unavailable(502, f"{url} answered {response.status}")
                if lost_tls(url, response):
                    raise Unavailable(502, f"{url} was redirected to an address without TLS")
                body = await _limited(response)
                self._held.pop(project, None)  # the new page offers them from the start
                page = pages.read(
                    body,
                    content_type=response.content_type,
                    base=str(response.url),
                    prefix=f"/{self.key}/files/{project}",
                    metadata=self._metadata,
                )
                return _Remembered(page, response.headers.get("ETag", ""), asked_at, fresh_until)
        except pages.PageError as error:
            raise Unavailable(502, f"{url}: {error}") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(502, f"{url}: {type(error).__name__} {error}".rstrip()) from None

    def _remember(self, project: str, remembered: _Remembered) -> None:
        earlier = self._pages.pop(project, None)
        self._size += remembered.page.size - (earlier.page.size if earlier else 0)
        self._pages[project] = remembered
        while self._size > REMEMBERED and len(self._pages) > 1:
            self._size -= self._pages.popitem(last=False)[1].page.size


def _fresh_seconds(cache_control: str) -> float:
    if "no-store" in cache_control or "no-cache" in cache_control:
        return 0.0
    age = _MAX_AGE.search(cache_control)
    return min(float(age.group(1)), LONGEST_FRESH) if age else LONGEST_FRESH


async def _limited(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for data in response.content.iter_chunked(1024 * 1024):
        body += data
        if len(body) > LARGEST_PAGE:
            raise pages.PageError(f"a page of more than {LARGEST_PAGE} bytes")
    return bytes(body)
