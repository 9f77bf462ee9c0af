"""Images of environments: what their sessions' nodes and their registries report, and which of it is new."""

from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from flowsession.engine.store.keys import Key, Name
from flowsession.engine.store.objects import EnvironmentEntry, PodEntry, SessionEntry
from flowsession.images.check import ImageCheck
from flowsession.images.image import Image
from flowsession.model import pod_images as podimages
from flowsession.model.pod_images import Report
from flowsession.reconcile.environment.image_status import WITHOUT
from flowsession.reconcile.environment.snapshot import ImageFacts

T = TypeVar("T")


@dataclass
class Imaging:
    """Sessions and pods enqueue their environment only if they report something new about its image: a thousand of them report the same.
    Reports are counted as they arrive, so that no decision reads them all. Sessions with their own image don't count."""

    checks: dict[str, ImageCheck] = field(default_factory=dict)
    """By the environment's uid: the last check of its image at the registry."""
    _reports: dict[Name, Counter[Report]] = field(default_factory=dict)
    """By environment: what its sessions' nodes report about the image that they run."""
    _report_of: dict[str, tuple[Name, Report]] = field(default_factory=dict)
    """By the pod's uid."""
    _promptflow: dict[Name, Counter[tuple[str, bool]]] = field(default_factory=dict)
    """By environment: the image's name, and whether its sessions found prompt flow in it."""

    def session_changed(self, known: SessionEntry | None, entry: SessionEntry | None, environment: EnvironmentEntry | None) -> set[Key]:
        """Record a session that was added, changed or deleted: it may be the first to show whether the image has prompt flow."""
        before, after = (_report(one) if one else None for one in (known, entry))
        for one, report, by in ((known, before, -1), (entry, after, 1)):
            if one is not None and report is not None and not one.spec.base_image:
                _count(self._promptflow, one.environment, report, by)
        if environment is None or after is None or after == before:
            return set()
        warned = any(warning.get("code") == WITHOUT for warning in environment.status.get("warnings") or ())
        return _key(environment) if warned == after[1] else set()

    def note_pod(self, pod: PodEntry, session: SessionEntry | None, environment: EnvironmentEntry | None) -> set[Key]:
        """Record a pod: its node may be the first to report the image, or the first to report a registry's digest."""
        self._count_pod(pod, session)
        reports = pod.view.container.image_id if pod.view.container else ""
        known = (environment.status.get("imageDigest") or "") if environment else ""
        news = reports and (not known or ("@" in reports and "@" not in known))
        return _key(environment) if environment and news else set()

    def note_pods(self, session: SessionEntry, pods: Iterable[PodEntry]) -> None:
        """Record the pods of a session that was seen after them."""
        for pod in pods:
            self._count_pod(pod, session)

    def forget_pod(self, uid: str) -> None:
        """Drop a pod that is gone or whose session is gone."""
        if counted := self._report_of.pop(uid, None):
            _count(self._reports, *counted, -1)

    def facts(self, entry: EnvironmentEntry, image: Image) -> ImageFacts:
        """Return what the environment's sessions and its registry report about its image."""
        known = entry.status.get("imageDigest") or "" if entry.status.get("baseImage") == image.name else ""
        counted, reports = self._promptflow.get(entry.meta.key, ()), self._reports.get(entry.meta.key, ())
        found = next((has for name, has in counted if name == image.name), None)
        return ImageFacts(reported=podimages.reported(reports, image, known), promptflow=found, check=self.checks.get(entry.meta.uid))

    def prune(self, environments: Container[str]) -> None:
        """Drop the facts of environments that are gone."""
        self.checks = {uid: check for uid, check in self.checks.items() if uid in environments}

    def _count_pod(self, pod: PodEntry, session: SessionEntry | None) -> None:
        self.forget_pod(pod.view.uid)
        if session is None or session.spec.base_image or pod.owner_uid != session.meta.uid:
            return
        if (report := podimages.report(pod.view)) is not None:
            counted = session.environment, report
            self._report_of[pod.view.uid] = counted
            _count(self._reports, *counted, 1)


def _count(counters: dict[Name, Counter[T]], environment: Name, report: T, by: int) -> None:
    counter = counters.setdefault(environment, Counter())
    counter[report] += by
    if counter[report] <= 0:
        del counter[report]
    if not counter:
        del counters[environment]


def _report(session: SessionEntry) -> tuple[str, bool] | None:
    """Return the name of the session's image and whether it has prompt flow, or None until its packages are listed."""
    found = (session.status.get("packages") or {}).get("promptflow")
    return None if found is None else (session.status.get("baseImage") or "", bool(found))


def _key(environment: EnvironmentEntry) -> set[Key]:
    return {Key("FlowEnvironment", *environment.meta.key)}
