"""A cluster in memory that answers the commands' requests."""

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any

from flowsession_cli import cluster
from flowsession_cli.cluster import Object
from flowsession_cli.errors import NotFound

KINDS = {
    "ConfigMap": "configmap",
    "Secret": "secret",
    "FlowEnvironment": cluster.ENVIRONMENT,
    "ComputeSession": cluster.SESSION,
    "FlowRun": cluster.RUN,
    "ComputeInstance": cluster.INSTANCE,
}


class FakeCluster(cluster.Cluster):
    """A cluster on which applied objects exist at once, and a watched session becomes Ready."""

    def __init__(self, user: str = "ada@example.com") -> None:
        super().__init__()
        self.__dict__.update(things={}, me=user, applied=[], deleted=[], told=[], logs={})

    def put(self, kind: str, name: str, **parts: Any) -> Object:
        thing = {
            "kind": kind,
            "metadata": {"name": name, "namespace": "default", "generation": 1, "creationTimestamp": "2026-11-29T10:00:00Z"},
        }
        self.things[KINDS[kind], name] = thing | parts
        return self.things[KINDS[kind], name]

    def user(self) -> str:
        return self.me

    def find(self, kind: str, name: str) -> Object | None:
        return copy.deepcopy(self.things.get((kind, name)))

    def get(self, kind: str, name: str) -> Object:
        found = self.find(kind, name)
        if found is None:
            raise NotFound(f"no {kind} {name}")
        return found

    def objects(self, kind: str, *options: str) -> list[Object]:
        if kind == "events":
            return [event for event in self.told if not options or _selected(event["involvedObject"], options[0])]
        wanted = [option[3:].split("=", 1) for option in options if option.startswith("-l=")]
        found = [thing for (of, _), thing in self.things.items() if of == kind]
        return [thing for thing in found if all((thing["metadata"].get("labels") or {}).get(name) == value for name, value in wanted)]

    def names(self, kind: str, *options: str) -> list[str]:
        return [name for of, name in self.things if of == kind]

    def refuse_missing_namespace(self) -> None:
        if self.__dict__.get("missing"):
            raise NotFound(f"there is no namespace {self.missing}")

    def managed_fields(self, kind: str, name: str) -> list[Object]:
        found: list[Object] = self.things.get((kind, name), {}).get("metadata", {}).get("managedFields", [])
        return found

    def log(self, pod: str) -> str:
        return str(self.logs.get(pod, ""))

    def apply(self, *manifests: Object) -> list[Object]:
        for manifest in manifests:
            self.applied.append(manifest["kind"])
            thing = self.things.setdefault((KINDS[manifest["kind"]], manifest["metadata"]["name"]), {"status": {}})
            thing |= {key: value for key, value in manifest.items() if key != "status"}
            thing["metadata"] = {"generation": 1, **manifest["metadata"]}
        return list(manifests)

    def patch(self, kind: str, name: str, change: Mapping[str, Any]) -> Object:
        thing = self.things[kind, name]
        thing["spec"] |= change.get("spec", {})
        thing["metadata"].setdefault("annotations", {}).update(change.get("metadata", {}).get("annotations", {}))
        thing["status"] = {}
        return copy.deepcopy(thing)

    def delete(self, kind: str, name: str) -> None:
        self.deleted.append((kind, name))

    @contextlib.contextmanager
    def watch(self, kind: str, name: str) -> Iterator[Iterator[Object]]:
        thing = self.things[kind, name]
        environment = self.things.get((cluster.ENVIRONMENT, thing["spec"]["environmentRef"]["name"]), {})
        revision = environment.get("status", {}).get("flowRevision", "")
        thing["status"] = ready_status(thing["metadata"]["generation"]) | {"flowRevision": revision}
        yield iter([{"type": "ADDED", "object": thing}])


def _selected(about: Object, option: str) -> bool:
    """Return whether a field selector selects the Events about this object."""
    field, _, value = option.removeprefix("--field-selector=involvedObject.").partition("=")
    return bool(about[field] == value)


def ready_status(generation: int = 1) -> Object:
    """Return the status of a running session."""
    return {
        "observedGeneration": generation,
        "phase": "Running",
        "podName": "chat-1",
        "nodeName": "node-b",
        "conditions": [condition("Ready", "True", "Running", "running on node-b", generation)],
    }


def condition(kind: str, status: str, reason: str, message: str, generation: int = 1) -> Object:
    """Return a condition that has held since ten o'clock."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": "2026-11-29T10:00:00Z",
    }


def event(name: str, reason: str, message: str, *, minute: int = 0, kind: str = "Warning") -> Object:
    """Return an Event of a session, some minutes after ten."""
    return {
        "type": kind,
        "reason": reason,
        "message": message,
        "involvedObject": {"kind": "ComputeSession", "name": name},
        "lastTimestamp": f"2026-11-29T10:{minute:02}:00Z",
    }
