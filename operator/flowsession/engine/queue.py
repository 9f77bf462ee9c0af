"""A queue of keys like client-go's workqueue, with deadlines and back-off: each is queued at most once and processed once at a time.

More urgent keys come first, as in controller-runtime's priority queue. No key waits forever, since waiting makes it more urgent.
"""

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from flowsession import metrics
from flowsession.model.back_off import back_off

K = TypeVar("K")

FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 30.0
SPARE_DEADLINES = 64
"""Number of obsolete deadlines that the heap may hold whatever its size."""


class Queue(Generic[K]):
    """Not thread-safe: belongs to one event loop, whose clock it uses."""

    def __init__(self, yield_seconds: Callable[[K], float] = lambda _: 0.0) -> None:
        self._yield_seconds = yield_seconds
        """Returns the seconds for which a key yields to later, more urgent keys."""
        self._ready: list[tuple[float, int, K]] = []
        self._waiting: set[K] = set()
        self._working: set[K] = set()
        self._again: set[K] = set()
        self._failures: dict[K, tuple[int, float]] = {}
        """Number of failures in a row, and the time of the last."""
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()
        self._wakeup: asyncio.TimerHandle | None = None
        self._available = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()

    def __len__(self) -> int:
        """Return how many keys are due now."""
        return len(self._ready)

    def add(self, key: K) -> None:
        """Enqueue a key now; one that is being processed is enqueued again afterwards."""
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            heapq.heappush(self._ready, (asyncio.get_running_loop().time() + self._yield_seconds(key), next(self._order), key))
            self._available.set()
            metrics.queue_length.set(len(self._ready))

    def add_all(self, keys: Iterable[K]) -> None:
        """Enqueue each key now."""
        for key in keys:
            self.add(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Enqueue a key after `seconds`; of several deadlines the earliest counts."""
        at = asyncio.get_running_loop().time() + max(0.0, seconds)
        if self._due.get(key, float("inf")) <= at:
            return
        self._due[key] = at
        heapq.heappush(self._heap, (at, next(self._order), key))
        self._compact()
        self._arm()

    def retry(self, key: K) -> float:
        """Enqueue a failed key after a back-off, which doubles with each failure. Return the back-off in seconds."""
        failures, _ = self._failures.get(key, (0, 0.0))
        self._failures[key] = (failures + 1, asyncio.get_running_loop().time())
        pause = back_off(failures + 1, first=FIRST_BACKOFF, longest=LONGEST_BACKOFF) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        self.add_after(key, pause)
        return pause

    def failing(self, key: K) -> tuple[int, float]:
        """Return how many times in a row the key failed, and the seconds since the last failure."""
        failures, last = self._failures.get(key, (0, 0.0))
        return failures, asyncio.get_running_loop().time() - last

    def succeeded(self, key: K) -> None:
        """Forget the key's failures."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """Wait for the next key; `done` must follow.

        In a turn of the event loop, at most one key is handed out, after the news of that turn: in a burst, news of pods that run would
        otherwise wait behind decisions that create further pods.
        """
        async with self._one_at_a_time:
            while not self._ready:
                self._available.clear()
                await self._available.wait()
            await asyncio.sleep(0)
            _, _, key = heapq.heappop(self._ready)
        self._waiting.discard(key)
        self._working.add(key)
        # A later deadline is obsolete: the decision that follows sets a new one.
        self._due.pop(key, None)
        self._compact()
        metrics.queue_length.set(len(self._ready))
        return key

    def done(self, key: K) -> None:
        """Mark a key as processed, and enqueue it again if it was added meanwhile."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _compact(self) -> None:
        """Drop obsolete deadlines once they are the majority: a key processed every second with a deadline in an hour leaves 3,600."""
        if len(self._heap) > 2 * len(self._due) + SPARE_DEADLINES:
            self._heap = [(at, next(self._order), key) for key, at in self._due.items()]
            heapq.heapify(self._heap)

    def _arm(self) -> None:
        """Set the one timer to the earliest deadline."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if self._wakeup is not None:
            self._wakeup.cancel()
            self._wakeup = None
        if self._heap:
            self._wakeup = asyncio.get_running_loop().call_at(self._heap[0][0], self._fire)

    def _fire(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == at:
                del self._due[key]
                self.add(key)
        self._wakeup = None
        self._arm()
