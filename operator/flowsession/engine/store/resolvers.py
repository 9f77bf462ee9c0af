"""The pods that read environments' sources, by environment."""

from collections.abc import Mapping

from flowsession.engine.store.keys import Key
from flowsession.engine.store.objects import EnvironmentEntry, PodEntry
from flowsession.engine.store.store import Index, Store
from flowsession.model.agent_views import AgentView
from flowsession.reconcile.environment.snapshot import ResolverPod


class Resolvers:
    """Holds only their names; the pods themselves are in the cache."""

    def __init__(self) -> None:
        self.pods: Index[PodEntry] = Index(lambda pod: [(pod.view.namespace, pod.environment)] if pod.environment else [])

    def pod_changed(self, known: PodEntry | None, entry: PodEntry | None) -> set[Key]:
        """Return the environments that a pod's addition, change or deletion concerns."""
        return {Key("FlowEnvironment", one.view.namespace, one.environment) for one in (known, entry) if one and one.environment}

    def of(self, entry: EnvironmentEntry, pods: Store[PodEntry], agents: Mapping[str, AgentView]) -> tuple[ResolverPod, ...]:
        """Return the resolver pods that this environment (by uid) owns."""
        mine = pods.all(sorted(self.pods.of(entry.meta.key)))
        return tuple(
            ResolverPod(pod.view, pod.source, pod.refresh, agents.get(pod.view.uid)) for pod in mine if pod.owner_uid == entry.meta.uid
        )
