"""Has registries asked about images beside the workers: a slow registry holds up nobody."""

import asyncio
import logging

from flowsession.cluster.registry.client import RegistryClient
from flowsession.engine.queue import Queue
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.keys import Key
from flowsession.images.check import ImageCheck, Question

AT_ONCE = 4
"""Registries have limits on requests, and nobody waits."""

log = logging.getLogger(__name__)


class ImageChecks:
    """At most one question for each environment at a time; the answer enters the cache and brings the key up again."""

    def __init__(self, client: RegistryClient, cache: Cache, queue: Queue[Key]) -> None:
        self._client = client
        self._cache = cache
        self._queue = queue
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[str, tuple[str, asyncio.Task[None]]] = {}

    def start(self, key: Key, uid: str, question: Question) -> None:
        """Ask the registry unless this very question is under way; another question replaces it."""
        asked, task = self._tasks.get(uid, ("", None))
        if task is not None:
            if asked == question.token:
                return
            task.cancel()
        task = asyncio.get_running_loop().create_task(self._ask(key, uid, question))
        self._tasks[uid] = (question.token, task)
        task.add_done_callback(lambda ended: self._ended(uid, ended))

    async def close(self) -> None:
        """End every question."""
        tasks = [task for _, task in self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    def _ended(self, uid: str, task: asyncio.Task[None]) -> None:
        if uid in self._tasks and self._tasks[uid][1] is task:
            del self._tasks[uid]

    async def _ask(self, key: Key, uid: str, question: Question) -> None:
        try:
            async with self._at_once:
                check = await self._client.ask(question)
        except Exception as error:  # what nobody thought of must not leave a request unanswered for ever
            log.exception("question to a registry broke", extra={"key": f"{key.namespace}/{key.name}"})
            check = ImageCheck(question, reason="CheckFailed", message=f"the registry could not be asked: {type(error).__name__}")
        self._cache.imaging.checks[uid] = check
        self._queue.add(key)
