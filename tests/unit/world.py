"""A small simulated cluster: an API server's objects, a kubelet, an agent. The real executor carries out the decisions.

Everything runs synchronously on one simulated clock, without an event loop or threads. The engine's coroutines never have to wait here,
so one step runs each of them to its end.
"""

import base64
import json
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from fake_agent import FakeAgent
from flowsession.api import API_VERSION
from flowsession.cluster import errors
from flowsession.cluster.agent.client import AgentClient, Answer
from flowsession.cluster.agent.transport import AgentError, Request
from flowsession.cluster.tokens import Signer
from flowsession.cluster.vault import Vault
from flowsession.engine.accounts import Accounts
from flowsession.engine.agents import Agents, ReadFeed
from flowsession.engine.edits import Edits
from flowsession.engine.executor import Executor
from flowsession.engine.intake import Intake
from flowsession.engine.queue import Queue
from flowsession.engine.reader import Reader
from flowsession.engine.recorder import Recorder
from flowsession.engine.registry_checks import ImageChecks
from flowsession.engine.resolutions import Resolutions
from flowsession.engine.run_calls import RunCalls
from flowsession.engine.snapshots import Snapshots
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.keys import Key
from flowsession.manifests.anchor_pod import ANCHOR
from flowsession.manifests.session_pod import INSTANCE_LABEL, SESSION_LABEL
from flowsession.model import times
from flowsession.model.agent_views import AgentArchive, AgentState, Hint, SavedEdits
from flowsession.model.plan import AgentCall, Event, Follow, Plan
from flowsession.model.views import PodView
from flowsession.reconcile.environment.resolve import needed_config_maps
from flowsession.reconcile.requests import REQUESTS
from flowsession.reconcile.session import chain as sessions
from flowsession.settings import Settings
from unit.apiserver import ApiServer, Object, sent
from unit.builders import NAME, NAMESPACE, NOW

T = TypeVar("T")
SESSION = Key("ComputeSession", NAMESPACE, NAME)
RUNTIME = "flowsession-runtime:latest"
BOX = "box"
"""The only instance that a world may have."""
QUIET_ROUNDS = 60
"""Rounds without a write after which a world counts as settled."""


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


class WorldApiServer(ApiServer):
    """Answers at once; the world decides when its watch is read. `rivals` makes others write before us, `down` makes requests fail."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, clock)
        self.watch: list[tuple[str, Object, bool]] = []
        self.requests: list[str] = []
        self.refused: set[str] = set()
        """Kinds that a quota refuses."""
        self.rivals = 0
        """How many of the next writes to the session find that somebody else wrote first."""
        self.down = 0
        """How many of the next requests fail."""
        self.session_deleted_at: float | None = None

    async def request(self, verb: str, kind: str, namespace: str, name: str) -> None:
        self.requests.append(f"{verb} {kind}")
        if self.down:
            self.down -= 1
            raise errors.Unavailable("no answer")
        if verb == "POST" and kind in self.refused:
            raise errors.QuotaExceeded(f"exceeded quota: team, used: {kind}=1, limited: {kind}=1", status=403)
        if kind == "ComputeSession" and verb in ("PATCH", "DELETE") and self.rivals and (kind, namespace, name) in self.objects:
            self.rivals -= 1
            self.changed(self.objects[kind, namespace, name])

    async def patch(self, kind: str, namespace: str, name: str, body: Object) -> Object:
        """Patch a pod's annotations. Nothing else is patched here: the world records Events in `Told`."""
        assert (kind, set(body["metadata"])) == ("Pod", {"uid", "annotations"}), body
        return await super().patch(kind, namespace, name, body)

    def hear(self, body: Object, *, gone: bool) -> None:
        if gone and body["kind"] == "ComputeSession":
            self.session_deleted_at = self.clock()
        self.watch.append((body["kind"], sent(body), gone))

    @property
    def pods(self) -> list[Object]:
        """Pods of sessions."""
        return [body for body in self.of("Pod") if SESSION_LABEL in body["metadata"]["labels"]]

    @property
    def session(self) -> Object | None:
        return self.objects.get(("ComputeSession", NAMESPACE, NAME))


LAST_SECONDS = 20.0
"""Seconds for which an agent whose container is being stopped waits for its edits to be saved."""

POLL_SECONDS = 30.0
"""Maximum seconds of a long poll."""


@dataclass
class SimAgent(FakeAgent):
    """An agent that the operator's own client calls; its answers arrive at once."""

    dead: bool = False
    ending_at: float | None = None
    """When its container was asked to end."""

    def answer(self, call: AgentCall) -> Answer:
        """Answer a call. Raises AgentError."""
        if self.dead:
            raise AgentError("no connection: refused")
        client = AgentClient(self, cast(Signer, SimpleNamespace(token=lambda *_, **__: "")))
        return _run(client.call(cast(PodView, SimpleNamespace(uid=self.uid, ip="10.0.0.5")), call))

    async def send(self, pod: PodView, request: Request, headers: dict[str, str]) -> tuple[int, bytes]:
        """Send a request as the client's transport does."""
        status, document = self.reply(request.method, request.path.partition("?")[0], request.body)
        return status, json.dumps(document).encode()


class Calls(Agents):
    """The engine's own bookkeeping of calls. Answers arrive when the world says so."""

    def __init__(self, cache: Cache, queue: "Todo") -> None:
        super().__init__(cast(AgentClient, None), cache, cast("Queue[Key]", queue), cast(ReadFeed, None))
        self.waiting: dict[str, tuple[int, AgentCall]] = {}
        self.asked_at: dict[str, float] = {}
        self.log: list[AgentCall] = []
        self.callers: dict[str, tuple[Key, PodView]] = {}

    def start(self, key: Key, pod: PodView, call: AgentCall) -> None:
        restarts = pod.container.restarts if pod.container else 0
        view = self._cache.agents.get(pod.uid)
        if view is not None and view.restarts == restarts and view.calling and (not view.following or isinstance(call, Follow)):
            return
        if view is None or view.restarts != restarts:
            view = _new_view(restarts)
        self._cache.agents[pod.uid] = replace(view, calling=True, following=isinstance(call, Follow))
        self.waiting[pod.uid] = (restarts, call)
        self.callers[pod.uid] = key, pod
        self.asked_at[pod.uid] = self._cache.clock()
        self.log.append(call)

    def answered(self, uid: str, answer: Answer | None, failure: AgentError | None = None) -> None:
        restarts, call = self.waiting.pop(uid)
        view = self._cache.agents.get(uid)
        if view is not None and view.restarts == restarts:
            self._cache.agents[uid] = self._observed(
                view, call, answer or Answer(), failure, seconds=self._cache.clock() - self.asked_at[uid]
            )
        self._decide_next(*self.callers[uid])


def _new_view(restarts: int) -> Any:
    from flowsession.model.agent_views import AgentView

    return AgentView(restarts=restarts)


class Todo:
    """The engine's queue, as the executor sees it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.now = True
        self.due = float("inf")
        self.others = 0
        """Number of decisions about others that are due."""
        self.pods: dict[Key, float] = {}
        """Pods whose session is gone, with the time at which each is due."""

    def __len__(self) -> int:
        return self.others

    def add(self, key: Key) -> None:
        if key == SESSION:
            self.now = True
        elif key.kind == "Pod":
            self.pods[key] = self.clock()

    def add_all(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.add(key)

    def add_after(self, key: Key, seconds: float) -> None:
        if key == SESSION:
            self.due = min(self.due, self.clock() + max(0.0, seconds))
        elif key.kind == "Pod":
            self.pods[key] = min(self.pods.get(key, float("inf")), self.clock() + max(0.0, seconds))

    def take(self) -> bool:
        if self.due <= self.clock():
            self.now = True
        if self.now:
            self.now, self.due = False, float("inf")
            return True
        return False


class Told:
    """Stands in for the recorder: keeps the Events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.deferred: list[Event] = []

    def defer(self, key: Key, uid: str, event: Event) -> bool:
        self.deferred.append(event)
        return True

    async def record(self, key: Key, uid: str, event: Event, *, late: bool = True) -> bool:
        self.events.append(event)
        return True


class World:
    """One session, its environment, and an operator that can be restarted at any time."""

    def __init__(self, *, environment: Object, idle: Object | None = None, settings: Settings | None = None, **fields: Any) -> None:
        self.clock = Clock()
        self.api = WorldApiServer(self.clock)
        self.agents: dict[tuple[str, int], SimAgent] = {}
        self.settings = settings or Settings()
        self.told = Told()
        self.vault = Vault(bytes(32))
        self.ends: list[tuple[float, AgentState, float]] = []
        """Ends by idleness, as deletion or suspension: the age of the agent's answer, the answer, and the timeout."""
        self.failed_probes: list[tuple[float, int]] = []
        """Ends as ProbeFailed: seconds for which no call had been answered, and the timeout."""
        self.faulty = False
        """Whether the last plan met a conflict or a failure, so that another decision must act again."""
        self._generation = 1
        self._asked = 0
        self.lost_edits: list[tuple[str, str]] = []
        """Edits that are nowhere after the operator took the pod, and what the agent had reported of them."""
        self.api.put(
            {
                "kind": "ConfigMap",
                "metadata": {"name": "flow", "namespace": NAMESPACE, "labels": {"flowsession.dev/source": "true"}},
                "data": {"flow.dag.yaml": "nodes: []\n"},
            }
        )
        self.api.put(_object("FlowEnvironment", "flow-env", environment))
        spec = {"environmentRef": {"name": "flow-env"}, "user": "alice@example.com", "idle": idle or {"timeoutSeconds": 60}, **fields}
        self.api.put(_object("ComputeSession", NAME, spec))
        self.spec = sent(spec)
        self.restart_operator()

    # the operator

    def restart_operator(self) -> None:
        """Restart the operator as after SIGKILL: all that it knew is gone, and the cluster is listed anew."""
        self.cache = Cache(clock=self.clock)
        self.todo = Todo(self.clock)
        self.calls = Calls(self.cache, self.todo)
        self.accounts = Accounts(cast(Any, self.api), self.clock)
        self.snapshots = Snapshots(
            self.cache, self.settings, "{}", AgentArchive("ab" * 32, "QUdFTlQ="), self.accounts, Resolutions(self.settings)
        )
        queue = cast("Queue[Key]", self.todo)
        edits = self.edits = Edits(cast(Any, self.api), self.cache, queue, self.vault, retention_days=30)
        reader = Reader(cast(Any, self.api), self.cache, queue, edits, Intake(self.cache, queue))
        calls, told, api = cast(Agents, self.calls), cast(Recorder, self.told), cast(Any, self.api)
        self.executor = Executor(api, self.cache, queue, calls, cast(RunCalls, None), told, reader, cast(ImageChecks, None), edits)
        self.api.watch.clear()
        for (kind, _, _), body in self.api.objects.items():
            self.cache.observe(kind, sent(body))
        self._read_sources()
        self.todo.now = True

    def hear(self, most: int = 1000) -> None:
        """Take in watch events, oldest first."""
        while self.api.watch and most:
            kind, body, gone = self.api.watch.pop(0)
            meta = body["metadata"]
            keys = self.cache.forget(kind, meta["namespace"], meta["name"], meta["uid"]) if gone else self.cache.observe(kind, body)
            for key in keys:
                self.todo.add(key)
            most -= 1
        self._read_sources()

    def _read_sources(self) -> None:
        """Read what the environment's own decision would fetch."""
        for (namespace, _), entry in self.cache.environments.items():
            for name in needed_config_maps(entry.spec):
                if (namespace, name) not in self.cache.config_maps and (found := self.api.objects.get(("ConfigMap", namespace, name))):
                    self.cache.observe("ConfigMap", sent(found))
                    self.todo.add(SESSION)

    def plan(self) -> Plan | None:
        """Return what is decided, after reading the ServiceAccounts if the decision asks for them. None also if they can't be read."""
        snapshot = self.snapshots.session((NAMESPACE, NAME), self.clock())
        plan = sessions.decide(snapshot, self.clock()) if snapshot else None
        if plan is None or not plan.wants_accounts:
            return plan
        try:
            _run(self.accounts.read(NAMESPACE))
        except errors.ClusterError:
            self.todo.add_after(SESSION, 0.1)
            self.faulty = True
            return None
        return self.plan()

    def reconcile(self) -> Plan | None:
        """Make one decision and carry it out."""
        plan = self.plan()
        if plan is None:
            return None
        suspends = plan.status is not None and (plan.status.status.get("suspended") or {}).get("by") == "Idle"
        if suspends or any(deletion.kind == "ComputeSession" for deletion in plan.deletes):
            self._note_the_end(plan)
        before = self.api.rivals + self.api.down
        entry = self.cache.sessions[NAMESPACE, NAME]
        at_risk = self._at_risk(plan)
        try:
            _run(self.executor.carry_out(SESSION, entry.meta.uid, plan))
        except errors.ClusterError:
            self.todo.add_after(SESSION, 0.1)
            self.faulty = True
        else:
            self.faulty = before != self.api.rivals + self.api.down or bool(self.api.refused)
        self._note_lost_edits(at_risk)
        return plan

    def work(self, most: int = 40) -> int:
        """Decide at one moment until nothing brings the session up. Return the number of decisions."""
        turns = 0
        while turns < most:
            departed = [key for key, due in self.todo.pods.items() if due <= self.clock()]
            for key in departed:
                del self.todo.pods[key]
                self._save_last(key)
            if self.todo.take():
                self.reconcile()
            elif not departed:
                break
            turns += 1
        return turns

    def _save_last(self, key: Key) -> None:
        snapshot = self.snapshots.departed((key.namespace, key.name), self.clock())
        if snapshot is None:
            return
        try:
            _run(self.executor.carry_out(key, snapshot.pods[0].uid, sessions.decide_gone(snapshot, self.clock())))
        except errors.ClusterError:
            self.todo.add_after(key, 0.1)

    # the cluster

    def live_pods(self) -> list[Object]:
        return [pod for pod in self.api.pods if pod["status"]["phase"] not in ("Failed", "Succeeded")]

    def pod_running(
        self, pod: Object, *, restarts: int = 0, last: Object | None = None, image_problem: str = "", said: str = "manifest unknown"
    ) -> None:
        pod["spec"]["nodeName"] = "worker-1"
        status: Object = {
            "name": "session",
            "restartCount": restarts,
            "lastState": {"terminated": last} if last else {},
            "imageID": "sha256:1",
        }
        if image_problem:
            status |= {"state": {"waiting": {"reason": image_problem, "message": said}}, "imageID": ""}
            pod["status"] = {"phase": "Pending", "containerStatuses": [status]}
        else:
            status["state"] = {"running": {"startedAt": times.stamp(self.clock())}}
            pod["status"] = {"phase": "Running", "podIP": "10.0.0.5", "containerStatuses": [status]}
            volume = pod.setdefault("volume", {})
            if not pod["spec"]["volumes"]:
                volume = {}
            self.agents[pod["metadata"]["uid"], restarts] = SimAgent(self.clock, uid=pod["metadata"]["uid"], volume=volume)
        self.api.changed(pod)

    def container_dies(self, pod: Object, reason: str, code: int) -> None:
        """Let the container die. The kubelet restarts it at once, with restart count and last state set."""
        restarts = pod["status"]["containerStatuses"][0]["restartCount"] + 1
        self.pod_running(pod, restarts=restarts, last={"reason": reason, "exitCode": code})

    def pod_fails(self, pod: Object, reason: str = "Evicted") -> None:
        pod["status"] = {**pod["status"], "phase": "Failed", "reason": reason, "message": "the node was low on memory"}
        self.api.changed(pod)

    def agent(self) -> SimAgent | None:
        """The agent of the running pod."""
        for pod in self.api.pods:
            if pod["status"]["phase"] == "Running" and not pod["metadata"].get("deletionTimestamp"):
                return self.agents.get((pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]))
        return None

    def answer_calls(self) -> bool:
        """Answer the calls to all agents, or fail them. Return whether there were any."""
        asked = list(self.calls.waiting.items())
        for uid, (restarts, call) in asked:
            agent = self._living(uid, restarts)
            patient = self.clock() < self.calls.asked_at[uid] + POLL_SECONDS
            if isinstance(call, Follow) and agent is not None and not agent.dead and agent.version <= call.since and patient:
                continue  # a long poll is answered when something changes
            try:
                answer = agent.answer(call) if agent else None
            except AgentError as error:
                self.calls.answered(uid, None, error)
            else:
                self.calls.answered(uid, answer, None if answer else AgentError("no route to host"))
        return bool(asked)

    def change_session(self, **fields: Any) -> None:
        """Change the spec as `kubectl patch` does: given members are replaced, and a real change raises the generation."""
        body = self.api.session
        if body is None or all(self.spec.get(name) == value for name, value in fields.items()):
            return
        self.spec.update(sent(fields))
        body["spec"] = sent(self.spec)
        body["metadata"]["generation"] += 1
        self.api.changed(body)

    def ask(self, what: str, value: str | None = None) -> str:
        """Annotate as `kubectl annotate --overwrite` does: by default with the current time, made unique."""
        self._asked += 1
        value = f"{times.stamp(self.clock())[:-1]}.{self._asked:06d}Z" if value is None else value
        body = self.api.session
        if body is not None:
            body["metadata"].setdefault("annotations", {})[REQUESTS[what]] = value
            self.api.changed(body)
        return value

    @property
    def asked(self) -> Object:
        """Values of the request annotations, by what they ask for."""
        annotations = ((self.api.session or {}).get("metadata") or {}).get("annotations") or {}
        return {what: annotations[name] for what, name in REQUESTS.items() if name in annotations}

    def told_of(self, reason: str) -> int:
        """Return how often people were told this."""
        return sum(event.reason == reason for event in self.told.events)

    def live(self, seconds: float, step: float = 1.0) -> None:
        """Let everybody do what is due, for that many seconds."""
        end = self.clock() + seconds
        while self.clock() < end:
            self.hear()
            assert self.work() < 40, "the operator keeps itself busy"
            self.kubelet()
            self.answer_calls()
            self.hear()
            assert self.work() < 40, "the operator keeps itself busy"
            self.clock.now = min(end, max(self.clock() + 0.05, min(self.todo.due, self.clock() + step)))

    def change_environment(self, **spec: Any) -> None:
        body = self.api.objects.get(("FlowEnvironment", NAMESPACE, "flow-env"))
        if body is None:
            self.api.put(_object("FlowEnvironment", "flow-env", spec))
            return
        self._generation += 1
        body["spec"] = spec
        body["metadata"]["generation"] = self._generation
        self.api.changed(body)

    def add_size(self, azure_name: str) -> None:
        """Add a VM size that has nodes."""
        spec = {"azureName": azure_name, "capacity": {"cpu": "2", "memory": "8Gi"}, "pricePerHour": "0.1"}
        body = _object("VMSize", azure_name.lower().replace("_", "-"), spec)
        body["metadata"]["namespace"] = ""
        self.api.put(body)

    def set_account(self, name: str, *, assignable: bool = False, user: str = "") -> None:
        """Create or change a ServiceAccount."""
        known = self.api.objects.get(("ServiceAccount", NAMESPACE, name))
        body = known or self.api.put({"kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}})
        body["metadata"]["labels"] = {"flowsession.dev/assignable": "true"} if assignable else {}
        body["metadata"]["annotations"] = {"flowsession.dev/user": user} if user else {}
        self.api.changed(body)

    def remove_account(self, name: str) -> None:
        if (body := self.api.objects.get(("ServiceAccount", NAMESPACE, name))) is not None:
            self.api.remove(body)

    def set_instance(self, *, node: str = "worker-1", stopped: str = "") -> None:
        """Set the instance, whatever its own decisions led to: with this node reserved, or stopped by somebody."""
        self.remove_instance()
        spec = {"user": "alice@example.com", "vmSize": "Standard_D2s_v5", "idle": {"action": "None"}, "running": stopped != "User"}
        body = _object("ComputeInstance", BOX, spec)
        body["status"] = {"podName": "box-anchor-1", "readyAt": times.stamp(self.clock())}
        if stopped:
            body["status"]["stopped"] = {"by": stopped, "at": times.stamp(self.clock())}
        self.api.put(body)
        if not stopped:
            owner = {"kind": "ComputeInstance", "uid": body["metadata"]["uid"], "controller": True}
            labels = {INSTANCE_LABEL: BOX, "flowsession.dev/vm-size": "Standard_D2s_v5"}
            limits = {"cpu": "1900m", "memory": "6Gi"}
            meta = {"name": "box-anchor-1", "namespace": NAMESPACE, "labels": labels, "ownerReferences": [owner]}
            spec = {"nodeName": node, "containers": [{"name": ANCHOR, "resources": {"limits": limits}}]}
            pod = self.api.put({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
            state = {"name": ANCHOR, "restartCount": 0, "state": {"running": {"startedAt": times.stamp(self.clock())}}}
            pod["status"] = {"phase": "Running", "podIP": "10.0.0.9", "containerStatuses": [state]}
            self.api.changed(pod)

    def remove_instance(self) -> None:
        body = self.api.objects.get(("ComputeInstance", NAMESPACE, BOX))
        if body is not None:
            self.api.remove(body)

    def remove_environment(self) -> None:
        body = self.api.objects.get(("FlowEnvironment", NAMESPACE, "flow-env"))
        if body is not None:
            self.api.remove(body)

    def kubelet(self) -> None:
        """Do what was asked for: start new pods, end doomed ones."""
        for pod in list(self.api.pods):
            if pod["metadata"].get("deletionTimestamp"):
                if not self._lingers(pod):
                    self.api.remove(pod)
            elif pod["status"]["phase"] == "Pending" and not pod["status"].get("containerStatuses"):
                self.pod_running(pod)

    def _lingers(self, pod: Object) -> bool:
        """Return whether the agent of an ending pod still waits for its edits to be saved. It sends a hint when it is asked to end."""
        uid = pod["metadata"]["uid"]
        statuses = pod["status"].get("containerStatuses")
        agent = self.agents.get((uid, statuses[0]["restartCount"])) if statuses else None
        if agent is None or agent.dead or not agent.waiting:
            return False
        if agent.ending_at is None:
            agent.ending_at = self.clock()
            self.hint(uid, ending=True)
        return self.clock() - agent.ending_at < LAST_SECONDS

    def hint(self, uid: str = "", *, ending: bool = False) -> None:
        """Let the agent of a pod report that edits wait."""
        uid = uid or next(pod["metadata"]["uid"] for pod in self.api.pods if not pod["metadata"].get("deletionTimestamp"))
        self.cache.hints[uid] = Hint(self.clock(), ending=ending)
        self.todo.add(SESSION)
        self.todo.add_all(self.cache.departed.concerned(self.cache.pods[self.cache.pod_names[uid]].view))

    def delete_session(self) -> None:
        """Delete the session as `kubectl delete csess` does."""
        assert self.api.session is not None
        self.api.remove(self.api.session)

    def delete_pod(self, pod: Object) -> None:
        """Delete a pod as `kubectl delete pod` does, with grace."""
        if pod["spec"].get("nodeName"):
            pod["metadata"].setdefault("deletionTimestamp", times.stamp(self.clock() + 30))
            self.api.changed(pod)
        else:
            self.api.remove(pod)

    def settle(self, rounds: int = 400, *, until_ready: bool = False) -> None:
        """Let everything run its course, time included, until nothing is in progress. Faults must have stopped."""
        writes, quiet = -1, 0
        for _ in range(rounds):
            if until_ready and self.is_ready():
                return
            quiet = quiet + 1 if len(self.writes()) == writes else 0
            writes = len(self.writes())
            if quiet > QUIET_ROUNDS:
                return  # it is polled now and then, and nothing is ever written
            self.hear()
            busy = self.work() > 0
            self.kubelet()
            for agent in self.agents.values():
                agent.finish_install()
            busy = self.answer_calls() or busy or bool(self.api.watch)
            if busy:
                self.clock.now += 0.05
                continue
            if self.todo.due == float("inf") or (self.is_ready() and self.todo.due > self.clock() + 30 and self._answered()):
                return
            self.clock.now = max(self.todo.due, self.clock() + 0.001)
        raise AssertionError(f"does not settle: {self.status()}, last requests {self.api.requests[-10:]}")

    def status(self) -> Object:
        return (self.api.session or {}).get("status") or {}

    def is_ready(self) -> bool:
        return any(c["type"] == "Ready" and c["status"] == "True" for c in self.status().get("conditions", ()))

    def writes(self) -> list[str]:
        return [request for request in self.api.requests if not request.startswith(("GET", "LIST"))]

    def _answered(self) -> bool:
        handled = self.status().get("handledRequests", {})
        return all(handled.get(what) == value for what, value in self.asked.items())

    def _living(self, uid: str, restarts: int) -> SimAgent | None:
        for pod in self.api.pods:
            statuses = pod["status"].get("containerStatuses")
            if pod["metadata"]["uid"] == uid and pod["status"]["phase"] == "Running" and statuses[0]["restartCount"] == restarts:
                return self.agents.get((uid, restarts))
        return None

    @property
    def saved_edits(self) -> set[str]:
        """Contents of all saved edits."""
        found = [self.opened(body) for (kind, _, _), body in self.api.objects.items() if kind == "ConfigMap" and "binaryData" in body]
        return {base64.b64decode(saved.archive).decode() for saved in found if saved.archive}

    def opened(self, body: Object) -> SavedEdits:
        """Return the content of a ConfigMap of saved edits."""
        saved = self.edits._opened(body, body["metadata"]["ownerReferences"][0]["uid"])
        assert saved is not None, body["metadata"]
        return saved

    def _at_risk(self, plan: Plan) -> tuple[SimAgent, str] | None:
        """Return the agent whose pod the plan takes although it could be asked, and the pod's uid."""
        excused = {"EditsNotSaved", "ProbeFailed"} & {event.reason for event in plan.events}
        for pod in self.api.pods:
            agent = self.agent()
            running = pod["status"]["phase"] == "Running" and not pod["metadata"].get("deletionTimestamp")
            ends = {pod["metadata"]["uid"], pod["metadata"]["ownerReferences"][0]["uid"]}
            taken = ends & {deletion.uid for deletion in plan.deletes}
            if running and taken and agent and agent.volume.get("edits") and not agent.let_go and not excused:
                return agent, pod["metadata"]["uid"]
        return None

    def _note_lost_edits(self, at_risk: tuple[SimAgent, str] | None) -> None:
        if at_risk is None:
            return
        agent, uid = at_risk
        stays = [pod for pod in self.api.pods if pod["metadata"]["uid"] == uid and not pod["metadata"].get("deletionTimestamp")]
        view = self.cache.agents.get(uid)
        unseen = view is not None and agent.volume["edited_at"] > view.state_at
        if not stays and agent.volume["edits"] not in self.saved_edits and not unseen:
            said = view.state.edits.revision if view and view.state else "nothing"
            self.lost_edits.append((agent.volume["edits"], said))

    def _note_the_end(self, plan: Plan) -> None:
        pods = [pod.view for pod in self.cache.pods_of((NAMESPACE, NAME))]
        view = self.cache.agents[max(pods, key=lambda pod: pod.created_at).uid]
        timeout = self.cache.sessions[NAMESPACE, NAME].spec.idle.timeout_seconds
        if any(event.reason == "ProbeFailed" for event in plan.events):
            assert view.failures
            self.failed_probes.append((self.clock() - view.failing_since, timeout))
            return
        assert view.state is not None
        self.ends.append((self.clock() - view.state_at, view.state, timeout))


def _object(kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE, "generation": 1}, "spec": spec}


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast(T, end.value)
    coroutine.close()
    raise AssertionError("the engine waited for something that this world does not have")


def story(world: World) -> Iterator[str]:
    """Yield what people were told, for messages of failed tests."""
    return (f"{event.reason}: {event.message}" for event in world.told.events)
