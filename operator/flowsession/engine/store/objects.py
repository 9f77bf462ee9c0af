"""Parses API objects into the views that decisions use, and drops everything else."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from flowsession.api import GROUP
from flowsession.api.environment import FlowEnvironmentSpec
from flowsession.api.instance import ComputeInstanceSpec
from flowsession.api.mutations import CHANGED_BY, CHANGED_BY_FIELD, SOURCE_LABEL
from flowsession.api.run import FINAL, FlowRunSpec
from flowsession.api.session import ComputeSessionSpec
from flowsession.api.size import VMSizeSpec
from flowsession.engine.store.keys import Name
from flowsession.flow.run_yaml import RunYaml, RunYamlError
from flowsession.images.image import ImageInUse
from flowsession.manifests import source_pod
from flowsession.manifests.anchor_pod import ANCHOR
from flowsession.manifests.placement import SIZE_LABEL, TERMS
from flowsession.manifests.run_session import FOR_RUN_LABEL
from flowsession.manifests.session_pod import (
    CLAIM_ANNOTATION,
    CONNECTIONS_ANNOTATION,
    CONTAINER,
    ENVIRONMENT_UID_ANNOTATION,
    IMAGE_ANNOTATION,
    IMAGE_UPDATE_ANNOTATION,
    INSTANCE_LABEL,
    PROVENANCE_ANNOTATION,
    SESSION_LABEL,
    SETTINGS_ANNOTATION,
    TRACING_ANNOTATION,
)
from flowsession.model import times
from flowsession.model.sizes import QuotaView
from flowsession.model.views import ContainerView, PodView
from flowsession.reconcile import identity
from flowsession.reconcile.environment import draft as environment_draft
from flowsession.reconcile.environment import image as images
from flowsession.reconcile.environment import last_reading, resolve
from flowsession.reconcile.environment.last_reading import LastReading
from flowsession.reconcile.requests import REQUESTS, UNKNOWN
from flowsession.reconcile.run import settings as run_settings
from flowsession.reconcile.session import autoscaler, gitops, lost_key
from flowsession.reconcile.size import quota as quotas
from flowsession_protocol.variables import PUBLIC_KEYS

Object = Mapping[str, Any]

MOST_UNKNOWN = 10
"""Maximum number of unknown annotations with our prefix that are reported."""
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Meta:
    """The part of an object's metadata that is used."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    created_at: float
    deleting: bool

    @property
    def key(self) -> Name:
        """Namespace and name, the key in stores and indexes."""
        return self.namespace, self.name


@dataclass(frozen=True)
class SessionEntry:
    """A ComputeSession in the cache."""

    meta: Meta
    spec: ComputeSessionSpec
    status: Object
    requests: Mapping[str, str]
    for_run: bool = False
    """Whether it was created for a run; if so, its user may have another session too."""
    applied_by: str = ""
    """The GitOps tool that applies it; empty: none."""

    @property
    def environment(self) -> Name:
        """Namespace and name of its environment."""
        return self.meta.namespace, self.spec.environment_ref.name


@dataclass(frozen=True)
class EnvironmentEntry:
    """A FlowEnvironment in the cache."""

    meta: Meta
    spec: FlowEnvironmentSpec
    status: Object
    requests: Mapping[str, str] = field(default_factory=dict)
    """The request annotations, by what they ask for: refresh, checkVersion, update."""
    changed_by: Mapping[str, str] = field(default_factory=dict)
    """Fields of the spec that somebody other than the owner changed last, each with that user's name."""

    @cached_property
    def last_reading(self) -> LastReading | None:
        """What a resolver pod last read from its source; None: the operator reads it itself."""
        return last_reading.of(self.spec, self.status)

    @cached_property
    def image(self) -> ImageInUse:
        """The image that it stays on, according to its status."""
        return images.image_in_use(self.status, self.requests)

    @cached_property
    def config_maps(self) -> tuple[str, ...]:
        """Names of the ConfigMaps that it is resolved from."""
        return resolve.needed_config_maps(self.spec, self.last_reading)


@dataclass(frozen=True)
class SizeEntry:
    """A VMSize in the cache."""

    meta: Meta
    spec: VMSizeSpec
    status: Object


@dataclass(frozen=True)
class InstanceEntry:
    """A ComputeInstance in the cache."""

    meta: Meta
    spec: ComputeInstanceSpec
    status: Object
    resume: str
    unknown: str = ""
    """Unknown annotations with our prefix."""


@dataclass(frozen=True)
class RunEntry:
    """A FlowRun in the cache."""

    meta: Meta
    spec: FlowRunSpec
    """Includes the settings in its run.yml, if that can be read."""
    yaml: RunYaml
    status: Object
    problem: str = ""
    """Why its run.yml can't be used."""

    @property
    def over(self) -> bool:
        """Whether its phase is final."""
        return self.status.get("phase") in FINAL

    @property
    def group(self) -> tuple[str, str, str]:
        """Namespace, environment and user: the sessions that it may run in have the same."""
        return self.meta.namespace, self.spec.environment_ref.name, self.spec.user


@dataclass(frozen=True)
class PodEntry:
    """A pod in the cache: a session's, an instance's anchor, or an environment's resolver."""

    view: PodView
    session: str
    owner_uid: str
    anchor: bool = False
    """Whether it holds an instance's reservation."""
    limits: Mapping[str, str] = field(default_factory=dict)
    """Of an anchor: the reserved resources."""
    environment: str = ""
    """The environment whose source a resolver reads."""
    source: str = ""
    refresh: str = ""
    provenance: str = ""
    """The seal of the operator that created it. Not verified yet: whoever creates pods can write anything here."""

    @cached_property
    def meta(self) -> Meta:
        """Metadata as other objects have it. The generation is 0, since nothing uses a pod's."""
        view = self.view
        return Meta(view.namespace, view.name, view.uid, view.resource_version, 0, view.created_at, view.deleting_since is not None)


@dataclass(frozen=True)
class QuotaEntry:
    """A ResourceQuota in the cache."""

    meta: Meta
    view: QuotaView


class Unreadable(Exception):
    """An object that this version can't read: the server has another schema, or a field has an invalid value."""


def meta(body: Object) -> Meta:
    """Return the metadata of any object."""
    raw = body["metadata"]
    return Meta(
        namespace=raw.get("namespace", ""),
        name=raw["name"],
        uid=raw.get("uid", ""),
        resource_version=raw.get("resourceVersion", "0"),
        generation=int(raw.get("generation") or 0),
        created_at=times.parse(raw.get("creationTimestamp")) or 0.0,
        deleting=bool(raw.get("deletionTimestamp")),
    )


def session(body: Object) -> SessionEntry:
    """Parse a ComputeSession. Raises Unreadable."""
    labels, annotations = body["metadata"].get("labels") or {}, body["metadata"].get("annotations") or {}
    return SessionEntry(
        meta(body),
        _spec(ComputeSessionSpec, body),
        body.get("status") or {},
        _requests(body),
        for_run=FOR_RUN_LABEL in labels,
        applied_by=gitops.tool_of(labels, annotations),
    )


def environment(body: Object) -> EnvironmentEntry:
    """Parse a FlowEnvironment. Raises Unreadable."""
    requests = _requests(body, environment_draft.REQUESTS)
    annotations = body["metadata"].get("annotations") or {}
    changed_by = {name.removeprefix(CHANGED_BY_FIELD): who for name, who in annotations.items() if name.startswith(CHANGED_BY_FIELD)}
    return EnvironmentEntry(meta(body), _spec(FlowEnvironmentSpec, body), body.get("status") or {}, requests, changed_by)


def size(body: Object) -> SizeEntry:
    """Parse a VMSize. Raises Unreadable."""
    return SizeEntry(meta(body), _spec(VMSizeSpec, body), body.get("status") or {})


def instance(body: Object) -> InstanceEntry:
    """Parse a ComputeInstance. Raises Unreadable."""
    asked = _requests(body, {"resume": REQUESTS["resume"]})
    spec, status = _spec(ComputeInstanceSpec, body), body.get("status") or {}
    return InstanceEntry(meta(body), spec, status, asked.get("resume", ""), asked.get(UNKNOWN, ""))


def run(body: Object) -> RunEntry:
    """Parse a FlowRun. Raises Unreadable."""
    spec, status = _spec(FlowRunSpec, body), body.get("status") or {}
    try:
        return RunEntry(meta(body), *run_settings.of(body["spec"], spec), status)
    except RunYamlError as error:
        return RunEntry(meta(body), spec, RunYaml(), status, problem=str(error))


def quota(body: Object) -> QuotaEntry:
    """Parse a ResourceQuota. Raises Unreadable."""
    try:
        return QuotaEntry(meta(body), quotas.read(body))
    except ValueError as error:
        raise Unreadable(str(error)) from error


def pod(body: Object) -> PodEntry:
    """Parse a pod of a session, an instance or an environment."""
    raw, status, spec = body["metadata"], body.get("status") or {}, body.get("spec") or {}
    found = {condition.get("type"): condition for condition in status.get("conditions") or ()}
    scheduled = found.get("PodScheduled", {})
    pending = scheduled.get("status") == "False"
    owner: Object = next((o for o in raw.get("ownerReferences") or () if o.get("controller")), {})
    labels, annotations = raw.get("labels") or {}, raw.get("annotations") or {}
    anchor = owner.get("kind") == "ComputeInstance"
    resolver = owner.get("kind") == "FlowEnvironment"
    main = ANCHOR if anchor else source_pod.CONTAINER if resolver else CONTAINER
    container: Object = next((c for c in spec.get("containers") or () if c.get("name") == main), {})
    limits = (container.get("resources") or {}).get("limits") or {}
    view = PodView(
        name=raw["name"],
        namespace=raw["namespace"],
        uid=raw.get("uid", ""),
        resource_version=raw.get("resourceVersion", "0"),
        created_at=times.parse(raw.get("creationTimestamp")) or 0.0,
        deleting_since=times.parse(raw.get("deletionTimestamp")),
        phase=status.get("phase") or "Pending",
        reason=status.get("reason") or "",
        disruption=found.get("DisruptionTarget", {}).get("reason", ""),
        unready=found.get("Ready", {}).get("status") == "False",
        message=status.get("message") or found.get("DisruptionTarget", {}).get("message", ""),
        image=annotations.get(IMAGE_ANNOTATION) or container.get("image", ""),
        started_from=container.get("image", ""),
        image_update=annotations.get(IMAGE_UPDATE_ANNOTATION, ""),
        ip=status.get("podIP") or "",
        node=spec.get("nodeName") or "",
        scheduled_at=times.parse(scheduled.get("lastTransitionTime")) if scheduled.get("status") == "True" else None,
        unscheduled_message=(scheduled.get("message") or scheduled.get("reason") or "") if pending else "",
        container=next((_container(c) for c in status.get("containerStatuses") or () if c.get("name") == main), None),
        vm_size=labels.get(SIZE_LABEL, ""),
        settings=annotations.get(SETTINGS_ANNOTATION, ""),
        size_terms=annotations.get(TERMS, ""),
        memory_limit=str(limits.get("memory", "")),
        instance=labels.get(INSTANCE_LABEL, ""),
        claim=annotations.get(CLAIM_ANNOTATION, ""),
        connections=annotations.get(CONNECTIONS_ANNOTATION, ""),
        tracing=annotations.get(TRACING_ANNOTATION, ""),
        environment_uid=annotations.get(ENVIRONMENT_UID_ANNOTATION, ""),
        protected=autoscaler.is_protected(annotations),
        identity=identity.of_pod(annotations),
        key_ids=lost_key.key_ids(next((str(e.get("value")) for e in container.get("env") or () if e.get("name") == PUBLIC_KEYS), "")),
    )
    if anchor:
        return PodEntry(view, "", owner.get("uid", ""), anchor=True, limits={name: str(amount) for name, amount in limits.items()})
    if resolver:
        source, refresh = (annotations.get(name, "") for name in source_pod.ANNOTATIONS)
        return PodEntry(view, "", owner.get("uid", ""), environment=owner.get("name", ""), source=source, refresh=refresh)
    provenance = annotations.get(PROVENANCE_ANNOTATION, "")
    return PodEntry(view, session=labels.get(SESSION_LABEL, ""), owner_uid=owner.get("uid", ""), provenance=provenance)


def files(body: Object) -> dict[str, bytes]:
    """Return the keys of a ConfigMap as files."""
    found = {name: text.encode() for name, text in (body.get("data") or {}).items()}
    for name, encoded in (body.get("binaryData") or {}).items():
        try:
            found[name] = base64.b64decode(encoded)
        except binascii.Error:
            found[name] = b""
    return found


def author(body: Object) -> str | None:
    """Return who last changed a ConfigMap, as the API server notes on those labeled as sources, or None if that is unknown."""
    raw = body["metadata"]
    labelled = (raw.get("labels") or {}).get(SOURCE_LABEL) == "true"
    return (raw.get("annotations") or {}).get(CHANGED_BY) if labelled else None


def _spec(model: type[M], body: Object) -> M:
    """Return the validated spec. Raises Unreadable."""
    try:
        return model.model_validate(body.get("spec") or {})
    except ValidationError as error:
        raise Unreadable(str(error)) from error


def _requests(body: Object, names: Mapping[str, str] = REQUESTS) -> dict[str, str]:
    annotations = body["metadata"].get("annotations") or {}
    found = {what: annotations[name][:100] for what, name in names.items() if annotations.get(name)}
    ours = (name for name in sorted(annotations) if name.startswith(f"{GROUP}/") and not name.startswith(CHANGED_BY))
    unknown = [name for name in ours if name not in names.values()][:MOST_UNKNOWN]
    return {**found, **({UNKNOWN: " ".join(unknown)} if unknown else {})}


def _container(status: Object) -> ContainerView:
    state, last = status.get("state") or {}, status.get("lastState") or {}
    ended = state.get("terminated") or last.get("terminated") or {}
    waiting = state.get("waiting") or {}
    return ContainerView(
        running_since=times.parse((state.get("running") or {}).get("startedAt")),
        restarts=int(status.get("restartCount") or 0),
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        ended_reason=ended.get("reason", ""),
        ended_code=int(ended.get("exitCode") or 0),
        ended_message=(ended.get("message") or "")[:4000],
        ended_at=times.parse(ended.get("finishedAt")),
        image_id=status.get("imageID", ""),
    )
