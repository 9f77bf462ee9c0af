"""An API server in memory: uids, resourceVersions, preconditions, a late watch, garbage collection; and it may be away."""

import asyncio
import copy
import itertools
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from flowsession.cluster import errors
from flowsession.engine.loop import SELECTORS
from flowsession.model import times
from unit.builders import applied
from unit.longrun.clocks import elapsed, true_time
from unit.longrun.records import Request, Requests, Told
from unit.longrun.selectors import has_fields, labelled

Object = dict[str, Any]
Objects = list[Object]
Hearer = Callable[[str, Object, bool], None]

ANSWER_SECONDS = 0.004
WATCH_SECONDS = 0.02
"""How late a watch tells: later than the answer to the write itself."""
EVENT_LIFE = 3600.0
"""An Event is gone an hour after it was written last (kube-apiserver's --event-ttl)."""


class ApiServer:
    """What the engine's gateway offers, and what other people do to the objects."""

    def __init__(self, operator_time: Callable[[], float]) -> None:
        self._operator_time = operator_time
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.requests: list[Request] = []
        self.told: list[Told] = []
        self.deleted: dict[tuple[str, str], float] = {}
        """By kind and name: when it was deleted."""
        self.hearers: list[Hearer] = []
        self.history: list[tuple[float, str, Object]] = []
        """Every status that a session had: when, whose, and what it said."""
        self.away = False
        self.ending: set[str] = set()
        """Namespaces that are terminating: nothing can be created there."""
        self.news = asyncio.Event()
        self.pod_created: Callable[[Object], None] = lambda _: None
        self.pod_doomed: Callable[[Object], None] = lambda _: None
        self._numbers = itertools.count(100)
        self._owned: defaultdict[str, Objects] = defaultdict(list)
        """By the owner's uid."""
        self._on_the_way: deque[tuple[float, str, Object, bool]] = deque()

    # what the engine's gateway offers

    async def get(self, kind: str, namespace: str, name: str) -> Object:
        await self._request("GET", kind, name)
        return copy.deepcopy(self._found(kind, namespace, name))

    async def list(self, kind: str, *, namespace: str = "", labels: str = "", fields: str = "") -> AsyncIterator[tuple[Objects, str]]:
        await self._request("LIST", kind, "")
        found = [body for body in self._some(kind, namespace, labels) if has_fields(body, fields)]
        yield copy.deepcopy(found), self._version()

    async def metadata(self, kind: str, namespace: str = "", *, labels: str = "") -> AsyncIterator[Object]:
        await self._request("LIST", kind, "")
        for meta in [copy.deepcopy(body["metadata"]) for body in self._some(kind, namespace, labels)]:
            yield meta

    async def create(self, manifest: Object) -> Object:
        kind, meta = manifest["kind"], manifest["metadata"]
        await self._request("POST", kind, meta["name"])
        if meta["namespace"] in self.ending:
            raise errors.NamespaceTerminating(f"namespace {meta['namespace']} is being terminated", status=403)
        if (kind, meta["namespace"], meta["name"]) in self.objects:
            raise errors.AlreadyExists(f"{kind} {meta['name']} already exists", status=409, reason="AlreadyExists")
        return copy.deepcopy(self.put(copy.deepcopy(manifest)))

    async def patch_status(
        self, kind: str, namespace: str, name: str, status: Object, *, resource_version: str, valid_until: float | None = None
    ) -> Object:
        await self._request("PATCH", kind, name, valid_until=valid_until)
        body = self._found(kind, namespace, name)
        if body["metadata"]["resourceVersion"] != resource_version:
            raise errors.Conflict("the object has been modified", status=409)
        merged = applied(body.get("status") or {}, status)
        if merged != (body.get("status") or {}):
            body["status"] = merged
            self.changed(body)
        return copy.deepcopy(body)

    async def patch(self, kind: str, namespace: str, name: str, body: Object) -> Object:
        await self._request("PATCH", kind, name)
        found = self._found(kind, namespace, name)
        if kind == "Event" and true_time() - (times.parse(found["lastTimestamp"]) or 0.0) > EVENT_LIFE:
            del self.objects[kind, namespace, name]
            raise errors.NotFound(f"events {name} not found", status=404)
        if body.get("metadata", {}).get("uid", found["metadata"]["uid"]) != found["metadata"]["uid"]:
            raise errors.Conflict("precondition failed", status=409)
        found.update(applied(found, copy.deepcopy(body)))
        self.changed(found)
        return copy.deepcopy(found)

    async def delete(
        self,
        kind: str,
        namespace: str,
        name: str,
        *,
        uid: str,
        resource_version: str | None = None,
        grace_seconds: int | None = None,
        valid_until: float | None = None,
    ) -> Object:
        await self._request("DELETE", kind, name, valid_until=valid_until)
        body = self._found(kind, namespace, name)
        meta = body["metadata"]
        if uid not in ("", meta["uid"]) or resource_version not in (None, meta["resourceVersion"]):
            raise errors.Conflict("precondition failed", status=409)
        if kind == "Pod" and grace_seconds != 0 and body["spec"].get("nodeName") and body["status"]["phase"] in ("Pending", "Running"):
            self.doom(body)
            return copy.deepcopy(body)
        self.remove(body)
        return {"kind": "Status", "status": "Success"}

    async def delete_all(self, kind: str, namespace: str, *, labels: str) -> None:
        await self._request("DELETE", kind, "*")
        for body in self._some(kind, namespace, labels):
            self.remove(body)

    # what happens in the cluster

    def put(self, body: Object) -> Object:
        """Stores a new object as it is."""
        kind, meta = body["kind"], body["metadata"]
        meta |= {"uid": f"uid-{next(self._numbers)}", "creationTimestamp": times.stamp(true_time())}
        if kind == "Pod":
            body["status"] = {"phase": "Pending"}
        self.objects[kind, meta["namespace"], meta["name"]] = body
        for owner in meta.get("ownerReferences", ()):
            self._owned[owner["uid"]].append(body)
        self.changed(body)
        if kind == "Pod":
            self.pod_created(body)
        return body

    def changed(self, body: Object) -> None:
        """To be called after every change of an object."""
        body["metadata"]["resourceVersion"] = str(next(self._numbers))
        if body["kind"] == "Event":
            about = body["involvedObject"]["name"]
            self.told.append(Told(elapsed(), about, body["type"], body["reason"], body["message"]))
        if body["kind"] == "ComputeSession":
            self.history.append((elapsed(), body["metadata"]["name"], copy.deepcopy(body.get("status") or {})))
        self._tell(body, gone=False)

    def doom(self, pod: Object) -> None:
        """Begins a pod's end; the kubelet brings it about."""
        meta = pod["metadata"]
        if not meta.get("deletionTimestamp") and self.objects.get(("Pod", meta["namespace"], meta["name"])) is pod:
            pod["metadata"]["deletionTimestamp"] = times.stamp(true_time() + pod["spec"]["terminationGracePeriodSeconds"])
            self.changed(pod)
            self.pod_doomed(pod)

    def remove(self, body: Object) -> None:
        """The object is gone at once; what it owns goes, as the garbage collector has it, a little later."""
        meta = body["metadata"]
        if self.objects.get((body["kind"], meta["namespace"], meta["name"])) is not body:
            return
        del self.objects[body["kind"], meta["namespace"], meta["name"]]
        self.deleted[body["kind"], meta["name"]] = elapsed()
        meta["resourceVersion"] = str(next(self._numbers))
        self._tell(body, gone=True)
        asyncio.get_running_loop().call_later(0.1, self._collect, meta["uid"])

    def come_back(self) -> None:
        """The API server answers again; within a second or so the watches are there again too, without what was deleted meanwhile."""
        self.away = False
        asyncio.get_running_loop().call_later(1.0, self.stream_everything)

    def stream_everything(self) -> None:
        """As a watch begins: every object as it is now."""
        for body in list(self.objects.values()):
            self._tell(body, gone=False)

    def of(self, kind: str) -> Objects:
        return [body for body in self.objects.values() if body["kind"] == kind]

    def writes(self, *, since: float = 0.0, before: float = float("inf"), name: str = "") -> Requests:
        """What was written, Events aside."""
        return [
            request
            for request in self.requests
            if since <= request.at < before and request.verb not in ("GET", "LIST") and request.kind != "Event" and name in request.name
        ]

    def _collect(self, owner: str) -> None:
        for body in self._owned.pop(owner, []):
            if body["kind"] == "Pod" and body["spec"].get("nodeName"):
                self.doom(body)
            else:
                self.remove(body)

    def _tell(self, body: Object, *, gone: bool) -> None:
        self.news.set()
        if self.away or body["kind"] not in SELECTORS or not labelled(body, SELECTORS[body["kind"]]):
            return
        loop = asyncio.get_running_loop()
        self._on_the_way.append((loop.time() + WATCH_SECONDS, body["kind"], copy.deepcopy(body), gone))
        loop.call_later(WATCH_SECONDS, self._deliver)

    def _deliver(self) -> None:
        while self._on_the_way and self._on_the_way[0][0] <= elapsed() + 1e-6:
            _, kind, body, gone = self._on_the_way.popleft()
            for hear in self.hearers if not self.away else ():
                hear(kind, body, gone)

    def _version(self) -> str:
        return str(next(self._numbers))

    def _some(self, kind: str, namespace: str, labels: str) -> Objects:
        found = (body for body in self.of(kind) if namespace in ("", body["metadata"]["namespace"]))
        return [body for body in found if labelled(body, labels)]

    def _found(self, kind: str, namespace: str, name: str) -> Object:
        if (kind, namespace, name) not in self.objects:
            raise errors.NotFound(f"{kind} {name} not found", status=404)
        return self.objects[kind, namespace, name]

    async def _request(self, verb: str, kind: str, name: str, *, valid_until: float | None = None) -> None:
        if valid_until is not None and self._operator_time() > valid_until:
            raise errors.TooLate(f"{verb} {kind}: not sent")
        self.requests.append(Request(elapsed(), verb, kind, name))
        await asyncio.sleep(ANSWER_SECONDS)
        if self.away:
            raise errors.Unavailable(f"{verb} {kind}: connection refused")
