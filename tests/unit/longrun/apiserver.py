"""The API server of a long run: its responses take time, its watch lags, and it may be unavailable."""

import asyncio
from collections import deque
from collections.abc import Callable

from flowsession.cluster import errors
from flowsession.engine.loop import SELECTORS
from unit.apiserver import ApiServer, Object, labelled, sent
from unit.longrun.clocks import elapsed, true_time
from unit.longrun.records import EventWrite, Request, Requests

Watcher = Callable[[str, Object, bool], None]

ANSWER_SECONDS = 0.004
WATCH_SECONDS = 0.02
"""Seconds by which a watch lags: it reports a write later than the response to the write."""
COLLECT_SECONDS = 0.1


class LateApiServer(ApiServer):
    """An API server with delays. Times are seconds of the loop's time."""

    def __init__(self, operator_time: Callable[[], float]) -> None:
        super().__init__(true_time, operator_time)
        self.requests: Requests = []
        self.told: list[EventWrite] = []
        self.deleted: dict[tuple[str, str], float] = {}
        """Time of deletion, by kind and name."""
        self.watchers: list[Watcher] = []
        self.history: list[tuple[float, str, Object]] = []
        """Every status that a session had: time, name and status."""
        self.away = False
        self.news = asyncio.Event()
        self.pod_created: Callable[[Object], None] = lambda _: None
        self.pod_ending: Callable[[Object], None] = lambda _: None
        self._on_the_way: deque[tuple[float, str, Object, bool]] = deque()

    async def request(self, verb: str, kind: str, namespace: str, name: str) -> None:
        self.requests.append(Request(elapsed(), verb, kind, name))
        await asyncio.sleep(ANSWER_SECONDS)
        if self.away:
            raise errors.Unavailable(f"{verb} {kind}: connection refused")

    def put(self, body: Object) -> Object:
        super().put(body)
        if body["kind"] == "Pod":
            self.pod_created(body)
        return body

    def changed(self, body: Object) -> None:
        if body["kind"] == "Event":
            about = body["involvedObject"]["name"]
            self.told.append(EventWrite(elapsed(), about, body["type"], body["reason"], body["message"]))
        if body["kind"] == "ComputeSession":
            self.history.append((elapsed(), body["metadata"]["name"], sent(body.get("status") or {})))
        super().changed(body)

    def begin_deletion(self, pod: Object) -> None:
        was_ending = pod["metadata"].get("deletionTimestamp")
        super().begin_deletion(pod)
        if pod["metadata"].get("deletionTimestamp") != was_ending:
            self.pod_ending(pod)

    def collect_later(self, owner: str) -> None:
        asyncio.get_running_loop().call_later(COLLECT_SECONDS, self.collect, owner)

    def come_back(self) -> None:
        """End the outage. A second later watches have every object that exists, but do not report what was deleted meanwhile."""
        self.away = False
        asyncio.get_running_loop().call_later(1.0, self.stream_everything)

    def stream_everything(self) -> None:
        """Report every object as it is now, as a new watch does."""
        for body in list(self.objects.values()):
            self.hear(body, gone=False)

    def writes(self, *, since: float = 0.0, before: float = float("inf"), name: str = "") -> Requests:
        """Return the writes, except those of Events."""
        return [
            request
            for request in self.requests
            if since <= request.at < before and request.verb not in ("GET", "LIST") and request.kind != "Event" and name in request.name
        ]

    def hear(self, body: Object, *, gone: bool) -> None:
        if gone:
            self.deleted[body["kind"], body["metadata"]["name"]] = elapsed()
        self.news.set()
        if self.away or body["kind"] not in SELECTORS or not labelled(body, SELECTORS[body["kind"]]):
            return
        loop = asyncio.get_running_loop()
        self._on_the_way.append((loop.time() + WATCH_SECONDS, body["kind"], sent(body), gone))
        loop.call_later(WATCH_SECONDS, self._deliver)

    def _deliver(self) -> None:
        while self._on_the_way and self._on_the_way[0][0] <= elapsed() + 1e-6:
            _, kind, body, gone = self._on_the_way.popleft()
            for watcher in self.watchers if not self.away else ():
                watcher(kind, body, gone)
