"""The pods that read environments' sources, by environment."""

from collections.abc import Mapping

from flowsession.engine.store.index import Index
from flowsession.engine.store.keys import Key, Name
from flowsession.engine.store.objects import EnvironmentEntry, PodEntry
from flowsession.model.agent_views import AgentView
from flowsession.reconcile.environment.source_reader import ResolverPod


class Resolvers:
    """Knows their names; the pods themselves are the cache's."""

    def __init__(self) -> None:
        self._names = Index()

    def __len__(self) -> int:
        return len(self._names)

    def note(self, known: PodEntry | None, entry: PodEntry | None) -> set[Key]:
        """Takes in that a pod is there, has changed, or is gone: which environments that concerns."""
        found = set()
        for pod, put in ((known, self._names.discard), (entry, self._names.add)):
            if pod is not None and pod.environment:
                put((pod.view.namespace, pod.environment), pod.view.name)
                found.add(Key("FlowEnvironment", pod.view.namespace, pod.environment))
        return found

    def of(self, entry: EnvironmentEntry, pods: Mapping[Name, PodEntry], agents: Mapping[str, AgentView]) -> tuple[ResolverPod, ...]:
        """Those that this very environment owns."""
        where = entry.meta.namespace
        mine = [pods[where, name] for name in sorted(self._names.of((where, entry.meta.name)))]
        return tuple(
            ResolverPod(pod.view, pod.source, pod.refresh, agents.get(pod.view.uid)) for pod in mine if pod.owner_uid == entry.meta.uid
        )
