"""A node in memory: its kubelet runs pods, and in each pod an agent answers by docs/agent-protocol.md, over the engine's Transport."""

import asyncio
import base64
import itertools
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from flowsession.cluster.agents import AgentError
from flowsession.decide import times
from flowsession.decide.views import PodView
from unit.longrun.apiserver import ApiServer, Object
from unit.longrun.clocks import elapsed, true_time

SCHEDULE_SECONDS, START_SECONDS, END_SECONDS = 0.05, 0.4, 0.5
ANSWER_SECONDS = 0.003
SILENT_SECONDS = 3.0
"""How long the client waits for a connection that never comes about."""
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
            case "GET", "/v1/packages":
                return 200, {"podUID": self.uid, "packages": [{"name": "numpy", "version": "2.1", "layer": "image"}]}
            case _:
                raise AssertionError(f"no such call: {method} {target}")
        return 200, self._state()

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


class Node:
    """Runs every pod of the cluster, and brings the operator's calls to the agents."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api
        self._agents: dict[str, Agent] = {}
        self._volumes: dict[str, Object] = {}
        self.prepare: Callable[[Agent], None] = lambda _: None
        """Has its way with every new agent before it is asked anything."""
        self.starts: list[tuple[float, str]] = []
        """When a container started, and in which pod."""
        api.pod_created = lambda pod: self._later(SCHEDULE_SECONDS, pod, self._schedule)
        api.pod_doomed = lambda pod: self._later(END_SECONDS, pod, self._end)

    def agent(self, pod: Object) -> Agent:
        """The agent in the pod's present container."""
        return self._agents[pod["metadata"]["uid"]]

    def restart_container(self, pod: Object, reason: str = "OOMKilled", code: int = 137) -> None:
        """The container dies, and the kubelet starts it again at once."""
        before = pod["status"]["containerStatuses"][0]["restartCount"]
        self._run(pod, restarts=before + 1, last={"terminated": {"reason": reason, "exitCode": code}})

    def lose(self, pod: Object) -> None:
        """The pod is evicted."""
        pod["status"] |= {"phase": "Failed", "reason": "Evicted", "message": "the node was low on memory"}
        self._agents.pop(pod["metadata"]["uid"], None)
        self._api.changed(pod)

    async def send(
        self, pod: PodView, method: str, path: str, body: Object | None, headers: dict[str, str], timeout_seconds: float
    ) -> tuple[int, bytes]:
        """The engine's Transport. Raises AgentError."""
        await asyncio.sleep(ANSWER_SECONDS)
        agent = self._agents.get(pod.uid)
        if agent is None or agent.silent:
            await asyncio.sleep(SILENT_SECONDS)
            raise AgentError(f"no answer from {pod.ip}: TimeoutError")
        status, answer = await agent.answer(method, path, body, headers["X-Flowsession-Token"])
        return status, json.dumps(answer).encode()

    async def close(self) -> None:
        """Nothing is held."""

    def _later(self, seconds: float, pod: Object, do: Callable[[Object], None]) -> None:
        def if_it_is_there() -> None:
            meta = pod["metadata"]
            if self._api.objects.get(("Pod", meta["namespace"], meta["name"])) is pod:
                do(pod)

        asyncio.get_running_loop().call_later(seconds, if_it_is_there)

    def _schedule(self, pod: Object) -> None:
        pod["spec"]["nodeName"] = "worker-1"
        self._api.changed(pod)
        self._later(START_SECONDS, pod, self._start)

    def _start(self, pod: Object) -> None:
        if not pod["metadata"].get("deletionTimestamp"):
            self._run(pod, restarts=0, last={})

    def _run(self, pod: Object, *, restarts: int, last: Object) -> None:
        uid = pod["metadata"]["uid"]
        state: dict[str, Any] = {"running": {"startedAt": times.stamp(true_time())}}
        pod["status"] = {
            "phase": "Running",
            "podIP": "10.0.0.5",
            "containerStatuses": [
                {"name": "session", "restartCount": restarts, "state": state, "lastState": last, "imageID": "runtime@sha256:1"}
            ],
        }
        kept = self._volumes.setdefault(uid, {}) if pod["spec"]["volumes"] else {}
        self._agents[uid] = Agent(uid, kept)
        self.prepare(self._agents[uid])
        self.starts.append((elapsed(), pod["metadata"]["name"]))
        self._api.changed(pod)

    def _end(self, pod: Object) -> None:
        self._agents.pop(pod["metadata"]["uid"], None)
        self._volumes.pop(pod["metadata"]["uid"], None)
        self._api.remove(pod)
