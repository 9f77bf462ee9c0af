"""The short-lived pod that reads a source: the default runtime image with its agent and the source's credentials, not the operator's."""

import hashlib
from typing import Any

from flowsession.api import GROUP
from flowsession.api.source import Source
from flowsession.manifests import common
from flowsession.manifests.session_pod import AGENT_IN_IMAGE, ENVIRONMENT_LABEL, MANAGED_BY, MANAGER
from flowsession.settings import Settings
from flowsession_protocol import PORT, variables
from flowsession_protocol.messages import SourceOrder

CONTAINER = "resolver"
CREDENTIALS = "/credentials"
MOUNT = "/source"
SOURCE_ANNOTATION = f"{GROUP}/source-hash"
"""Hash of the spec.source that the pod reads."""
REFRESH_ANNOTATION = f"{GROUP}/refresh"
"""The refresh request that it handles."""
ANNOTATIONS = (SOURCE_ANNOTATION, REFRESH_ANNOTATION)
HOME = "/tmp/flowsession"
START_SECONDS = 300
"""Seconds allowed for scheduling and the image pull, in addition to the reading itself."""


def name_of(environment: str, uid: str, source: str, attempt: str) -> str:
    """Return the pod's name. One attempt has one name, so a repeated POST creates nothing."""
    digest = hashlib.sha256(f"{uid} {source} {attempt}".encode()).hexdigest()[:10]
    return f"{environment[:40].rstrip('-.')}-source-{digest}"


def manifest(
    name: str, namespace: str, environment: str, uid: str, source: Source, *, annotations: dict[str, str], keys: str, settings: Settings
) -> dict[str, Any]:
    """Return the pod: restricted Pod Security, no token. The kubelet mounts the Secret's files, in this pod only."""
    resolver, session = settings.resolver, settings.session
    env: list[dict[str, Any]] = [
        {"name": variables.RESOLVER, "value": "1"},
        {"name": variables.HOME, "value": HOME},
        {"name": variables.POD_UID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": variables.PUBLIC_KEYS, "value": keys},
    ]
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    secret = source.git.credentials_secret_name if source.git else None
    if secret:
        # Optional, so that the agent reports a missing Secret instead of the pod waiting for it.
        volumes.append({"name": "credentials", "secret": {"secretName": secret, "optional": True, "defaultMode": 0o440}})
        mounts.append({"name": "credentials", "mountPath": CREDENTIALS, "readOnly": True})
        env.append({"name": variables.CREDENTIALS, "value": CREDENTIALS})
    claim, artifact = source.persistent_volume_claim, source.oci_artifact
    if claim or artifact:
        mounts.append({"name": "source", "mountPath": MOUNT, "readOnly": True})
    if claim:
        volumes.append({"name": "source", "persistentVolumeClaim": {"claimName": claim.claim_name}})
    if artifact:
        volumes.append({"name": "source", "image": {"reference": artifact.reference}})
    # On a claim that sessions write to, files become their group's; on a read-only claim they stay unchanged.
    security = common.restricted(session.run_as_user, mounts=bool(secret or (claim and not claim.read_only)))
    if claim:
        security["securityContext"]["fsGroupChangePolicy"] = "OnRootMismatch"
        security["affinity"] = {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [_near_sessions(environment)]}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {MANAGED_BY: MANAGER, ENVIRONMENT_LABEL: environment},
            "annotations": annotations,
            "ownerReferences": [common.controller("FlowEnvironment", environment, uid)],
        },
        "spec": {
            **security,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": resolver.timeout_seconds + START_SECONDS,
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": CONTAINER,
                    "image": settings.runtime_image,
                    "imagePullPolicy": settings.image_pull_policy,
                    "command": [AGENT_IN_IMAGE],
                    "env": env,
                    "ports": [{"name": "agent", "containerPort": PORT}],
                    "resources": {"requests": dict(resolver.requests), "limits": dict(resolver.limits)},
                    "securityContext": common.restricted_container(),
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "volumeMounts": mounts,
                }
            ],
            "volumes": volumes,
            **({"nodeSelector": dict(session.node_selector)} if session.node_selector else {}),
            **({"tolerations": [dict(toleration) for toleration in session.tolerations]} if session.tolerations else {}),
        },
    }


def request_body(source: Source, known: str, settings: Settings) -> SourceOrder:
    """Return the body of PUT /v1/source; `known` is the commit that need not be fetched again."""
    if source.git is None:
        claim, artifact = source.persistent_volume_claim, source.oci_artifact
        path = claim.path if claim else artifact.path if artifact else "."
        return {"folder": {"path": path, "outline": claim is not None and not claim.read_only}}
    return {
        "git": {"url": source.git.url, "revision": source.git.revision, "path": source.git.path, "known": known},
        "seconds": settings.resolver.timeout_seconds,
        "caBundle": settings.installer.ca_bundle,
        "environment": {name: value for name, value in settings.installer.environment.items() if name.upper().endswith("_PROXY")},
    }


def _near_sessions(environment: str) -> dict[str, Any]:
    """Return the preference for the nodes of the environment's sessions: some claims can be mounted on one node at a time only."""
    selector = {"matchLabels": {MANAGED_BY: MANAGER, ENVIRONMENT_LABEL: environment}}
    return {"weight": 100, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}}
