"""A long run: the real engine, an API server and a node in memory, and what people do to sessions. Its hours pass in milliseconds."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric import rsa

from flowsession.api import API_VERSION
from flowsession.cluster.agent.client import AgentClient, Answer
from flowsession.cluster.agent.feeds import FeedCredentials
from flowsession.cluster.gateway import KubernetesCluster
from flowsession.cluster.tokens import Signer
from flowsession.cluster.vault import Vault
from flowsession.engine.loop import Engine
from flowsession.engine.resolutions import Resolutions
from flowsession.model import times
from flowsession.model.agent_views import AgentArchive
from flowsession.model.plan import AgentCall, Follow
from flowsession.model.views import PodView
from flowsession.reconcile.requests import REQUESTS
from flowsession.settings import Settings
from unit.apiserver import Object
from unit.builders import NAMESPACE, NOW, verdict
from unit.longrun.agent import Agent
from unit.longrun.apiserver import LateApiServer
from unit.longrun.clocks import OperatorTime, elapsed, true_time
from unit.longrun.node import Node
from unit.longrun.records import Call, EventWrite


class Client(AgentClient):
    """The real client, with a list of the calls that it made."""

    def __init__(self, node: Node, signer: Signer) -> None:
        super().__init__(node, signer)
        self.calls: list[Call] = []

    async def call(self, pod: PodView, call: AgentCall, feed: FeedCredentials | None = None) -> Answer:
        self.calls.append(Call(elapsed(), pod.name, type(call).__name__))
        return await super().call(pod, call, feed)


class LongRun:
    """The whole cluster. The test starts and stops the operator."""

    def __init__(self, clock: OperatorTime, settings: Settings | None = None) -> None:
        self.clock = clock
        self.api = LateApiServer(clock.time)
        self.node = Node(self.api)
        self.client = Client(self.node, Signer(rsa.generate_private_key(public_exponent=65537, key_size=1024)))
        self.settings = settings or Settings()
        self.engine: Engine | None = None

    async def start_operator(self) -> None:
        """Start a new operator process, which knows only what the cluster says."""
        self.engine = Engine(
            cluster=cast(KubernetesCluster, self.api),
            agent_client=self.client,
            settings=self.settings,
            public_keys="{}",
            archive=AgentArchive("ab" * 32, "QUdFTlQ="),
            instance="operator-0",
            vault=Vault(bytes(32)),
            resolutions=Resolutions(Settings()),
        )
        await self.engine.start()
        self.api.watchers = [self._observe]
        self.api.stream_everything()

    async def stop_operator(self) -> None:
        """Stop the operator as if killed: nothing is finished."""
        self.api.watchers = []
        if self.engine is not None:
            await self.engine.stop()
            self.engine = None

    def create(
        self, name: str = "alice", *, environment: str = "flow-env", timeout: int = 3600, action: str = "Delete", **spec: Any
    ) -> "Session":
        """Create a session as `kubectl apply` does, and its environment if it is missing."""
        if ("FlowEnvironment", NAMESPACE, environment) not in self.api.objects:
            self.api.put(_manifest("FlowEnvironment", environment, {}))
        idle = {"timeoutSeconds": timeout, "action": action}
        spec = {"environmentRef": {"name": environment}, "user": f"{name}@example.com", "idle": idle, **spec}
        self.api.put(_manifest("ComputeSession", name, spec))
        return Session(self, name)

    async def session(self, name: str = "alice", **fields: Any) -> "Session":
        """Create a session, start the operator if necessary, and wait until the session is Ready."""
        if self.engine is None:
            await self.start_operator()
        session = self.create(name, **fields)
        await self.until(lambda: session.ready, within=60)
        return session

    def change_environment(self, **spec: Any) -> None:
        """Create or change the environment as `kubectl apply` does."""
        body = self.api.objects.get(("FlowEnvironment", NAMESPACE, "flow-env"))
        if body is None:
            self.api.put(_manifest("FlowEnvironment", "flow-env", spec))
            return
        body["spec"] = spec
        body["metadata"]["generation"] += 1
        self.api.changed(body)

    async def until(self, holds: Callable[[], Any], *, within: float) -> float:
        """Wait for something that shows in the cluster's objects. Return its time. Fails after `within` seconds of the loop's time."""
        try:
            async with asyncio.timeout(within):
                while not holds():
                    self.api.news.clear()
                    await self.api.news.wait()
        except TimeoutError:
            statuses = [body.get("status") for body in self.api.of("ComputeSession")][:3]
            raise AssertionError(f"not so after {within} s: {statuses}, told {self.api.told[-5:]}") from None
        return elapsed()

    def calls(self, *, since: float = 0.0, before: float = float("inf")) -> list[Call]:
        """Return the calls to agents in that period, except for long polls of an install."""
        return [call for call in self.client.calls if since <= call.at < before and call.what != Follow.__name__]

    def _observe(self, kind: str, body: Object, gone: bool) -> None:
        assert self.engine is not None
        self.engine.observe(kind, body, deleted=gone)


class Session:
    """One session as its user sees it. Times are seconds of the loop's time."""

    def __init__(self, run: LongRun, name: str) -> None:
        self.run = run
        self.name = name
        self._asked = 0

    @property
    def body(self) -> Object | None:
        return self.run.api.objects.get(("ComputeSession", NAMESPACE, self.name))

    @property
    def status(self) -> Object:
        return (self.body or {}).get("status") or {}

    @property
    def ready(self) -> bool:
        return self.says("Ready")[0] == "True"

    @property
    def deleted_at(self) -> float | None:
        return self.run.api.deleted.get(("ComputeSession", self.name))

    @property
    def pod(self) -> Object:
        """The session's pod. There must be exactly one that is not being deleted."""
        (pod,) = [p for p in self.pods if not p["metadata"].get("deletionTimestamp")]
        return pod

    @property
    def pods(self) -> list[Object]:
        return [pod for pod in self.run.api.of("Pod") if pod["metadata"]["labels"]["flowsession.dev/session"] == self.name]

    @property
    def agent(self) -> Agent:
        return self.run.node.agent(self.pod)

    def says(self, condition: str) -> tuple[str, str]:
        """Return a condition's status and reason."""
        return verdict(self.status, condition)

    def at(self, *path: str) -> float:
        """Return a timestamp of the status, in the loop's time."""
        value: Any = self.status
        for member in path:
            value = value[member]
        moment = times.parse(value)
        assert moment is not None, value
        return moment - NOW

    def transitions(self, condition: str, *, of: int = 0) -> list[tuple[float, str]]:
        """Return when a condition's status (with `of=1`, its reason) changed, and to what."""
        found: list[tuple[float, str]] = []
        for moment, name, status in self.run.api.history:
            word = verdict(status, condition)[of]
            if name == self.name and word != "-" and (not found or found[-1][1] != word):
                found.append((moment, word))
        return found

    def told(self, reason: str = "") -> list[EventWrite]:
        """Return the Events about the session."""
        return [told for told in self.run.api.told if told.about == self.name and reason in ("", told.reason)]

    def ask(self, what: str) -> str:
        """Annotate as `kubectl annotate --overwrite` does, with a new timestamp."""
        self._asked += 1
        value = f"{times.stamp(true_time())[:-1]}.{self._asked:06d}Z"
        assert self.body is not None
        self.body["metadata"].setdefault("annotations", {})[REQUESTS[what]] = value
        self.run.api.changed(self.body)
        return value

    def change(self, **spec: Any) -> None:
        """Change the spec as `kubectl patch` does."""
        assert self.body is not None
        self.body["spec"] |= spec
        self.body["metadata"]["generation"] += 1
        self.run.api.changed(self.body)

    async def ended(self, *, within: float) -> float:
        """Wait for the session's deletion and return its time."""
        await self.run.until(lambda: self.body is None, within=within)
        assert self.deleted_at is not None
        return self.deleted_at


async def at(moment: float) -> None:
    """Wait until a moment of the loop's time."""
    await asyncio.sleep(moment - elapsed())


def _manifest(kind: str, name: str, spec: Object) -> Object:
    meta = {"name": name, "namespace": NAMESPACE, "generation": 1}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": meta, "spec": spec}
