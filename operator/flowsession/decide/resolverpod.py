"""The short-lived pod that reads a source: the default runtime image with its agent, the credentials, and nothing of the operator's."""

import hashlib
from typing import Any

from flowsession.api import GROUP
from flowsession.api.source import Source
from flowsession.decide import children
from flowsession.decide.pod import AGENT_IN_IMAGE, AGENT_PORT, ENVIRONMENT_LABEL, LOST_HOME, MANAGED_BY, MANAGER
from flowsession.settings import Settings

CONTAINER = "resolver"
CREDENTIALS = "/credentials"
SOURCE_ANNOTATION = f"{GROUP}/source-hash"
"""The hash of the spec.source that the pod reads."""
REFRESH_ANNOTATION = f"{GROUP}/refresh"
"""The refresh request that it answers."""
MARKS = (SOURCE_ANNOTATION, REFRESH_ANNOTATION)
START_SECONDS = 300
"""Beside the reading itself, for a node to be found and the image to be pulled."""


def name_of(environment: str, uid: str, source: str, attempt: str) -> str:
    """The same for the same attempt, so that creating it twice is creating it once."""
    digest = hashlib.sha256(f"{uid} {source} {attempt}".encode()).hexdigest()[:10]
    return f"{environment[:40].rstrip('-.')}-source-{digest}"


def manifest(
    name: str, namespace: str, environment: str, uid: str, source: Source, *, annotations: dict[str, str], keys: str, settings: Settings
) -> dict[str, Any]:
    """The pod: restricted Pod Security, no token; the Secret's files are the kubelet's to bring, and only here."""
    resolver, session = settings.resolver, settings.session
    env: list[dict[str, Any]] = [
        {"name": "FLOWSESSION_RESOLVER", "value": "1"},
        {"name": "FLOWSESSION_HOME", "value": LOST_HOME},
        {"name": "FLOWSESSION_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": "FLOWSESSION_PUBLIC_KEYS", "value": keys},
    ]
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    secret = source.git.credentials_secret_name if source.git else None
    if secret:
        # Optional, so that the agent can say which Secret is missing, instead of a pod that waits for it.
        volumes.append({"name": "credentials", "secret": {"secretName": secret, "optional": True, "defaultMode": 0o440}})
        mounts.append({"name": "credentials", "mountPath": CREDENTIALS, "readOnly": True})
        env.append({"name": "FLOWSESSION_CREDENTIALS", "value": CREDENTIALS})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {MANAGED_BY: MANAGER, ENVIRONMENT_LABEL: environment},
            "annotations": annotations,
            "ownerReferences": [children.controller("FlowEnvironment", environment, uid)],
        },
        "spec": {
            **children.restricted(session.run_as_user, mounts=bool(mounts)),
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
                    "ports": [{"name": "agent", "containerPort": AGENT_PORT}],
                    "resources": {"requests": dict(resolver.requests), "limits": dict(resolver.limits)},
                    "securityContext": children.restricted_container(),
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "volumeMounts": mounts,
                }
            ],
            "volumes": volumes,
            **({"nodeSelector": dict(session.node_selector)} if session.node_selector else {}),
            **({"tolerations": [dict(toleration) for toleration in session.tolerations]} if session.tolerations else {}),
        },
    }
