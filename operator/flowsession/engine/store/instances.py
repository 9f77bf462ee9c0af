"""ComputeInstances in the cache: their anchors, the sessions that name them, and the pods on them."""

from collections.abc import Callable, Mapping

from flowsession.engine.store import objects
from flowsession.engine.store.keys import Key, Name
from flowsession.engine.store.objects import InstanceEntry, PodEntry, SessionEntry
from flowsession.engine.store.store import Index, Store
from flowsession.model.views import InstanceView, PodView
from flowsession.reconcile.instance.snapshot import HostedSession, idle_at

KIND = "ComputeInstance"


class Instances:
    """A part of the cache, like it not thread-safe. Methods that record a change return the keys that it concerns."""

    def __init__(self) -> None:
        self.sessions: Index[SessionEntry] = Index(lambda session: filter(None, [_named(session)]))
        """The sessions that name an instance, by the instance."""
        self.pods: Index[PodEntry] = Index(lambda pod: filter(None, [_on(pod)]))
        """The pods that are on an instance or hold its reservation, by the instance."""
        self._by_user: Index[InstanceEntry] = Index(lambda entry: [(entry.meta.namespace, entry.spec.user)])
        self._without_node: Index[InstanceEntry] = Index(lambda entry: [] if entry.status.get("nodeName") else [entry.meta.namespace, ""])
        """By namespace, and under "" those of all namespaces."""
        self.entries: Store[InstanceEntry] = Store(objects.instance, self._changed, self._by_user, self._without_node)
        self.changed: Callable[[InstanceEntry | None, InstanceEntry | None], None] = lambda _, __: None
        """Called with every instance before and after a change; None: it was unknown before, or is gone now."""
        self.written_at: dict[Name, float] = {}
        """When an instance's status was last written."""

    def concerned(self, name: Name) -> set[Key]:
        """Return the keys of an instance and of the sessions that name it or have a pod on it."""
        return {Key(KIND, *name)} | {Key("ComputeSession", *session) for session in self.sessions.of(name)}

    def unplaced(self, namespace: str = "") -> set[Key]:
        """Return the instances without a node, in one namespace or in all: changes of sizes, quotas and nodes concern them."""
        return {Key(KIND, *name) for name in self._without_node.of(namespace)}

    def session_changed(self, known: SessionEntry | None, entry: SessionEntry | None) -> set[Key]:
        """Return the instances that a session's addition, change or deletion concerns."""
        return {Key(KIND, *name) for name in (_named(one) for one in (known, entry) if one) if name}

    def pod_changed(self, known: PodEntry | None, entry: PodEntry | None) -> set[Key]:
        """Return the keys that a pod's addition, change or deletion concerns: its session, its instance and, if it is an anchor whose node
        or state changes, the instance's sessions."""
        names = {name for name in (_on(one) for one in (known, entry) if one) if name}
        found = {Key(KIND, *name) for name in names}
        found |= {Key("ComputeSession", one.view.namespace, one.session) for one in (known, entry) if one and one.session}
        if names and any(one.anchor for one in (known, entry) if one) and _place(known) != _place(entry):
            found |= {key for name in names for key in self.concerned(name)}
        return found

    def concerned_by(self, session: SessionEntry) -> set[Key]:
        """Return the keys that an answer of a session's agent concerns: its instance and the instance's sessions."""
        name = _named(session)
        return self.concerned(name) if name and name in self.entries else set()

    def of_user(self, namespace: str, user: str) -> tuple[str, ...]:
        """Return the names of a user's instances."""
        return tuple(sorted(name for _, name in self._by_user.of((namespace, user))))

    def key_of(self, session: SessionEntry | None) -> Key | None:
        """Return the key of the instance that a session names."""
        name = _named(session) if session else None
        return Key(KIND, *name) if name else None

    def _changed(self, known: InstanceEntry | None, entry: InstanceEntry | None) -> set[Key]:
        self.changed(known, entry)
        if entry is None:
            name = known.meta.key if known else ("", "")
            self.written_at.pop(name, None)
            return self.concerned(name)
        # Changes of counts and costs concern no session.
        if known and (known.meta.generation, _matters(known)) == (entry.meta.generation, _matters(entry)):
            return {Key(KIND, *entry.meta.key)}
        return self.concerned(entry.meta.key)

    def view(
        self, name: Name, anchors: Mapping[Name, PodEntry], hosted: Callable[[Name], tuple[HostedSession, ...]], now: float
    ) -> InstanceView | None:
        """Return an instance as sessions see it, or None if it is missing or being deleted."""
        entry = self.entries.get(name)
        if entry is None or entry.meta.deleting:
            return None
        status, spec = entry.status, entry.spec
        stopped = "User" if not spec.running else (status.get("stopped") or {}).get("by", "")
        anchor = anchors.get((name[0], status.get("podName") or ""))
        ready = anchor is not None and anchor.owner_uid == entry.meta.uid and anchor.view.running and anchor.view.deleting_since is None
        message = next((c.get("message", "") for c in status.get("conditions") or () if c.get("type") == "Ready"), "")
        due = None
        all_idle = False
        if ready and not stopped:
            present = hosted(name)
            due = idle_at(spec, status, present, now)
            all_idle = due is not None and all(session.is_idle_since(due, now) for session in present)
        return InstanceView(
            name=name[1],
            user=spec.user,
            stopped=stopped,
            node=anchor.view.node if anchor and ready else "",
            vm_size=anchor.view.vm_size if anchor and ready else "",
            resources=anchor.limits if anchor and ready else {},
            message=message,
            idle_seconds=spec.idle.timeout_seconds,
            idle_at=due,
            all_idle=all_idle,
            identity=spec.identity,
        )


def _matters(entry: InstanceEntry) -> object:
    """Return the part of an instance's status that sessions depend on."""
    status = entry.status
    return entry.meta.deleting, status.get("stopped"), status.get("podName"), status.get("readyAt")


def _named(session: SessionEntry) -> Name | None:
    ref = session.spec.compute.instance_ref
    return (session.meta.namespace, ref.name) if ref else None


def _on(pod: PodEntry) -> Name | None:
    return (pod.view.namespace, pod.view.instance) if pod.view.instance else None


def _place(pod: PodEntry | None) -> tuple[str, bool, bool] | None:
    view: PodView | None = pod.view if pod else None
    return (view.node, view.running, view.deleting_since is not None) if view else None
