"""A node in memory: its kubelet runs pods, and it carries the engine's calls to their agents."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from flowsession.cluster.agent.transport import NoAnswer, Request
from flowsession.model import times
from flowsession.model.views import PodView
from unit.apiserver import Object
from unit.longrun.agent import Agent
from unit.longrun.apiserver import LateApiServer
from unit.longrun.clocks import elapsed, true_time

SCHEDULE_SECONDS, START_SECONDS, END_SECONDS = 0.05, 0.4, 0.5
ANSWER_SECONDS = 0.003
SILENT_SECONDS = 3.0
"""Seconds for which the client waits for a connection that is never made."""


class Node:
    """Runs every pod of the cluster, and carries the operator's calls to the agents."""

    def __init__(self, api: LateApiServer) -> None:
        self._api = api
        self._agents: dict[str, Agent] = {}
        self._volumes: dict[str, Object] = {}
        self.prepare: Callable[[Agent], None] = lambda _: None
        """Called with every new agent before its first request."""
        self.starts: list[tuple[float, str]] = []
        """Each start of a container: time and pod."""
        api.pod_created = lambda pod: self._later(SCHEDULE_SECONDS, pod, self._schedule)
        api.pod_ending = lambda pod: self._later(END_SECONDS, pod, self._end)

    def agent(self, pod: Object) -> Agent:
        """Return the agent in the pod's current container."""
        return self._agents[pod["metadata"]["uid"]]

    def restart_container(self, pod: Object, reason: str = "OOMKilled", code: int = 137) -> None:
        """Let the container die. The kubelet restarts it at once."""
        before = pod["status"]["containerStatuses"][0]["restartCount"]
        self._run(pod, restarts=before + 1, last={"terminated": {"reason": reason, "exitCode": code}})

    def lose(self, pod: Object) -> None:
        """Evict the pod."""
        pod["status"] |= {"phase": "Failed", "reason": "Evicted", "message": "the node was low on memory"}
        self._agents.pop(pod["metadata"]["uid"], None)
        self._api.changed(pod)

    async def send(self, pod: PodView, request: Request, headers: dict[str, str]) -> tuple[int, bytes]:
        """Send a request, as the engine's Transport does. Raises AgentError."""
        await asyncio.sleep(ANSWER_SECONDS)
        agent = self._agents.get(pod.uid)
        if agent is None or agent.silent:
            await asyncio.sleep(SILENT_SECONDS)
            raise NoAnswer(f"no answer from {pod.ip} within 10 s")
        status, answer = await agent.answer(request.method, request.path, request.body, headers["X-Flowsession-Token"])
        raw = json.dumps(answer).encode()
        assert len(raw) <= request.largest
        return status, raw

    async def close(self) -> None:
        """Do nothing: there are no connections."""

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
