"""Run the cache: `python -m flowsession_cache --index URL... --folder DIR --limit BYTES`."""

import argparse
import asyncio
import logging
import os
import signal
import ssl
from pathlib import Path

import aiohttp
from aiohttp import web

from flowsession_cache.index import Index
from flowsession_cache.server import Cache
from flowsession_cache.store import Store

CONNECT_SECONDS = 10
READ_SECONDS = 30
"""Seconds of silence after which an index is given up."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="flowsession_cache", description=__doc__)
    parser.add_argument("--index", action="append", required=True, help="URL of a package index, such as https://pypi.org/simple")
    parser.add_argument("--folder", type=Path, required=True, help="where the files lie")
    parser.add_argument("--limit", type=int, required=True, help="bytes that they may take")
    parser.add_argument("--ca-bundle", type=Path, help="further certificates (PEM) that the indexes may be signed by")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--address", default="", help="empty: all of the machine's")
    return parser.parse_args()


async def serve(settings: argparse.Namespace, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Raises OSError if the folder can't be written or the port is taken."""
    store = Store(settings.folder, limit=settings.limit)
    store.open()
    context = ssl.create_default_context()
    if settings.ca_bundle:
        context.load_verify_locations(settings.ca_bundle)
    connector = aiohttp.TCPConnector(ssl=context, limit=0, limit_per_host=64)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
    # trust_env: the company's proxy, by its usual variables. No cookies: one response must not change another.
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=True, cookie_jar=aiohttp.DummyCookieJar()) as session:
        indexes = {index.key: index for index in (Index(url, session=session, metadata=store.metadata) for url in settings.index)}
        cache = Cache(indexes=indexes, store=store, session=session)
        runner = web.AppRunner(cache.application(), access_log=None, handle_signals=False, shutdown_timeout=5)
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.address or None, settings.port).start()
            await stop.wait()
        finally:
            await runner.cleanup()


async def until_stopped() -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(arguments(), stop)


if __name__ == "__main__":
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "info").upper(), format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(until_stopped())
