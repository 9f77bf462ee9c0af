"""The vocabulary of the tests: a namespace, functions that create objects in it, and functions that wait for their state."""

import itertools
import time
from typing import Any

import pytest

from apiserver.agents import HttpAgent
from apiserver.api import FLOWSESSION, Api, Object, Refused, eventually
from apiserver.kubelet import Kubelet, now
from apiserver.operator_process import Operator
from apiserver.recorder import Recorder, Request

_numbers = itertools.count(1)
SOURCE_LABEL = {"flowsession.dev/source": "true"}


class Lab:
    """A namespace of the private cluster, with the operator, kubelet and recorder."""

    def __init__(self, api: Api, recorder: Recorder, operator: Operator, kubelet: Kubelet) -> None:
        self.api = api
        self.recorder = recorder
        self.operator = operator
        self.kubelet = kubelet
        self.namespace = ""
        self.new_namespace()

    def new_namespace(self) -> str:
        """Switch to a fresh namespace."""
        self.namespace = f"t{next(_numbers)}"
        self.api.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        # The service account controller does this some time later.
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        self.api.post(f"/api/v1/namespaces/{self.namespace}/serviceaccounts", account)
        return self.namespace

    # Paths.

    def path(self, plural: str, name: str = "") -> str:
        base = FLOWSESSION if plural in ("computesessions", "flowenvironments", "computeinstances", "flowruns") else "/api/v1"
        return f"{base}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    # What people do.

    def create_environment(self, name: str = "env", **spec: Any) -> Object:
        body = {"apiVersion": "flowsession.dev/v1alpha1", "kind": "FlowEnvironment", "metadata": {"name": name}, "spec": spec}
        answer: Object = self.api.post(self.path("flowenvironments") + "?fieldValidation=Strict", body)
        return answer

    def create_session(
        self, name: str = "ada", *, environment: str = "env", user: str = "", labels: Object | None = None, **spec: Any
    ) -> Object:
        body = {
            "apiVersion": "flowsession.dev/v1alpha1",
            "kind": "ComputeSession",
            "metadata": {"name": name, "labels": labels or {}},
            "spec": {"environmentRef": {"name": environment}, "user": user or f"{name}@example.com", **spec},
        }
        answer: Object = self.api.post(self.path("computesessions") + "?fieldValidation=Strict", body)
        return answer

    def create_run(self, name: str = "answers", *, environment: str = "env", user: str = "ada@example.com", **spec: Any) -> Object:
        body = {
            "apiVersion": "flowsession.dev/v1alpha1",
            "kind": "FlowRun",
            "metadata": {"name": name},
            "spec": {"environmentRef": {"name": environment}, "user": user, "data": {"path": "data.jsonl"}, **spec},
        }
        answer: Object = self.api.post(self.path("flowruns") + "?fieldValidation=Strict", body)
        return answer

    def until_run(self, reason: str, name: str = "answers", *, says: str = "") -> Object:
        """Return the run's status once its condition Complete has this reason."""
        self.until_condition("Complete", reason, name, plural="flowruns", says=says)
        found: Object = self.api.get(self.path("flowruns", name))["status"]
        return found

    def create_config_map(self, name: str = "flow", *, labelled: bool = True, binary: Object | None = None, **files: str) -> Object:
        """Create a ConfigMap. Keys are given with `__` for the dot: flow__dag__yaml."""
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": SOURCE_LABEL if labelled else {}},
            "data": {key.replace("__", "."): text for key, text in files.items()},
            "binaryData": binary or {},
        }
        answer: Object = self.api.post(self.path("configmaps"), body)
        return answer

    def change_config_map(self, name: str = "flow", **files: str) -> None:
        self.api.patch(self.path("configmaps", name), {"data": {key.replace("__", "."): text for key, text in files.items()}})

    def change_session(self, name: str = "ada", **spec: Any) -> Object:
        answer: Object = self.api.patch(self.path("computesessions", name), {"spec": spec})
        return answer

    def environment_of_flow(self, *, labelled: bool = True, **files: str) -> None:
        """Create a ConfigMap with a flow folder, and an environment that uses it."""
        self.create_config_map(labelled=labelled, **(files or {"flow__dag__yaml": "nodes: []\n"}))
        self.create_environment(source={"configMap": {"name": "flow"}})

    # What people see.

    def session(self, name: str = "ada") -> Object:
        answer: Object = self.api.get(self.path("computesessions", name))
        return answer

    def gone(self, name: str = "ada") -> bool:
        return self.api.find(self.path("computesessions", name)) is None

    def pods(self, *, session: str = "") -> list[Object]:
        """Return the pods of the namespace that are not being deleted."""
        found = self.api.get(self.path("pods"))["items"]
        return [
            pod
            for pod in found
            if not pod["metadata"].get("deletionTimestamp")
            and (not session or pod["metadata"]["labels"].get("flowsession.dev/session") == session)
        ]

    def the_pod(self, session: str = "") -> Object:
        """Return the only pod."""
        (pod,) = self.pods(session=session)
        return pod

    def agent(self, session: str = "ada") -> HttpAgent:
        """Return the (fake) agent of the session's pod."""
        agent = self.kubelet.agents[self.the_pod(session)["metadata"]["uid"]]
        assert isinstance(agent, HttpAgent)
        return agent

    def package_lists(self) -> list[Object]:
        return [cm for cm in self.api.get(self.path("configmaps"))["items"] if "-packages-" in cm["metadata"]["name"]]

    def events(self, name: str = "ada", *, reason: str = "") -> list[Object]:
        found = self.api.get(self.path("events"))["items"]
        return [e for e in found if e["involvedObject"]["name"] == name and (not reason or e["reason"] == reason)]

    def condition(self, kind: str, name: str = "ada", *, plural: str = "computesessions") -> Object:
        """Return the condition, or an empty one."""
        status = self.api.get(self.path(plural, name)).get("status") or {}
        return next((c for c in status.get("conditions") or () if c["type"] == kind), {"status": "", "reason": "", "message": ""})

    # Waiting.

    def until_ready(self, name: str = "ada", *, seconds: float = 90) -> Object:
        """Return the session once it is Ready and its packages are listed."""

        def ready() -> Object:
            session = self.session(name)
            status = session.get("status") or {}
            conditions = {c["type"]: c for c in status.get("conditions") or ()}
            assert conditions.get("Ready", {}).get("status") == "True", f"{name}: {status}\n{self.operator.last_words()[-1500:]}"
            assert status.get("packages"), f"{name}: no packages in {status}"
            return session

        return eventually(ready, seconds=seconds)

    def until_condition(
        self, kind: str, reason: str, name: str = "ada", *, plural: str = "computesessions", says: str = "", seconds: float = 90
    ) -> Object:
        """Return the condition once it has this reason and its message contains `says`."""

        def so() -> Object:
            found = self.condition(kind, name, plural=plural)
            assert found["reason"] == reason, found
            assert says in found["message"], found
            return found

        return eventually(so, seconds=seconds)

    def until_environment(self, reason: str, *, says: str = "", name: str = "env", seconds: float = 90) -> Object:
        return self.until_condition("Ready", reason, name, plural="flowenvironments", says=says, seconds=seconds)

    def until_event(self, reason: str, name: str = "ada") -> Object:
        """Return the only Event with this reason."""

        def told() -> Object:
            found = self.events(name, reason=reason)
            assert len(found) == 1, f"{len(found)} Events {reason}"
            return found[0]

        return eventually(told)

    def settle(self, *, seconds: float = 90, quiet: float = 0.4) -> None:
        """Return once nothing has been written to the namespace for `quiet` seconds."""

        def quiet_for_long() -> bool:
            writes = self.writes()
            return not writes or time.time() - writes[-1].at > quiet

        eventually(quiet_for_long, seconds=seconds, what="no writes any more")

    def backdate(self, name: str = "ada", *, seconds: float = 100) -> None:
        """Move the session's and its pod's timestamps into the past. The operator must not be running."""
        assert not self.operator.running
        then = now(-seconds)
        status = {"readyAt": then, "startedAt": then, "lastActivity": {"at": then, "what": "start"}, "expiresAt": None}
        self.api.patch(self.path("computesessions", name) + "/status", {"status": status})
        pod = self.the_pod(name)
        container = pod["status"]["containerStatuses"][0] | {"state": {"running": {"startedAt": then}}}
        self.kubelet.set_status(pod, {"containerStatuses": [container]})
        if isinstance(agent := self.kubelet.agents[pod["metadata"]["uid"]], HttpAgent):
            agent.last_work -= seconds

    # What the operator did.

    def writes(self, *, since: int = 0) -> list[Request]:
        return self.recorder.writes(self.namespace, since=since)

    def lines(self, *, since: int = 0, without: tuple[str, ...] = ()) -> list[str]:
        """Return the writes in the form "PATCH computesessions/status"."""
        return [request.line for request in self.writes(since=since) if not request.kind.startswith(without or ("\0",))]

    def writes_to_namespace(self, line: str = "", name: str = "") -> Any:
        """Return a filter for writes to this namespace, of this line and object if given."""
        namespace = self.namespace

        def fits(request: Request) -> bool:
            return (
                request.writes
                and request.namespace == namespace
                and (not line or request.line == line)
                and (not name or request.name == name)
            )

        return fits

    def of_the_session(self) -> Any:
        """Return a filter for every write to this namespace except those of the environment's own status."""
        fits = self.writes_to_namespace()
        return lambda request: fits(request) and request.kind != "flowenvironments/status"


def refusal(call: Any, *arguments: Any, **named: Any) -> str:
    """Return the API server's message when it refuses a call."""
    with pytest.raises(Refused) as refused:
        call(*arguments, **named)
    assert refused.value.status in (400, 403, 422), refused.value
    return refused.value.message
