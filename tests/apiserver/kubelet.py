"""A simulated scheduler and kubelet: binds pods, reports them as running, starts their agents, and removes deleted pods."""

import contextlib
import errno
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import urllib3

from apiserver.agents import Agent
from apiserver.api import Api, Refused

log = logging.getLogger(__name__)

NODE = "node-1"
_NETWORK = 80 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
"""Each test process has its own addresses, and none is used twice: a stopped agent's address stays silent."""

PODS = "/api/v1/pods?labelSelector=app.kubernetes.io/managed-by%3Dflowsession"


class Kubelet:
    """A thread that makes every pod of the operator Running at once, unless `hold` is set."""

    def __init__(self, api: Api, make_agent: Callable[[], Agent]) -> None:
        self._api = api
        self.make_agent = make_agent
        self.hold = False
        """Whether pods stay unscheduled. `release` starts them."""
        self.lingers = False
        """Whether deleted pods and their agents stay, as within a grace period. `release` removes them."""
        self.image_ids: dict[str, str] = {}
        """The imageID that the node reports, by image name in the manifest. Other images get an id that no registry assigned."""
        self.agents: dict[str, Agent] = {}
        """Agents by the pod's uid."""
        self._seen: set[str] = set()
        self._numbers = itertools.count(1)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._create_node()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Have the thread end with its watch, without waiting for it, and stop the agents."""
        self._stop.set()
        self.stop_agents()

    def stop_agents(self) -> None:
        """Stop every remaining agent."""
        for uid in list(self.agents):
            self._end_agent(uid)

    def release(self) -> None:
        """Run the pods that were held back and remove those that lingered."""
        self.hold = self.lingers = False
        for pod in self._api.get(PODS)["items"]:
            self._handle(pod)

    def set_status(self, pod: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        """Merge-patch a pod's status."""
        meta = pod["metadata"]
        answer: dict[str, Any] = self._api.patch(f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status", {"status": status})
        return answer

    def restart_container(self, pod: dict[str, Any], agent: Agent, *, reason: str = "Error", exit_code: int = 1) -> None:
        """Simulate that the container ended and was started again in the same pod, with another agent."""
        meta = pod["metadata"]
        fresh = self._api.get(f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}")
        self._end_agent(meta["uid"])
        agent.start(fresh, fresh["status"]["podIP"])
        self.agents[meta["uid"]] = agent
        before = fresh["status"]["containerStatuses"][0]
        ended = {"reason": reason, "exitCode": exit_code, "startedAt": now(), "finishedAt": now()}
        self.set_status(
            pod,
            {
                "containerStatuses": [
                    {
                        **before,
                        "restartCount": before["restartCount"] + 1,
                        "state": {"running": {"startedAt": now(3)}},
                        "lastState": {"terminated": ended},
                    }
                ]
            },
        )

    def _create_node(self) -> None:
        self._api.post("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})

    def _run(self) -> None:
        version = ""
        while not self._stop.is_set():
            try:
                listed = self._api.get(PODS)
                version = listed["metadata"]["resourceVersion"]
                for pod in listed["items"]:
                    self._handle(pod)
                for event in self._api.watch(f"{PODS}&watch=true&resourceVersion={version}"):
                    if self._stop.is_set():
                        return
                    if event["type"] == "DELETED":
                        self._end_agent(event["object"]["metadata"]["uid"])
                    elif event["type"] != "ERROR":
                        self._handle(event["object"])
            except (Refused, urllib3.exceptions.HTTPError, OSError):
                time.sleep(0.05)
            except Exception:
                log.exception("the played kubelet stumbled")
                time.sleep(0.05)

    def _handle(self, pod: dict[str, Any]) -> None:
        with self._lock, contextlib.suppress(Refused):
            meta = pod["metadata"]
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
            if meta.get("deletionTimestamp"):
                if self.lingers:
                    return
                self._end_agent(meta["uid"])
                self._api.delete(path, {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}})
            elif meta["uid"] not in self._seen and not self.hold and pod["status"].get("phase") == "Pending":
                self._seen.add(meta["uid"])
                self._run_pod(pod, path)

    def _run_pod(self, pod: dict[str, Any], path: str) -> None:
        meta = pod["metadata"]
        target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
        self._api.post(f"{path}/binding", {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"]}, "target": target})
        ip = self._address()
        (container,) = pod["spec"]["containers"]
        if container["name"] in ("session", "resolver"):
            agent = self.make_agent()
            while True:
                try:
                    agent.start(pod, ip)
                    break
                except OSError as error:
                    if error.errno != errno.EADDRINUSE:
                        raise
                    ip = self._address()  # another run of these tests on this machine uses it
            self.agents[meta["uid"]] = agent
        self.set_status(
            pod,
            {
                "phase": "Running",
                "podIP": ip,
                "podIPs": [{"ip": ip}],
                "startTime": now(),
                "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}],
                "containerStatuses": [
                    {
                        "name": container["name"],
                        "image": container["image"],
                        "imageID": self.image_ids.get(container["image"], "sha256:0123456789abcdef"),
                        "ready": True,
                        "restartCount": 0,
                        "state": {"running": {"startedAt": now()}},
                    }
                ],
            },
        )

    def _address(self) -> str:
        number = next(self._numbers)
        return f"127.{_NETWORK}.{number // 250}.{number % 250 + 1}"

    def _end_agent(self, uid: str) -> None:
        agent = self.agents.pop(uid, None)
        if agent is not None:
            agent.stop()


def now(offset: float = 0) -> str:
    """Return the current time as a kubelet writes it."""
    return datetime.fromtimestamp(time.time() + offset, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
