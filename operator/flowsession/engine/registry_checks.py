"""Asks registries about images in tasks separate from the workers, so that a slow registry delays nothing else."""

import asyncio
import logging

from flowsession.cluster.registry.client import RegistryClient
from flowsession.engine.queue import Queue
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.keys import Key
from flowsession.engine.tasks import OneEach
from flowsession.images.check import ImageCheck, Question

AT_ONCE = 4
"""Concurrent questions: registries limit requests, and nothing waits for the answers."""

log = logging.getLogger(__name__)


class ImageChecks:
    """Asks at most one question per environment at a time; the answer is put into the cache and the key is enqueued again."""

    def __init__(self, client: RegistryClient, cache: Cache, queue: Queue[Key]) -> None:
        self._client = client
        self._cache = cache
        self._queue = queue
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._tasks: OneEach[str] = OneEach()
        """By the environment's uid, with the question's token."""

    def start(self, key: Key, uid: str, question: Question) -> None:
        """Ask the registry unless the same question is in flight; a different question in flight is canceled."""
        if self._tasks.about(uid) != question.token:
            self._tasks.start(uid, question.token, self._ask(key, uid, question))

    async def close(self) -> None:
        """Cancel every question."""
        await self._tasks.close()
        await self._client.close()

    async def _ask(self, key: Key, uid: str, question: Question) -> None:
        try:
            async with self._at_once:
                check = await self._client.ask(question)
        except Exception as error:  # an unforeseen error must not leave a request unanswered forever
            log.exception("question to a registry broke", extra={"key": f"{key.namespace}/{key.name}"})
            check = ImageCheck(question, reason="CheckFailed", message=f"the registry could not be asked: {type(error).__name__}")
        self._cache.imaging.checks[uid] = check
        self._queue.add(key)
