"""The session's pod: its name and its manifest."""

import hashlib
import json
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flowsession.api import GROUP
from flowsession.api.session import ComputeSessionSpec
from flowsession.manifests.common import controller, restricted, restricted_container
from flowsession.model.agent_views import AgentArchive
from flowsession.model.resolved import Claim, Connection, Resolved, Tracing
from flowsession.settings import Settings
from flowsession_protocol import PORT
from flowsession_protocol import variables as known

CONTAINER = "session"
AGENT_IN_IMAGE = "/opt/flowsession/agent"
AGENT_MOUNT = "/opt/flowsession-agent"
SESSION_HOME = "/session"
"""The session's folder, in every image, with or without a volume."""
FLOW_FOLDER = f"{SESSION_HOME}/flow"
"""Working directory of commands and terminals; on a claim it is a symbolic link."""
STORAGE = "ephemeral-storage"
CLAIMS_MOUNT = "/claims"
"""The folder with a subfolder for each claim of the session, named after the claim."""
SOURCE_MOUNT = "/source"
"""Mount path of a claim that sessions use in place."""

CONNECTIONS_MOUNT = "/opt/flowsession-connections"
"""The folder with a subfolder for each connection, named by its index in the list."""
TRACING_MOUNT = "/opt/flowsession-tracing"
"""The folder with the headers for the endpoint of spans."""

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "flowsession"
SESSION_LABEL = f"{GROUP}/session"
ENVIRONMENT_LABEL = f"{GROUP}/environment"
USER_LABEL = f"{GROUP}/user"
INSTANCE_LABEL = f"{GROUP}/instance"
SETTINGS_ANNOTATION = f"{GROUP}/settings"
"""Hash of the settings in the session's spec that a running pod can't adopt."""
CLAIM_ANNOTATION = f"{GROUP}/claim"
"""The claim's folder that the pod uses in place."""
CONNECTIONS_ANNOTATION = f"{GROUP}/connections"
"""The connections that the pod has, each with its Secret's name."""
TRACING_ANNOTATION = f"{GROUP}/tracing"
"""The endpoint of the pod's spans, the Secret with its headers, and whether spans include content."""
ENVIRONMENT_UID_ANNOTATION = f"{GROUP}/environment-uid"
"""uid of the environment that the pod was created for; another environment may have its name by now."""
IMAGE_ANNOTATION = f"{GROUP}/image"
"""The requested image: a mutating webhook may have replaced it in the spec, for example by a mirror's."""

IMAGE_UPDATE_ANNOTATION = f"{GROUP}/image-update"
"""The environment's last update of its image when the pod was created."""

PROVENANCE_ANNOTATION = f"{GROUP}/provenance"
"""The pod's session and user, encrypted by the operator at the pod's creation."""

AUTOSCALER_ANNOTATIONS = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
"""They keep autoscalers from removing the pod and its node."""

# Must be valid in every Python, even Python 2: it reports a Python that is too old.
_LOADER = """\
import os, sys
def end(code, text):
    try: open('/dev/termination-log', 'w').write(text)
    except Exception: pass
    sys.stderr.write(text + '\\n'); sys.exit(code)
if sys.version_info < (3, 9): end(64, 'Python ' + sys.version.split()[0] + ' in this image is too old: a session needs 3.9 or newer')
import hashlib, runpy
data = open(sys.argv[1], 'rb').read()
if hashlib.sha256(data).hexdigest() != sys.argv[2]: end(65, 'the agent in ' + sys.argv[1] + ' is not the one that the operator shipped')
home = os.environ['FLOWSESSION_HOME']
os.path.isdir(home) or os.makedirs(home)
copy = os.path.join(home, 'agent.pyz')
with open(copy + '.new', 'wb') as out: out.write(data)
os.rename(copy + '.new', copy)
python = getattr(sys, '_base_executable', sys.executable)
os.execv(python, [python, '-I', '-S', copy])
"""


@dataclass(frozen=True)
class SessionPod:
    """The input for the manifest of a session's pod."""

    namespace: str
    session: str
    uid: str
    """uid of the session."""
    incarnation: int
    spec: ComputeSessionSpec
    environment: Resolved
    environment_uid: str
    public_keys: str
    agent: AgentArchive
    settings: Settings

    @property
    def brings_the_agent(self) -> bool:
        """Whether the agent must be mounted: only the default runtime image certainly has it."""
        return self.environment.base_image != self.settings.runtime_image


def name_of(session: str, uid: str, incarnation: int) -> str:
    """Return the pod's name. One incarnation has one name, so a repeated POST creates nothing."""
    return f"{session}-{uid[:5]}-{incarnation}"


def user_label(user: str) -> str:
    """Return the label value for a user's name: an e-mail address is not a legal label value."""
    return hashlib.sha256(user.encode()).hexdigest()[:32]


def agent_config_map_name(sha256: str) -> str:
    """Return the name of the ConfigMap with the agent for images without one; it depends only on the content."""
    return f"flowsession-agent-{sha256[:12]}"


def agent_config_map(namespace: str, agent: AgentArchive) -> dict[str, Any]:
    """Return the ConfigMap with the agent for this namespace's sessions."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": agent_config_map_name(agent.sha256),
            "namespace": namespace,
            "labels": {MANAGED_BY: MANAGER},
        },
        "immutable": True,
        "binaryData": {"agent.pyz": agent.base64},
    }


def manifest(wanted: SessionPod) -> dict[str, Any]:
    """Return the pod: restricted Pod Security, no token, and a volume only if there is something to keep (each costs 0.3 s of start)."""
    settings, environment = wanted.settings.session, wanted.environment
    image, foreign = environment.image, wanted.brings_the_agent
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    # The default runtime image has a folder that its user may write to; others may lack one.
    if environment.keeps_something or foreign:
        volumes.append({"name": "session", "emptyDir": {}})
        mounts.append({"name": "session", "mountPath": SESSION_HOME})
    if foreign:
        volumes.append({"name": "agent", "configMap": {"name": agent_config_map_name(wanted.agent.sha256)}})
        mounts.append({"name": "agent", "mountPath": AGENT_MOUNT, "readOnly": True})
        command = ["python3", "-I", "-c", _LOADER, f"{AGENT_MOUNT}/agent.pyz", wanted.agent.sha256]
    else:
        command = [AGENT_IN_IMAGE]
    extra, claim = wanted.spec.pod_metadata, environment.claim
    if claim:
        volumes.append({"name": "source", "persistentVolumeClaim": {"claimName": claim.name}})
        mounts.append({"name": "source", "mountPath": SOURCE_MOUNT, **({} if claim.path == "." else {"subPath": claim.path})})
    for number, one in enumerate(wanted.spec.claims or ()):
        volumes.append({"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": one.claim_name}})
        mounts.append(
            {"name": f"claim-{number}", "mountPath": f"{CLAIMS_MOUNT}/{one.claim_name}", **({"readOnly": True} if one.read_only else {})}
        )
    for number, connection in enumerate(environment.connections):
        # Optional: a missing Secret must not keep the pod from starting; the kubelet mounts it once it exists.
        volumes.append({"name": f"connection-{number}", "secret": {"secretName": connection.secret, "optional": True}})
        mounts.append({"name": f"connection-{number}", "mountPath": f"{CONNECTIONS_MOUNT}/{number}", "readOnly": True})
    if environment.tracing and environment.tracing.headers_secret:
        volumes.append({"name": "tracing", "secret": {"secretName": environment.tracing.headers_secret, "optional": True}})
        mounts.append({"name": "tracing", "mountPath": TRACING_MOUNT, "readOnly": True})
    spec: dict[str, Any] = {
        **restricted(settings.run_as_user, mounts=True),
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": settings.termination_grace_period_seconds,
        "containers": [
            {
                "name": CONTAINER,
                "image": image.reference,
                "imagePullPolicy": "Always" if image.pull_anew else wanted.settings.image_pull_policy,
                "command": command,
                "workingDir": FLOW_FOLDER,
                "env": _environment(wanted),
                "ports": [{"name": "agent", "containerPort": PORT}],
                "resources": {"requests": dict(settings.requests), "limits": dict(settings.limits)},
                "securityContext": restricted_container(),
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
    }
    if claim or wanted.spec.claims:
        spec["securityContext"]["fsGroupChangePolicy"] = "OnRootMismatch"  # a claim may hold very many files
    if settings.node_selector:
        spec["nodeSelector"] = dict(settings.node_selector)
    if settings.tolerations:
        spec["tolerations"] = [dict(toleration) for toleration in settings.tolerations]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name_of(wanted.session, wanted.uid, wanted.incarnation),
            "namespace": wanted.namespace,
            "labels": {
                **((extra.labels if extra else None) or {}),
                MANAGED_BY: MANAGER,
                SESSION_LABEL: wanted.session,
                ENVIRONMENT_LABEL: wanted.spec.environment_ref.name,
                USER_LABEL: user_label(wanted.spec.user),
            },
            "annotations": {
                **((extra.annotations if extra else None) or {}),
                f"{GROUP}/user": wanted.spec.user,
                ENVIRONMENT_UID_ANNOTATION: wanted.environment_uid,
                IMAGE_ANNOTATION: image.name,
                **({IMAGE_UPDATE_ANNOTATION: image.update} if image.update else {}),
                SETTINGS_ANNOTATION: settings_of(wanted.spec),
                **({CLAIM_ANNOTATION: claim_of(claim)} if claim else {}),
                **({CONNECTIONS_ANNOTATION: connections_of(environment.connections)} if environment.connections else {}),
                **({TRACING_ANNOTATION: tracing_of(environment.tracing)} if environment.tracing else {}),
            },
            "ownerReferences": [controller("ComputeSession", wanted.session, wanted.uid)],
        },
        "spec": spec,
    }


def with_limited_storage(manifest: dict[str, Any], limit: str) -> dict[str, Any]:
    """Return the pod with a limit for all that it writes to its node: its folder, /tmp, the container's layer and its log.

    A limit that the container has from its size or the chart stays. The request is 0; without one it would equal the limit.
    """
    (container,) = manifest["spec"]["containers"]
    resources = container["resources"]
    limits = {**({STORAGE: limit} if limit else {}), **resources["limits"]}
    if STORAGE not in limits:
        return manifest
    resources = {"requests": {**({} if STORAGE in resources["limits"] else {STORAGE: "0"}), **resources["requests"]}, "limits": limits}
    volumes = [
        {**volume, "emptyDir": {**volume["emptyDir"], "sizeLimit": limits[STORAGE]}} if "emptyDir" in volume else volume
        for volume in manifest["spec"]["volumes"]
    ]
    return {**manifest, "spec": {**manifest["spec"], "containers": [{**container, "resources": resources}], "volumes": volumes}}


def settings_of(spec: ComputeSessionSpec) -> str:
    """Return the hash of the session's own environment variables, claims, labels and annotations."""
    given = spec.model_dump(mode="json", include={"env", "pod_metadata", "claims"}, exclude_none=True)
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:16]


def claim_of(claim: Claim | None) -> str:
    """Return the value of the annotation for a claim that the pod uses in place; empty without one."""
    return json.dumps([claim.name, claim.path, claim.flow_path]) if claim else ""


def connections_of(connections: Iterable[Connection]) -> str:
    """Return the value of the annotation for a pod's connections; empty without any. Their order does not matter."""
    found = sorted([connection.name, connection.secret] for connection in connections)
    return json.dumps(found) if found else ""


def tracing_of(tracing: Tracing | None) -> str:
    """Return the value of the annotation for the endpoint of a pod's spans; empty without one."""
    return json.dumps([tracing.endpoint, tracing.headers_secret, tracing.content]) if tracing else ""


def _tracing(wanted: SessionPod, tracing: Tracing) -> str:
    """Return the tracing settings for the agent. Attributes are named by OpenTelemetry's semantic conventions where these define a name."""
    headers = {"headers": TRACING_MOUNT, "secret": tracing.headers_secret} if tracing.headers_secret else {}
    resource = {
        f"{MANAGER}.session": wanted.session,
        f"{MANAGER}.environment": wanted.spec.environment_ref.name,
        "enduser.id": wanted.spec.user,
        "k8s.namespace.name": wanted.namespace,
        "k8s.pod.name": name_of(wanted.session, wanted.uid, wanted.incarnation),
    }
    return json.dumps({"endpoint": tracing.endpoint, "content": tracing.content, **headers, "resource": resource})


def _environment(wanted: SessionPod) -> list[dict[str, Any]]:
    claim = wanted.environment.claim
    own: list[dict[str, Any]] = [
        {"name": known.HOME, "value": SESSION_HOME},
        {"name": known.POD_UID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": known.PUBLIC_KEYS, "value": wanted.public_keys},
        {"name": known.GRACE_SECONDS, "value": str(wanted.settings.session.termination_grace_period_seconds)},
        {"name": "HOME", "value": f"{SESSION_HOME}/home"},
        {"name": "TMPDIR", "value": f"{SESSION_HOME}/tmp"},
        {"name": "PF_HOME_DIRECTORY", "value": f"{SESSION_HOME}/home/.promptflow"},
    ]
    if claim:
        own.append({"name": known.FLOW, "value": posixpath.normpath(f"{SOURCE_MOUNT}/{claim.flow_path}")})
    if wanted.spec.claims:
        own.append({"name": known.CLAIMS, "value": CLAIMS_MOUNT})
    if wanted.environment.connections:
        mounted = [
            {"name": connection.name, "secret": connection.secret, "path": f"{CONNECTIONS_MOUNT}/{number}"}
            for number, connection in enumerate(wanted.environment.connections)
        ]
        own.append({"name": known.CONNECTIONS, "value": json.dumps(mounted)})
    if wanted.environment.tracing:
        own.append({"name": known.TRACING, "value": _tracing(wanted, wanted.environment.tracing)})
    variables = wanted.spec.env or ()
    given = [variable.to_wire() for variable in variables]
    names = {variable["name"] for variable in given}
    secret = [variable.name for variable in variables if variable.value_from and variable.value_from.secret_key_ref]
    masked = [{"name": known.SECRET_VARIABLES, "value": ",".join(secret)}] if secret else []
    return [variable for variable in own if variable["name"] not in names] + given + masked
