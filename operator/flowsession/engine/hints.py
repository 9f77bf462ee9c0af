"""Receives the datagrams by which agents announce news: a pod's uid and a word. A datagram only causes that pod's agent to be asked.

Datagrams cost no connection, keep nothing open and need no answer. An agent sees that one arrived when it is asked.
"""

import asyncio
from dataclasses import replace

from flowsession import metrics
from flowsession.engine.allowance import Allowance, Bucket
from flowsession.engine.queue import Queue
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.keys import Key
from flowsession.model.agent_views import Hint
from flowsession_protocol import datagrams

MOST_AT_ONCE = 500
REFILL = 200.0
"""Datagrams per second that are processed, after the burst, from all senders together."""
MOST_OF_ADDRESS = 20
REFILL_OF_ADDRESS = 2.0
"""The same for one sender."""
ADDRESSES = 4096
LEAST_BETWEEN = 0.5
"""Minimum seconds between two accepted datagrams of one pod with the same news."""
ENDINGS = 30
ENDING_REFILL = 0.02
"""Rate per second, after the burst, at which a pod may announce its end and is asked at once for that."""


class Hints(asyncio.DatagramProtocol):
    """Belongs to one event loop, like the cache."""

    def __init__(self, cache: Cache, queue: Queue[Key]) -> None:
        self._cache = cache
        self._queue = queue
        self._all = Bucket(MOST_AT_ONCE, 1 / REFILL, MOST_AT_ONCE, cache.clock())
        self._by_address = Allowance(MOST_OF_ADDRESS, 1 / REFILL_OF_ADDRESS, ADDRESSES)
        self._endings = Allowance(ENDINGS, 1 / ENDING_REFILL, ADDRESSES)

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        """Enqueue the session of the pod that the datagram names, if it is known."""
        metrics.edit_hints.labels(self._take(data, str(addr[0]))).inc()

    def _take(self, data: bytes, address: str) -> str:
        now = self._cache.clock()
        if not self._by_address.of(address, now).take(now) or not self._all.take(now):
            return "too many"
        datagram = datagrams.read(data)
        if datagram is None:
            return "unreadable"
        uid, word = datagram
        name = self._cache.pod_names.get(uid)
        pod = self._cache.pods.get(name) if name else None
        if pod is None or not pod.session:
            return "unknown"
        hint = self._hint(uid, word, now)
        if hint is None:
            return "too many"
        self._cache.hints[uid] = hint
        self._queue.add(Key("ComputeSession", pod.view.namespace, pod.session))
        self._queue.add_all(self._cache.departed.concerned(pod.view))
        return "taken"

    def _hint(self, uid: str, word: str, now: float) -> Hint | None:
        """Return the pod's new hint, or None if the same news came within LEAST_BETWEEN."""
        before = self._cache.hints.get(uid, Hint())
        if word == datagrams.KILLED:
            return None if 0 <= now - before.killed_at < LEAST_BETWEEN else replace(before, killed_at=now)
        if word == datagrams.CHECKED:
            return None if 0 <= now - before.checked_at < LEAST_BETWEEN else replace(before, checked_at=now)
        ending = word == datagrams.ENDING
        if 0 <= now - before.at < LEAST_BETWEEN and (before.ending or not ending):
            return None
        return replace(before, at=now, ending=ending and self._endings.of(uid, now).take(now))


async def listen(hints: Hints, port: int) -> asyncio.DatagramTransport:
    """Open a socket for hints on every address. Raises OSError."""
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_datagram_endpoint(lambda: hints, local_addr=("::", port))
    except OSError:  # no IPv6 on this node
        transport, _ = await loop.create_datagram_endpoint(lambda: hints, local_addr=("0.0.0.0", port))  # noqa: S104 - the pod's address
    return transport
