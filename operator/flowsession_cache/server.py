"""What sessions may request from the cache: a project's page, and a file that such a page names. Nothing can be written."""

import asyncio
import logging
import re
from collections.abc import Mapping

import aiohttp
from aiohttp import web

from flowsession_cache import pages
from flowsession_cache.download import Download, FetchFailed, NotKept
from flowsession_cache.index import Index, Unavailable
from flowsession_cache.pages import File
from flowsession_cache.store import Store

AT_ONCE = 32
"""Files fetched from indexes at a time. The others wait for their turn."""

DIRECT_SECONDS = 300.0
"""Seconds for which requests for a file that could not be held are redirected to its index."""

FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}
_PROJECT = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")

log = logging.getLogger("flowsession.cache")


class Cache:
    """The indexes, the files, and the downloads in progress."""

    def __init__(self, *, indexes: Mapping[str, Index], store: Store, session: aiohttp.ClientSession) -> None:
        self._indexes = indexes
        self._store = store
        self._session = session
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._downloads: dict[str, Download] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._direct: dict[str, float] = {}

    def application(self) -> web.Application:
        """Return the application: GET and HEAD of three addresses. Anything else is refused."""
        application = web.Application(client_max_size=1)
        application.router.add_get("/healthz", self._health)
        application.router.add_get("/{index}/simple/{project}/", self._page)
        application.router.add_get("/{index}/files/{project}/{sha256}/{filename}", self._file)
        return application

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"ok": True, "indexes": [index.url for index in self._indexes.values()]})

    async def _page(self, request: web.Request) -> web.Response:
        index, project = self._asked(request)
        # pip always wants the newest page, for which a conditional request is enough.
        fresh = any(word in request.headers.get("Cache-Control", "") for word in ("no-cache", "max-age=0"))
        try:
            page, seconds = await index.page(project, fresh=fresh)
        except Unavailable as error:
            return web.Response(status=error.status, text=str(error))
        headers = {"Cache-Control": f"max-age={seconds}", "Vary": "Accept, Accept-Encoding"}
        if "json" in request.headers.get("Accept", ""):
            if "gzip" in request.headers.get("Accept-Encoding", ""):
                headers["Content-Encoding"] = "gzip"
                return web.Response(body=page.packed, headers=headers, content_type=pages.JSON_TYPE)
            return web.Response(body=page.document, headers=headers, content_type=pages.JSON_TYPE)
        return web.Response(body=page.html(), headers=headers, content_type=pages.HTML_TYPE)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        index, project = self._asked(request)
        sha256, filename = request.match_info["sha256"], request.match_info["filename"]
        if filename.endswith(".metadata") and (metadata := self._store.find_metadata(sha256)):
            return web.FileResponse(metadata, headers=FOREVER)
        file = await self._named(index, project, sha256, filename)
        held = self._store.find(file.sha256)
        if held is not None:
            return web.FileResponse(held, headers=FOREVER)
        # The index itself serves a part of a file that isn't held, so that nobody has to wait for the whole.
        if request.method == "HEAD" or "Range" in request.headers or self._is_direct(file):
            raise web.HTTPFound(file.url)
        try:
            download = self._downloads.get(file.sha256) or self._begin(file, index, project)
        except OSError as error:
            log.warning("%s is not kept: %s", file.name, error.strerror)
            raise web.HTTPFound(file.url) from None
        return await self._pass_on(request, file, download)

    async def _named(self, index: Index, project: str, sha256: str, filename: str) -> File:
        """Return the file that the index's page lists by this hash and name. Nothing else is fetched, whatever is requested."""
        key = f"{sha256}.metadata" if filename.endswith(".metadata") else sha256
        for fresh in (False, True):
            try:
                page, _ = await index.page(project, fresh=fresh)
            except Unavailable as error:
                raise web.HTTPBadGateway(text=str(error)) from None
            file = page.file(key)
            if file is not None and file.name == filename:
                return file
        raise web.HTTPNotFound(text=f"{index.url} names no such file of {project}")

    def _begin(self, file: File, index: Index, project: str) -> Download:
        download = Download(file, store=self._store, session=self._session, slots=self._slots)
        self._downloads[file.sha256] = download

        async def run() -> None:
            try:
                await download.run()
            finally:
                del self._downloads[file.sha256]
            index.offer(project, file.sha256)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return download

    async def _pass_on(self, request: web.Request, file: File, download: Download) -> web.StreamResponse:
        response: web.StreamResponse | None = None
        chunks = download.read()
        try:
            async for data in chunks:
                if response is None:
                    response = web.StreamResponse(headers={**FOREVER, "Content-Type": "application/octet-stream"})
                    response.content_length = download.size
                    await response.prepare(request)
                await response.write(data)
        except (NotKept, FetchFailed) as error:
            if isinstance(error, NotKept):
                self._direct[file.sha256] = asyncio.get_running_loop().time() + DIRECT_SECONDS
            if response is None:
                if isinstance(error, NotKept):
                    raise web.HTTPFound(file.url) from None
                raise web.HTTPBadGateway(text=str(error)) from None
            if request.transport is not None:
                request.transport.abort()  # the client must see that this is not the whole file
            raise
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]
        if response is None:
            return web.Response(headers=FOREVER)
        await response.write_eof()
        return response

    def _is_direct(self, file: File) -> bool:
        now = asyncio.get_running_loop().time()
        self._direct = {sha256: until for sha256, until in self._direct.items() if until > now}
        return file.sha256 in self._direct

    def _asked(self, request: web.Request) -> tuple[Index, str]:
        index, project = self._indexes.get(request.match_info["index"]), request.match_info["project"]
        if index is None:
            raise web.HTTPNotFound(text="no such index")
        if not _PROJECT.fullmatch(project) or len(project) > 200:
            raise web.HTTPNotFound(text="not the normalised name of a project")
        return index, project
