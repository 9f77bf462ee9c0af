"""The engine: primes the cache, runs workers on the queue, and periodically re-lists what a watch may have missed."""

import asyncio
import contextlib
import logging
import time
from functools import partial

from flowsession import metrics
from flowsession.api.mutations import SOURCE_LABEL
from flowsession.cluster import errors
from flowsession.cluster.agent import feeds
from flowsession.cluster.agent.client import AgentClient
from flowsession.cluster.gateway import KubernetesCluster
from flowsession.cluster.registry.client import RegistryClient
from flowsession.cluster.vault import Vault
from flowsession.engine.accounts import Accounts
from flowsession.engine.agents import Agents
from flowsession.engine.edits import Edits
from flowsession.engine.executor import Executor
from flowsession.engine.intake import Intake
from flowsession.engine.nodes import Nodes
from flowsession.engine.package_lists import PackageLists
from flowsession.engine.queue import Queue
from flowsession.engine.reader import Reader
from flowsession.engine.recorder import Recorder
from flowsession.engine.registry_checks import ImageChecks
from flowsession.engine.resolutions import Resolutions
from flowsession.engine.run_calls import RunCalls
from flowsession.engine.snapshots import Snapshots
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.keys import Key, Name, newer
from flowsession.engine.store.objects import Object
from flowsession.engine.store.sizing import Sizing
from flowsession.engine.tasks import Tasks
from flowsession.manifests.session_pod import MANAGED_BY, MANAGER
from flowsession.model.agent_views import AgentArchive
from flowsession.model.plan import Event, Plan
from flowsession.reconcile.environment import chain
from flowsession.reconcile.instance import chain as instance
from flowsession.reconcile.run import chain as run
from flowsession.reconcile.session import chain as session
from flowsession.reconcile.size import offer
from flowsession.settings import Settings

log = logging.getLogger(__name__)

WORKERS = 16
SILENT_FAILURES = 3
SILENT_SECONDS = 30.0
"""For SILENT_SECONDS after the last of SILENT_FAILURES failures in a row, no session is retired for an end that would fail too."""

YIELD_SECONDS = 60.0
"""Seconds for which a session without a pod yields to sessions nearer to Ready. In a burst of a thousand, the first become Ready while the
last wait, instead of all at the end."""

LAST_EVENTS_SECONDS = 2.0
"""Seconds for which the operator's own end may wait for Events."""

RESYNC_SECONDS = 300.0
FIRST_RESYNC_SECONDS = 10.0
"""Seconds until the first re-list: what is deleted between the first LISTs and the watches is seen by neither."""

SELECTORS = {
    "FlowEnvironment": "",
    "ConfigMap": f"{SOURCE_LABEL}=true",
    "ComputeSession": "",
    "ComputeInstance": "",
    "FlowRun": "",
    "Pod": f"{MANAGED_BY}={MANAGER}",
    "VMSize": "",
    "ResourceQuota": "",
}
"""Kinds that are watched, with label selectors that exclude the rest of the cluster."""


class Engine:
    """One per process."""

    def __init__(
        self,
        *,
        cluster: KubernetesCluster,
        agent_client: AgentClient,
        settings: Settings,
        public_keys: str,
        archive: AgentArchive,
        instance: str,
        vault: Vault,
        resolutions: Resolutions,
    ) -> None:
        self._cluster = cluster
        self.queue: Queue[Key] = Queue(self._yield_seconds)
        self.cache = Cache(clock=time.time, sizing=Sizing(settings.sizes, clock=time.time))
        self._agents = Agents(agent_client, self.cache, self.queue, partial(feeds.read, cluster))
        self.cache.pod_gone = self._agents.forget
        self._run_calls = RunCalls(cluster, agent_client, self.cache, self.queue)
        self._accounts = Accounts(cluster)
        self._resolutions = resolutions
        resolutions.changed = self._resolved
        self._snapshots = Snapshots(self.cache, settings, public_keys, archive, self._accounts, self._resolutions)
        self._edits = Edits(cluster, self.cache, self.queue, vault, retention_days=settings.session.edits_retention_days)
        self._lists = PackageLists(cluster, self.cache)
        self._intake = Intake(self.cache, self.queue)
        reader = Reader(cluster, self.cache, self.queue, self._edits, self._intake)
        self._checks = ImageChecks(RegistryClient(settings), self.cache, self.queue)
        self._recorder = Recorder(cluster, instance)
        calls = self._agents, self._run_calls
        self._executor = Executor(cluster, self.cache, self.queue, *calls, self._recorder, reader, self._checks, self._edits)
        self._nodes = Nodes(cluster, self.cache, self.queue)
        self._tasks = Tasks()
        self.primed = False
        """Whether the cache holds the whole cluster; earlier decisions would create what already exists."""

    @property
    def dead(self) -> list[str]:
        """Names of background tasks that have ended for good: only a restart helps then."""
        return self._tasks.dead

    async def start(self) -> None:
        """List everything, then start the workers. Raises ClusterError."""
        await self.resync()
        await self._edits.take_over()
        await self._nodes.look()
        self.primed = True
        for number in range(WORKERS):
            self._tasks.start(f"worker-{number}", self._work)
        self._tasks.start("resolutions", self._resolutions.serve_forever)
        self._tasks.start("resync", self._resync_forever)
        self._tasks.start("nodes", self._nodes.look_forever)
        self._tasks.start("events", self._recorder.write_late_forever)

    async def stop(self) -> None:
        """End the workers without waiting for writes in flight, as after a kill, and write deferred Events."""
        await self._tasks.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_EVENTS_SECONDS):
                await self._recorder.write_late()
        await self._agents.close()
        await self._run_calls.close()
        await self._checks.close()

    def observe(self, kind: str, body: Object, *, deleted: bool = False) -> None:
        """Process a watch event."""
        self._intake.take(kind, body, deleted=deleted)
        metrics.sessions.set(len(self.cache.sessions))

    async def resync(self) -> None:
        """LIST what is watched: store what is newer, drop what is gone. No watch reports deletions that happen while it re-lists.

        Raises the first failure, after trying all kinds; stops early only if the API server is unavailable or throttles.
        """
        failure: Exception | None = None
        for kind, labels in SELECTORS.items():
            try:
                await self._relist(kind, labels)
            except Exception as error:  # a kind that can't be listed must not affect the others
                metrics.relist_failures.labels(kind).inc()
                failure = failure or error
                if isinstance(error, errors.Unavailable | errors.Throttled):
                    break  # the others would not be answered either
        self.cache.prune()
        metrics.sessions.set(len(self.cache.sessions))
        if failure is not None:
            raise failure

    async def _relist(self, kind: str, labels: str) -> None:
        seen: set[Key | None] = set()
        before = {Key(kind, *name) for name in self.cache.names(kind)} | set(self._intake.keys(kind))
        listed = "0"
        async for items, version in self._cluster.list(kind, labels=labels):
            listed = version
            seen |= {self._intake.take(kind, body) for body in items}
        if None in seen:
            return  # an object without a name may be any of those that were not seen
        for key in before - seen:
            if not newer(self.cache.version(key), listed):
                self._intake.forget(key)

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                if await self._reconcile(key):
                    self.queue.succeeded(key)
                metrics.reconciles.labels(key.kind, "ok").inc()
            except errors.NamespaceTerminating:
                self.cache.ending_namespaces[key.namespace] = self.cache.clock()
            except errors.ClusterError as error:
                pause = self.queue.retry(key)
                metrics.reconciles.labels(key.kind, "retry").inc()
                log.warning("will try again", extra={"key": f"{key.namespace}/{key.name}", "seconds": round(pause, 1), "error": str(error)})
            except Exception as error:  # nothing is swallowed: logged with its key, counted, reported to its owner, and retried
                self.queue.retry(key)
                metrics.reconciles.labels(key.kind, "error").inc()
                log.exception("decision failed", extra={"key": f"{key.namespace}/{key.name}"})
                await self._report_failure(key, error)
            finally:
                self.queue.done(key)

    async def _report_failure(self, key: Key, error: Exception) -> None:
        """Report a persistent failure to the object's owner, once, if neither they nor the API server caused it."""
        uid = self.cache.uid(key)
        if uid and self.queue.failing(key)[0] == SILENT_FAILURES:
            message = f"the operator fails at this {key.kind}, and tries again ({type(error).__name__}: {error})"
            await self._recorder.record(key, uid, Event(True, "DecisionFailed", f"{message[:500]}; its log has more: please report it"))

    async def _reconcile(self, key: Key) -> bool:
        """Decide and carry out the plan; return whether the key's failures are over. A plan that only calls an agent does not show that."""
        if take_unreported := self._intake.take_unreported(key):
            await self._recorder.record(key, *take_unreported)
        uid, plan = self.plan(key)
        while plan is not None and plan.wants_accounts:
            await self._accounts.read(key.namespace)
            uid, plan = self.plan(key)  # at once, while the list is fresh
        if plan is not None:
            await self._executor.carry_out(key, uid, plan)
        return plan is None or plan.writes or (plan.call is None and not self._silent(key))

    def _resolved(self, environment: Name) -> None:
        self.queue.add_all(self.cache.concerned_by_environment(environment))

    def _yield_seconds(self, key: Key) -> float:
        """Return the seconds for which a key yields to others."""
        return YIELD_SECONDS if key.kind == "ComputeSession" and not self.cache.pods_of((key.namespace, key.name)) else 0.0

    def _silent(self, key: Key) -> bool:
        """Return whether the API server has lately failed to carry out writes about this object."""
        failures, seconds = self.queue.failing(key)
        return failures >= SILENT_FAILURES and seconds < SILENT_SECONDS

    def plan(self, key: Key) -> tuple[str, Plan | None]:
        """Return the object's uid and its plan; None if it is gone or unreadable."""
        name, now = (key.namespace, key.name), self.cache.clock()
        if self._intake.unread(key):
            return "", None
        if key.kind == "FlowEnvironment":
            found = self._snapshots.environment(name)
            return (self.cache.environments[name].meta.uid, chain.decide(*found, now)) if found else ("", None)
        if key.kind == "VMSize":
            size = self.cache.sizing.snapshot(key.name)
            return (self.cache.sizing.sizes[name].meta.uid, offer.decide(size, now)) if size else ("", None)
        if key.kind in ("ComputeInstance", "FlowRun"):
            return self._plan_of_instance(name, now) if key.kind == "ComputeInstance" else self._plan_of_run(name, now)
        if key.kind == "Pod":
            left = self._snapshots.departed(name, now)
            return (left.pods[0].uid, session.decide_gone(left, now)) if left else ("", None)
        instance = self.cache.sizing.instances.key_of(self.cache.sessions.get(name))
        silent = self._silent(key) or (instance is not None and self._silent(instance))
        backlog = max(len(self.queue), self.cache.without_phase())
        snapshot = self._snapshots.session(name, now, server_silent=silent, backlog=backlog) if key.kind == "ComputeSession" else None
        return (snapshot.uid, session.decide(snapshot, now)) if snapshot else ("", None)

    def _plan_of_instance(self, name: Name, now: float) -> tuple[str, Plan | None]:
        found = self._snapshots.instance(name, now)
        return (found.uid, instance.decide(found, now)) if found else ("", None)

    def _plan_of_run(self, name: Name, now: float) -> tuple[str, Plan | None]:
        found = self._snapshots.run(name, now)
        return (found.uid, run.decide(found, now)) if found else ("", None)

    async def _resync_forever(self) -> None:
        pause = min(FIRST_RESYNC_SECONDS, RESYNC_SECONDS)
        while True:
            await asyncio.sleep(pause)
            pause = RESYNC_SECONDS
            for work in (self.resync, self._edits.prune, self._lists.prune):
                try:
                    await work()
                except errors.ClusterError as error:
                    log.warning("re-list failed; the watches go on", extra={"error": str(error)})
                except Exception:  # no error may end this loop: only it finds what watches miss
                    log.exception("re-list broke; the watches go on")
