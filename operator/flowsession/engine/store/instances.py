"""What is known of ComputeInstances: their anchors, the sessions that name them, and the pods on them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flowsession.engine.store import objects
from flowsession.engine.store.index import Index
from flowsession.engine.store.keys import Key, Name, newer
from flowsession.engine.store.objects import InstanceEntry, Object, PodEntry, SessionEntry
from flowsession.reconcile.instance.snapshot import Guest, quiet_at
from flowsession.reconcile.session.snapshot import InstanceView, PodView

KIND = "ComputeInstance"


@dataclass
class Instances:
    """A part of the cache, of one thread like it. What learns something returns the keys that it concerns."""

    entries: dict[Name, InstanceEntry] = field(default_factory=dict)
    written_at: dict[Name, float] = field(default_factory=dict)
    """When an instance's status was last written."""
    sessions: Index = field(default_factory=Index)
    """Names of the sessions that name an instance, by the instance."""
    pods: Index = field(default_factory=Index)
    """Names of the pods that are on an instance or hold its reservation, by the instance."""

    def observe(self, body: Object) -> set[Key]:
        """Takes in an instance if it is news. Raises objects.Unreadable."""
        entry = objects.instance(body)
        name = (entry.meta.namespace, entry.meta.name)
        known = self.entries.get(name)
        if known and not newer(entry.meta.resource_version, known.meta.resource_version):
            return set()
        self.entries[name] = entry
        # Counts and costs wake nobody.
        if known and (known.meta.uid, known.meta.generation, _matters(known)) == (entry.meta.uid, entry.meta.generation, _matters(entry)):
            return {Key(KIND, *name)}
        return self.concerned(name)

    def forget(self, name: Name, uid: str) -> set[Key]:
        """Drops an instance that is gone; with a uid only that very one."""
        entry = self.entries.get(name)
        if entry is None or (uid and entry.meta.uid != uid):
            return set()
        del self.entries[name]
        self.written_at.pop(name, None)
        return self.concerned(name)

    def concerned(self, name: Name) -> set[Key]:
        """An instance, and the sessions that name it or have a pod on it."""
        return {Key(KIND, *name)} | {Key("ComputeSession", name[0], session) for session in self.sessions.of(name)}

    def unplaced(self, namespace: str = "") -> set[Key]:
        """Instances without a node, of one namespace or of all: what changes of sizes, quotas and nodes may concern."""
        waiting = (name for name, entry in self.entries.items() if not entry.status.get("nodeName"))
        return {Key(KIND, *name) for name in waiting if namespace in ("", name[0])}

    def uids(self) -> set[str]:
        """Of all instances."""
        return {entry.meta.uid for entry in self.entries.values()}

    def note_session(self, known: SessionEntry | None, entry: SessionEntry | None) -> set[Key]:
        """Takes in that a session is there, has changed, or is gone: the instances that this concerns."""
        before, after = (_named(one) if one else None for one in (known, entry))
        session = next(one.meta.name for one in (entry, known) if one)
        if before and before != after:
            self.sessions.discard(before, session)
        if after:
            self.sessions.add(after, session)
        return {Key(KIND, *name) for name in (before, after) if name}

    def note_pod(self, known: PodEntry | None, entry: PodEntry | None) -> set[Key]:
        """Takes in that a pod is there, has changed, or is gone: its session, the instance that it is on, and of an anchor
        that moves the sessions there."""
        before, after = (_on(one) if one else None for one in (known, entry))
        pod = next(one.view.name for one in (entry, known) if one)
        if before and before != after:
            self.pods.discard(before, pod)
        if after:
            self.pods.add(after, pod)
        found = {Key(KIND, *name) for name in (before, after) if name}
        found |= {Key("ComputeSession", one.view.namespace, one.session) for one in (known, entry) if one and one.session}
        if (before or after) and any(one.anchor for one in (known, entry) if one) and _place(known) != _place(entry):
            found |= {key for name in (before, after) if name for key in self.concerned(name)}
        return found

    def beside(self, session: SessionEntry) -> set[Key]:
        """Whom a word of a session's agent concerns: its instance, and the other sessions there."""
        name = _named(session)
        return self.concerned(name) if name and name in self.entries else set()

    def of_user(self, namespace: str, user: str) -> tuple[str, ...]:
        """The names of a user's instances."""
        return tuple(sorted(name for (where, name), entry in self.entries.items() if where == namespace and entry.spec.user == user))

    def key_of(self, session: SessionEntry | None) -> Key | None:
        """The instance that a session names."""
        name = _named(session) if session else None
        return Key(KIND, *name) if name else None

    def view(
        self, name: Name, anchors: Mapping[Name, PodEntry], guests: Callable[[Name], tuple[Guest, ...]], now: float
    ) -> InstanceView | None:
        """An instance as sessions see it; None if it is not there."""
        entry = self.entries.get(name)
        if entry is None or entry.meta.deleting:
            return None
        status, spec = entry.status, entry.spec
        stopped = "User" if not spec.running else (status.get("stopped") or {}).get("by", "")
        anchor = anchors.get((name[0], status.get("podName") or ""))
        ready = anchor is not None and anchor.owner_uid == entry.meta.uid and anchor.view.running and anchor.view.deleting_since is None
        said = next((c.get("message", "") for c in status.get("conditions") or () if c.get("type") == "Ready"), "")
        due = None
        all_quiet = False
        if ready and not stopped:
            present = guests(name)
            due = quiet_at(spec, status, present, now)
            all_quiet = due is not None and all(guest.quiet(due, now) for guest in present)
        return InstanceView(
            name=name[1],
            user=spec.user,
            stopped=stopped,
            node=anchor.view.node if anchor and ready else "",
            vm_size=anchor.view.vm_size if anchor and ready else "",
            resources=anchor.limits if anchor and ready else {},
            said=said,
            idle_seconds=spec.idle.timeout_seconds,
            quiet_at=due,
            all_quiet=all_quiet,
            identity=spec.identity,
        )


def _matters(entry: InstanceEntry) -> object:
    """What sessions look at in an instance's status."""
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
