"""An API server in memory: uids, resourceVersions, preconditions, pods that end with grace, garbage collection."""

import itertools
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

from flowsession.cluster import errors
from flowsession.model import times
from unit.builders import applied

Object = dict[str, Any]
Objects = list[Object]

EVENT_LIFE = 3600.0
"""Seconds after its last write at which an Event is gone (kube-apiserver's --event-ttl)."""


def sent(body: Any) -> Any:
    """Return what the other side of a connection gets."""
    return json.loads(json.dumps(body))


class ApiServer:
    """What the engine's gateway offers, and what other people do to the objects.

    Subclasses decide what happens on a request (`request`), who sees a change (`hear`), and when garbage is collected (`collect_later`).
    """

    def __init__(self, clock: Callable[[], float], operator_time: Callable[[], float]) -> None:
        self.clock = clock
        self._operator_time = operator_time
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.ending: set[str] = set()
        """Terminating namespaces: nothing can be created there."""
        self._numbers = itertools.count(100)
        self._owned: defaultdict[str, Objects] = defaultdict(list)
        """Objects by their owner's uid."""

    # for subclasses

    async def request(self, verb: str, kind: str, namespace: str, name: str) -> None:
        """Called before a request is answered. Raises errors.ClusterError to fail it."""

    def hear(self, body: Object, *, gone: bool) -> None:
        """Called after a change."""

    def collect_later(self, owner: str) -> None:
        """Call `collect`, now or later. The owner with this uid is gone."""
        self.collect(owner)

    # what the engine's gateway offers

    async def get(self, kind: str, namespace: str, name: str) -> Object:
        await self.request("GET", kind, namespace, name)
        return sent(self._found(kind, namespace, name))

    async def list(self, kind: str, *, namespace: str = "", labels: str = "", fields: str = "") -> AsyncIterator[tuple[Objects, str]]:
        await self.request("LIST", kind, namespace, "")
        found = [body for body in self._some(kind, namespace, labels) if has_fields(body, fields)]
        yield sent(found), str(next(self._numbers))

    async def metadata(self, kind: str, namespace: str = "", *, labels: str = "") -> AsyncIterator[Object]:
        await self.request("LIST", kind, namespace, "")
        for meta in [sent(body["metadata"]) for body in self._some(kind, namespace, labels)]:
            yield meta

    async def create(self, manifest: Object) -> Object:
        kind, meta = manifest["kind"], manifest["metadata"]
        await self.request("POST", kind, meta["namespace"], meta["name"])
        if meta["namespace"] in self.ending:
            raise errors.NamespaceTerminating(f"namespace {meta['namespace']} is being terminated", status=403)
        if (kind, meta["namespace"], meta["name"]) in self.objects:
            raise errors.AlreadyExists(f"{kind} {meta['name']} already exists", status=409, reason="AlreadyExists")
        return sent(self.put(sent(manifest)))

    async def patch_status(
        self, kind: str, namespace: str, name: str, status: Object, *, resource_version: str, valid_until: float | None = None
    ) -> Object:
        self._in_time(valid_until)
        await self.request("PATCH", kind, namespace, name)
        body = self._found(kind, namespace, name)
        if body["metadata"]["resourceVersion"] != resource_version:
            raise errors.Conflict("the object has been modified", status=409)
        merged = applied(body.get("status") or {}, status)
        if merged != (body.get("status") or {}):
            body["status"] = merged
            self.changed(body)
        return sent(body)

    async def patch(self, kind: str, namespace: str, name: str, body: Object) -> Object:
        await self.request("PATCH", kind, namespace, name)
        found = self._found(kind, namespace, name)
        if kind == "Event" and self.clock() - (times.parse(found["lastTimestamp"]) or 0.0) > EVENT_LIFE:
            del self.objects[kind, namespace, name]
            raise errors.NotFound(f"events {name} not found", status=404)
        if body.get("metadata", {}).get("uid", found["metadata"]["uid"]) != found["metadata"]["uid"]:
            raise errors.Conflict("precondition failed", status=409)
        found.update(applied(found, sent(body)))
        self.changed(found)
        return sent(found)

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
        self._in_time(valid_until)
        await self.request("DELETE", kind, namespace, name)
        body = self._found(kind, namespace, name)
        meta = body["metadata"]
        if uid not in ("", meta["uid"]) or resource_version not in (None, meta["resourceVersion"]):
            raise errors.Conflict("precondition failed", status=409)
        if grace_seconds != 0 and _ends_with_grace(body):
            self.begin_deletion(body)
            return sent(body)
        self.remove(body)
        return {"kind": "Status", "status": "Success"}

    def put(self, body: Object) -> Object:
        """Store a new object as it is."""
        kind, meta = body["kind"], body["metadata"]
        meta.setdefault("uid", f"uid-{next(self._numbers)}")
        meta["creationTimestamp"] = times.stamp(self.clock())
        if kind == "Pod":
            body["status"] = {"phase": "Pending"}
        self.objects[kind, meta["namespace"], meta["name"]] = body
        for owner in meta.get("ownerReferences", ()):
            self._owned[owner["uid"]].append(body)
        self.changed(body)
        return body

    def changed(self, body: Object) -> None:
        """Give the object a new resourceVersion and report the change. Must follow every change."""
        body["metadata"]["resourceVersion"] = str(next(self._numbers))
        self.hear(body, gone=False)

    def begin_deletion(self, pod: Object) -> None:
        """Begin the graceful deletion of a pod. The kubelet finishes it."""
        meta = pod["metadata"]
        if not meta.get("deletionTimestamp") and self._holds(pod):
            meta["deletionTimestamp"] = times.stamp(self.clock() + pod["spec"].get("terminationGracePeriodSeconds", 30))
            self.changed(pod)

    def remove(self, body: Object) -> None:
        """Delete the object at once. The garbage collector deletes what it owns."""
        if not self._holds(body):
            return
        meta = body["metadata"]
        del self.objects[body["kind"], meta["namespace"], meta["name"]]
        meta["resourceVersion"] = str(next(self._numbers))
        self.hear(body, gone=True)
        self.collect_later(meta["uid"])

    def collect(self, owner: str) -> None:
        """Delete what the gone owner owned, as the garbage collector does."""
        for body in self._owned.pop(owner, []):
            if _ends_with_grace(body):
                self.begin_deletion(body)
            else:
                self.remove(body)

    def of(self, kind: str) -> Objects:
        return [body for body in self.objects.values() if body["kind"] == kind]

    def _holds(self, body: Object) -> bool:
        meta = body["metadata"]
        return self.objects.get((body["kind"], meta["namespace"], meta["name"])) is body

    def _some(self, kind: str, namespace: str, labels: str) -> Objects:
        found = (body for body in self.of(kind) if namespace in ("", body["metadata"]["namespace"]))
        return [body for body in found if labelled(body, labels)]

    def _found(self, kind: str, namespace: str, name: str) -> Object:
        if (kind, namespace, name) not in self.objects:
            raise errors.NotFound(f"{kind} {name} not found", status=404)
        return self.objects[kind, namespace, name]

    def _in_time(self, valid_until: float | None) -> None:
        if valid_until is not None and self._operator_time() > valid_until:
            raise errors.TooLate("not sent")


def _ends_with_grace(body: Object) -> bool:
    """Return whether it is a pod on a node that has not ended (kube-apiserver, CheckGracefulDelete of the pod strategy)."""
    return body["kind"] == "Pod" and bool(body["spec"].get("nodeName")) and body["status"]["phase"] in ("Pending", "Running")


def labelled(body: Object, selector: str) -> bool:
    """Return whether the object has the labels of a selector."""
    labels = body["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in (term.split("=") for term in selector.split(",") if term))


def has_fields(body: Object, selector: str) -> bool:
    """Return whether the object's fields match a selector."""
    for path, wanted in (term.split("=") for term in selector.split(",") if term):
        value: Any = body
        for member in path.split("."):
            value = value[member]
        if value != wanted:
            return False
    return True
