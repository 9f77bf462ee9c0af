"""The agent of one container in memory: work, installs, retirement, and its answers by docs/agent-protocol.md."""

import asyncio
import base64
import itertools
import json
from urllib.parse import parse_qs, urlsplit

from unit.apiserver import Object
from unit.longrun.clocks import elapsed, true_time

DOOR_SECONDS = 30.0
"""A closed door opens by itself when nobody asks again; docs/agent-protocol.md."""

_BOOTS = itertools.count(1)


class Agent:
    """The agent of one container."""

    def __init__(self, uid: str, volume: Object) -> None:
        self.uid = uid
        self.volume = volume
        self.boot = f"boot-{next(_BOOTS)}"
        self.version = 1
        self.busy = False
        self.what = "start"
        self.last_work = elapsed()
        self.installs: list[str] = []
        """The texts of the requirements that were installed, or begun to be."""
        self.install: Object = {"state": "None"}
        self.install_seconds = 5.0
        self.install_ends = ""
        """A code of the protocol's: the installs fail with it."""
        self.silent = False
        self.retired_at: float | None = None
        self._news = asyncio.Event()
        self._installing: asyncio.TimerHandle | None = None

    def work(self, what: str = "exec python train.py") -> bool:
        """Somebody begins to work; False if the door is closed."""
        if self.retired:
            return False
        self.busy, self.what, self.last_work = True, what, elapsed()
        return True

    def rest(self) -> None:
        """The work ends."""
        if self.busy:
            self.busy, self.last_work = False, elapsed()

    async def work_for(self, seconds: float) -> None:
        assert self.work(), "the door was closed before somebody who works"
        await asyncio.sleep(seconds)
        self.rest()

    @property
    def idle_seconds(self) -> float:
        return 0.0 if self.working else elapsed() - self.last_work

    @property
    def working(self) -> bool:
        return self.busy or self.install["state"] == "Running"

    @property
    def retired(self) -> bool:
        if self.retired_at is not None and elapsed() - self.retired_at >= DOOR_SECONDS:
            self._reopen()
        return self.retired_at is not None

    async def answer(self, method: str, target: str, body: Object | None, token: str) -> tuple[int, Object]:
        """HTTP status and body."""
        if refusal := self._refused(token):
            return refusal
        url = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        match method, url.path:
            case "GET", "/v1/state":
                await self._wait(int(query.get("since", -1)), float(query.get("wait", 0)))
            case "PUT", "/v1/environment":
                if refusal := self._tell(body or {}):
                    return refusal
            case "POST", "/v1/retire":
                if not self._retire(float((body or {})["idleAtLeast"])):
                    return 409, {"podUID": self.uid, "code": "InUse", "message": self.what, "activity": self._activity()}
            case "DELETE", "/v1/retire":
                self._reopen()
            case "POST", "/v1/keepalive":
                if self.retired:
                    return self._closed()
                self.last_work, self.what = elapsed(), "keep-alive"
            case "GET", "/v1/edits" | "/v1/packages":
                return self._content(url.path)
            case _:
                raise AssertionError(f"no such call: {method} {target}")
        return 200, self._state()

    def _content(self, path: str) -> tuple[int, Object]:
        if path == "/v1/edits":
            return 404, {"podUID": self.uid, "code": "NoEdits", "message": "nothing was edited"}
        return 200, {"podUID": self.uid, "packages": [{"name": "numpy", "version": "2.1", "layer": "image"}]}

    def _refused(self, token: str) -> tuple[int, Object] | None:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        now = true_time()
        if claims["aud"] != self.uid:
            return 401, {"podUID": self.uid, "code": "TokenNotForThisPod", "message": "another pod's"}
        if claims["exp"] <= now or claims["iat"] > now + 30:
            return 401, {"podUID": self.uid, "code": "TokenExpired", "message": "expired", "now": now}
        return None

    def _state(self) -> Object:
        return {
            "podUID": self.uid,
            "bootID": self.boot,
            "version": self.version,
            "environment": {"packagesRevision": self.volume.get("packages", ""), "flowRevision": self.volume.get("flow", "")},
            "install": self.install,
            "activity": self._activity(),
            "packages": {"count": 1},
            "edits": {"count": 0, "files": [], "bytes": 0, "revision": "", "offered": "", "restored": False},
            "retired": self.retired,
        }

    def _activity(self) -> Object:
        what = "install" if self.install["state"] == "Running" else self.what
        return {"busy": self.working, "idleSeconds": self.idle_seconds, "what": what}

    def _retire(self, least: float) -> bool:
        if self.working or self.idle_seconds < least:
            self._reopen()
            return False
        if not self.retired:
            self._changed()
        self.retired_at = elapsed()
        return True

    def _reopen(self) -> None:
        if self.retired_at is not None:
            self.retired_at = None
            self._changed()

    def _closed(self) -> tuple[int, Object]:
        return 409, {"podUID": self.uid, "code": "Retired", "message": "retired"}

    def _tell(self, body: Object) -> tuple[int, Object] | None:
        packages, flow = body["packagesRevision"], body["flowRevision"]
        if self.retired and (packages, flow) != (self.volume.get("packages"), self.volume.get("flow")):
            return self._closed()
        if flow != self.volume.get("flow"):
            self.volume["flow"], self.last_work = flow, elapsed()
            self._changed()
        tried = self.install.get("packagesRevision") == packages and not (body.get("retry") and self.install["state"] == "Failed")
        if packages == self.volume.get("packages"):
            if self.install.get("packagesRevision") != packages:
                self._stop_installing()
                self.install = {"state": "Succeeded", "packagesRevision": packages, "tool": "uv", "exitCode": 0}
                self._changed()
        elif not tried:
            self._stop_installing()
            self.last_work = elapsed()
            if body["requirements"] is None:
                self.install = {"state": "Succeeded", "packagesRevision": packages, "tool": ""}
                self.volume["packages"] = packages
            else:
                self.installs.append(body["requirements"]["text"])
                self.install = {"state": "Running", "packagesRevision": packages, "tool": "uv"}
                self._installing = asyncio.get_running_loop().call_later(self.install_seconds, self._installed)
            self._changed()
        return None

    def _stop_installing(self) -> None:
        if self._installing is not None:
            self._installing.cancel()

    def _installed(self) -> None:
        self.last_work, self.what = elapsed(), "install"
        if self.install_ends:
            self.install |= {"state": "Failed", "code": self.install_ends, "exitCode": 1, "message": "there is no such package"}
        else:
            self.install |= {"state": "Succeeded", "exitCode": 0, "seconds": self.install_seconds, "changed": 1}
            self.volume["packages"] = self.install["packagesRevision"]
        self._changed()

    def _changed(self) -> None:
        self.version += 1
        self._news.set()
        self._news = asyncio.Event()

    async def _wait(self, since: int, seconds: float) -> None:
        until = elapsed() + seconds
        while since >= self.version and elapsed() < until - 1e-6:
            try:
                async with asyncio.timeout(until - elapsed()):
                    await self._news.wait()
            except TimeoutError:
                return
