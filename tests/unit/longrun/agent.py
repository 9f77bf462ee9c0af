"""The agent of one container in memory, called as if over HTTP: tokens, long polls, installs that take time."""

import asyncio
import base64
import json
from urllib.parse import parse_qs, urlsplit

from fake_agent import FakeAgent, Object, Reply
from unit.longrun.clocks import elapsed, true_time


class Agent(FakeAgent):
    """An agent on the run's clock."""

    def __init__(self, uid: str, volume: Object) -> None:
        super().__init__(elapsed, uid=uid, volume=volume)
        self.install_seconds = 5.0
        self.install_ends = ""
        """Code of the protocol with which installs fail, or empty if they succeed."""
        self.silent = False
        self._news = asyncio.Event()
        self._installing: asyncio.TimerHandle | None = None

    async def work_for(self, seconds: float) -> None:
        assert self.work(), "the agent was retired before somebody who works"
        await asyncio.sleep(seconds)
        self.rest()

    async def answer(self, method: str, target: str, body: Object | None, token: str) -> Reply:
        if refusal := self._refused(token):
            return refusal
        url = urlsplit(target)
        if (method, url.path) == ("GET", "/v1/state"):
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            await self._wait(int(query.get("since", -1)), float(query.get("wait", 0)))
        return self.reply(method, url.path, body)

    def changed(self) -> None:
        super().changed()
        self._news.set()
        self._news = asyncio.Event()
        if self._installing is not None and self.install["state"] != "Running":
            self._installing.cancel()

    def install_begins(self) -> None:
        if self._installing is not None:
            self._installing.cancel()
        self._installing = asyncio.get_running_loop().call_later(self.install_seconds, self._installed)

    def _installed(self) -> None:
        self.finish_install(self.install_ends, seconds=self.install_seconds)

    def _refused(self, token: str) -> Reply | None:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        now = true_time()
        if claims["aud"] != self.uid:
            return 401, {"podUID": self.uid, "code": "TokenNotForThisPod", "message": "another pod's"}
        if claims["exp"] <= now or claims["iat"] > now + 30:
            return 401, {"podUID": self.uid, "code": "TokenExpired", "message": "expired", "now": now}
        return None

    async def _wait(self, since: int, seconds: float) -> None:
        until = elapsed() + seconds
        while since >= self.version and elapsed() < until - 1e-6:
            try:
                async with asyncio.timeout(until - elapsed()):
                    await self._news.wait()
            except TimeoutError:
                return
