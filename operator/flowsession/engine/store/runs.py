"""FlowRuns in the cache; those that are over take no room but their entry."""

from collections.abc import Iterable

from flowsession.api.run import ClaimFolder
from flowsession.engine.store import objects
from flowsession.engine.store.keys import Key, Name
from flowsession.engine.store.objects import PodEntry, RunEntry, SessionEntry
from flowsession.engine.store.store import Index, Store
from flowsession.flow.run_yaml import RunYaml
from flowsession.model.run_views import Earlier, RunView
from flowsession.reconcile.run.snapshot import Rival

KIND = "FlowRun"


class Runs:
    """A part of the cache, like it not thread-safe. Methods that record a change return the keys that it concerns."""

    def __init__(self) -> None:
        self._by_group: Index[RunEntry] = Index(lambda run: [] if run.over else [run.group])
        self._by_user: Index[RunEntry] = Index(lambda run: [] if run.over else [_user(run)])
        self._by_guest: Index[RunEntry] = Index(_guest)
        self._by_session: Index[RunEntry] = Index(_named)
        self._by_pod: Index[RunEntry] = Index(_pod)
        self._by_earlier: Index[RunEntry] = Index(_earlier)
        indexes = self._by_group, self._by_user, self._by_guest, self._by_session, self._by_pod, self._by_earlier
        self.entries: Store[RunEntry] = Store(objects.run, self._changed, *indexes)
        self.views: dict[str, RunView] = {}
        """By the run's uid: what its agent reports."""
        self.written_at: dict[Name, float] = {}
        """When a run's status was last written."""

    def rivals(self, run: RunEntry) -> tuple[Rival, ...]:
        """Return the user's other runs that are not over, the oldest first, without runs that wait for an earlier one's end: they block
        no other run."""
        others = [other for other in self.entries.all(self._by_user.of(_user(run))) if other.meta.uid != run.meta.uid]
        found = [
            Rival(
                other.meta.name,
                (other.meta.created_at, other.meta.uid),
                session=other.status.get("sessionName") or (other.spec.session_ref.name if other.spec.session_ref else ""),
                placed=bool(other.status.get("podName")),
                environment=other.spec.environment_ref.name,
            )
            for other in others
            if not other.meta.deleting and (other.status.get("podName") or not self._waits(other))
        ]
        return tuple(sorted(found, key=lambda rival: rival.order))

    def earlier(self, run: RunEntry) -> Earlier | None:
        """Return the run on whose outputs or lines a run builds."""
        names = self._chain(run)
        found = self.entries.get((run.meta.namespace, names[0])) if names else None
        if found is None:
            return None
        circle = len(set(names)) < len(names) or run.meta.name in names
        outputs = found.status.get("outputs") or {}
        claim = outputs.get("persistentVolumeClaim")
        origin = None if circle else self._origin(found)
        return Earlier(
            name=found.meta.name,
            uid=found.meta.uid,
            user=found.spec.user,
            phase=found.status.get("phase") or "",
            config_maps=tuple(outputs.get("configMapNames") or ()),
            claim=ClaimFolder.model_validate(claim) if claim else None,
            waits_for=tuple(names[1:]),
            environment=found.spec.environment_ref.name,
            spec=origin.spec if origin else None,
            yaml=origin.yaml if origin else RunYaml(),
            earlier=self.earlier(origin) if origin else None,
        )

    def _origin(self, run: RunEntry) -> RunEntry | None:
        """Return the first run of a chain of resumed runs, or None if one of them is gone."""
        entry: RunEntry | None = run
        while entry is not None and entry.spec.resume_from is not None:
            entry = self.entries.get((run.meta.namespace, entry.spec.resume_from))
        return entry

    def _waits(self, run: RunEntry) -> bool:
        """Return whether a run builds on another one that is not over."""
        name = run.spec.builds_on
        if name is None:
            return False
        earlier = self.entries.get((run.meta.namespace, name))
        return earlier is None or not earlier.over

    def _chain(self, run: RunEntry) -> list[str]:
        """Return the names of the runs on which a run builds, up to the first repeated one."""
        names: list[str] = []
        entry: RunEntry | None = run
        while entry is not None and (name := entry.spec.builds_on) is not None:
            names.append(name)
            if name in (run.meta.name, *names[:-1]):
                break
            entry = self.entries.get((run.meta.namespace, name))
        return names

    def concerned_by_session(self, session: SessionEntry | None) -> set[Key]:
        """Return the runs that may be in a session."""
        if session is None or not len(self._by_group):
            return set()
        names = {*self._by_group.of((*session.environment, session.spec.user)), *self._by_session.of(session.meta.key)}
        return _keys(names)

    def concerned_by_environment(self, environment: Name) -> set[Key]:
        """Return the runs of an environment's flow that name a session, which may be of another environment."""
        return _keys(self._by_guest.of(environment)) if len(self._by_guest) else set()

    def concerned_by_pod(self, pod: PodEntry | None) -> set[Key]:
        """Return the runs that are in a pod."""
        return _keys(self._by_pod.of(pod.meta.key)) if pod is not None and len(self._by_pod) else set()

    def view(self, uid: str, pod: str) -> RunView:
        """Return what is known of a run in this pod; an earlier pod's view is ignored."""
        found = self.views.get(uid)
        return found if found is not None and found.pod == pod else RunView(pod=pod)

    def prune(self) -> None:
        """Drop what has outlived its run."""
        uids = {entry.meta.uid for entry in self.entries.values() if not entry.over}
        self.views = {uid: view for uid, view in self.views.items() if uid in uids}
        self.written_at = {name: at for name, at in self.written_at.items() if name in self.entries}

    def _changed(self, known: RunEntry | None, entry: RunEntry | None) -> set[Key]:
        either = entry or known
        if either is None:
            return set()
        concerned = _keys([either.meta.key]) | _keys(self._by_earlier.of(either.meta.key))
        if entry is None or entry.over:
            self.views.pop(either.meta.uid, None)
            if known is not None and not known.over:
                concerned |= _keys(self._by_user.of(_user(known)))  # the next run may begin
        return concerned


def _keys(names: Iterable[Name]) -> set[Key]:
    return {Key(KIND, *name) for name in names}


def _named(run: RunEntry) -> list[Name]:
    return [(run.meta.namespace, run.spec.session_ref.name)] if run.spec.session_ref and not run.over else []


def _user(run: RunEntry) -> tuple[str, str]:
    return run.meta.namespace, run.spec.user


def _guest(run: RunEntry) -> list[Name]:
    return [run.group[:2]] if run.spec.session_ref and not run.over else []


def _pod(run: RunEntry) -> list[Name]:
    name = run.status.get("podName")
    return [(run.meta.namespace, name)] if name and not run.over else []


def _earlier(run: RunEntry) -> list[Name]:
    name = run.spec.builds_on
    return [(run.meta.namespace, name)] if name and not run.over else []
