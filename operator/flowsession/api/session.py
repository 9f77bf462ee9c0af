"""ComputeSession: one person's running copy of an environment."""

from enum import StrEnum

from pydantic import ConfigDict, Field

from flowsession.api.base import IMAGE_RULE, IMMUTABLE, Conditions, Model, ObjectName, Timestamp, rule, validations
from flowsession.api.compute import Compute, Cost
from flowsession.api.identity import Identity, IdentityInUse
from flowsession.api.pod_settings import EnvVar, PodMetadata


class Phase(StrEnum):
    """The state in one word, for people; programs read the conditions. All but Running are Azure's "Not available"."""

    PENDING = "Pending"
    STARTING = "Starting"
    INSTALLING = "Installing"
    RUNNING = "Running"
    SUSPENDING = "Suspending"
    SUSPENDED = "Suspended"
    FAILED = "Failed"


class IdleAction(StrEnum):
    """What happens to an unused session."""

    DELETE = "Delete"
    SUSPEND = "Suspend"
    NONE = "None"


class OnChange(StrEnum):
    """What happens in a running session when its environment's requirements change."""

    INSTALL = "Install"
    WAIT = "Wait"


class SuspendedBy(StrEnum):
    """Who or what released the session's compute."""

    USER = "User"
    IDLE = "Idle"
    LIFETIME = "Lifetime"


class EnvironmentRef(Model):
    """A FlowEnvironment in the same namespace."""

    name: ObjectName = Field(description="Name of the FlowEnvironment.")


class Idle(Model):
    """When an unused session ends, and how."""

    action: IdleAction = Field(
        default=IdleAction.DELETE,
        description="Delete: the session is deleted after timeoutSeconds without work. Suspend: its compute is released, the object and its"
        " settings stay. None: it never ends for idleness.",
    )
    timeout_seconds: int = Field(
        default=3600,
        ge=5,
        le=31536000,
        description="Seconds without work after which action is taken. Work is a run, an API call, a terminal with a live process,"
        " or any process that uses the CPU.",
    )


class SessionClaim(Model):
    """A PersistentVolumeClaim of the namespace."""

    claim_name: ObjectName = Field(description="Name of the PersistentVolumeClaim; it is mounted at /claims/NAME.")
    read_only: bool = Field(default=False, description="True: the session can't write there.")


class ComputeSessionSpec(Model):
    """Who runs which environment, on what, and until when."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule(
                "!has(self.compute) || !has(self.compute.type) || self.compute.type != 'Instance' || !has(self.identity)"
                " || !has(self.identity.type) || self.identity.type == 'User'",
                "a session on a compute instance has the instance's identity: leave identity out, or set it on the ComputeInstance",
            )
        )
    )

    environment_ref: EnvironmentRef = Field(
        description="The environment that this is a running copy of. Immutable.",
        json_schema_extra=validations(rule(IMMUTABLE, "environmentRef is immutable: create another session for another environment")),
    )
    user: str = Field(
        min_length=1,
        max_length=320,
        description="The person whose session this is, such as alice@example.com. Immutable.",
        json_schema_extra=validations(rule(IMMUTABLE, "user is immutable: a session belongs to one person")),
    )
    compute: Compute = Field(default_factory=Compute, description="What the session runs on.")
    base_image: str = Field(
        default="",
        max_length=1024,
        description="This session's own image, instead of its environment's; a change needs a reset. Empty: the environment's.",
        json_schema_extra=validations(IMAGE_RULE),
    )
    idle: Idle = Field(default_factory=Idle, description="When an unused session ends.")
    suspend: bool = Field(
        default=False, description="True: the compute is released, the object and its settings stay; false again: it starts anew."
    )
    max_lifetime_seconds: int = Field(
        default=0, ge=0, le=31536000, description="Seconds after a start at which the session is suspended, even if it is in use. 0: never."
    )
    on_change: OnChange = Field(
        default=OnChange.INSTALL,
        description="Install: changed requirements are installed at once, in place. Wait: not until the annotation"
        " flowsession.dev/install-requested-at asks for it. A start or a reset always installs.",
    )
    start_timeout_seconds: int = Field(
        default=600,
        ge=10,
        le=86400,
        description="Seconds from the start of the pod until the session must be ready; then the start counts as failed, but goes on.",
    )
    identity: Identity = Field(
        default_factory=Identity,
        description="As whom the session acts. A change restarts the session with the new identity. On a ComputeInstance it is the"
        " instance's.",
    )
    env: list[EnvVar] | None = Field(
        default=None,
        max_length=200,
        description="Environment variables of the session; a change takes effect at the next start.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    claims: list[SessionClaim] | None = Field(
        default=None,
        max_length=3,
        description="PersistentVolumeClaims with data or for outputs of runs, at /claims/NAME in the session; a change needs a reset.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["claimName"]},
    )
    pod_metadata: PodMetadata | None = Field(default=None, description="Labels and annotations for the session's pod.")


class LastActivity(Model):
    """The last work seen in the session."""

    at: Timestamp = Field(description="When.")
    what: str = Field(description='What it was, such as "exec python train.py".')


class MemoryKill(Model):
    """The last kill of a process because the session was out of memory."""

    id: str = Field(description="Id of the kill.")
    process: str = Field(description="The process, if known.")
    at: Timestamp = Field(description="When it was reported.")


class Stage(Model):
    """One step of the start."""

    name: str = Field(
        description="Scheduled, ImagePulled, AgentReady, FlowDelivered, PackagesInstalled, PackagesListed; or Ready, which is the whole."
    )
    started_at: Timestamp = Field(description="When it began.")
    seconds: float | None = Field(default=None, description="How long it took; absent while it lasts.")


class Suspended(Model):
    """Why the session has no compute."""

    by: SuspendedBy = Field(description="User: spec.suspend. Idle: nobody used it. Lifetime: maxLifetimeSeconds had passed.")
    at: Timestamp = Field(description="Since when.")


class HandledRequests(Model):
    """The value of each request annotation that was handled last."""

    reset: str | None = Field(default=None, description="Of flowsession.dev/reset-requested-at.")
    install: str | None = Field(default=None, description="Of flowsession.dev/install-requested-at.")
    resume: str | None = Field(default=None, description="Of flowsession.dev/resume-requested-at.")
    keep_alive: str | None = Field(default=None, description="Of flowsession.dev/keep-alive-requested-at.")
    unknown: str | None = Field(default=None, description="Names of unknown annotations flowsession.dev/..., as last reported.")


class Install(Model):
    """The result of the last install."""

    tool: str = Field(default="", description="uv or pip.")
    revision: str = Field(default="", description="The packagesRevision that it was for.")
    exit_code: int | None = Field(default=None, description="The tool's exit code.")
    seconds: float | None = Field(default=None, description="How long it took.")
    changed: int | None = Field(default=None, description="Number of packages that were installed.")
    stdout_tail: str = Field(default="", description="The last lines that the tool printed.")
    stderr_tail: str = Field(default="", description="The last lines of its errors.")
    warnings: list[str] | None = Field(default=None, description="What the tool warned of.")


class Packages(Model):
    """Where the list of installed packages is."""

    count: int = Field(description="Number of packages.")
    config_map_name: str = Field(description="ConfigMap with keys packages.txt (a table to read) and packages.json.")
    promptflow: str | None = Field(
        default=None, description="Version of prompt flow in the image, whatever was installed over it; empty if it has none."
    )


class EnvironmentInUse(Model):
    """The environment, as it was when the session got its content."""

    uid: str | None = Field(default=None, description="Its metadata.uid.")
    owner: str | None = Field(default=None, description="Its spec.owner.")
    content: str | None = Field(default=None, description="Hash of its image, requirements, installer and flow folder.")
    config_maps: list[str] | None = Field(
        default=None, description="ConfigMaps of its flow folder for which the API server noted who changed them last."
    )
    asked: str | None = Field(default=None, description="The request by which the session's user took up a change of others.")


class Edits(Model):
    """Files of the flow folder that were changed inside the session."""

    count: int = Field(default=0, description="Number of files that differ from the environment's.")
    files: list[str] | None = Field(default=None, description="Their names, the first 20.")
    saved_to: str | None = Field(
        default=None,
        description="ConfigMap with the edits that were saved last; the next session of the same user and environment gets them.",
    )
    saved_at: Timestamp | None = Field(default=None, description="When they were saved.")
    revision: str | None = Field(
        default=None, description="Revision of the edits that were saved last, if the session's edits are based on them."
    )
    problem: str | None = Field(default=None, description="Why saved edits could not be restored.")
    not_saved: str | None = Field(default=None, description="Why the present edits can't be saved; absent: they can.")
    discarded: bool | None = Field(default=None, description="True: the present edits are not to be saved, as somebody has asked for.")
    left_out: int | None = Field(
        default=None,
        description="Number of files that are not saved, by their names or an ignore file; `flow edits` in the session names them.",
    )


class ComputeSessionStatus(Model):
    """The session's present state."""

    observed_generation: int | None = Field(default=None, description="metadata.generation that this status is about.")
    phase: Phase | None = Field(default=None, description="The state in one word.")
    reason: str | None = Field(
        default=None, description="Why it is not Running: the reason of the condition Ready; absent while it is Running."
    )
    base_image: str | None = Field(default=None, description="The image that the session runs.")
    image_digest: str | None = Field(default=None, description="The digest of that image, as the node reports it.")
    packages_revision: str | None = Field(default=None, description="Revision of the packages that are installed now.")
    flow_revision: str | None = Field(default=None, description="Revision of the flow folder that is in the session now.")
    vm_size: str | None = Field(default=None, description="The size that was chosen.")
    identity: IdentityInUse | None = Field(default=None, description="As whom the session acts; absent: without credentials.")
    pod_name: str | None = Field(default=None, description="The session's pod: kubectl exec -it POD -- bash.")
    node_name: str | None = Field(default=None, description="The node that it runs on.")
    incarnation: int | None = Field(default=None, description="How many times a pod was started for this session, from 1.")
    container_restarts: int | None = Field(
        default=None,
        description="Restart count of the pod's container when the session was last ready; a higher count means another agent.",
    )
    started_at: Timestamp | None = Field(default=None, description="When the present pod was started, or will be after a back-off.")
    ready_at: Timestamp | None = Field(default=None, description="When the present container was first ready, with everything installed.")
    expires_at: Timestamp | None = Field(default=None, description="When idleness would end the session, as last observed.")
    last_activity: LastActivity | None = Field(default=None, description="The last work that was seen.")
    stages: list[Stage] | None = Field(default=None, description="The steps of the start, each with its seconds.")
    suspended: Suspended | None = Field(default=None, description="Why the session has no compute; absent: it has compute, or gets some.")
    activated_at: Timestamp | None = Field(
        default=None, description="When the session was started, resumed or reset; maxLifetimeSeconds counts from here."
    )
    handled_requests: HandledRequests | None = Field(
        default=None, description="The value of each request annotation that was handled last."
    )
    install: Install | None = Field(default=None, description="The result of the last install.")
    environment: EnvironmentInUse | None = Field(
        default=None,
        description="The content that the session got last; changes by others than the environment's owner wait for a request.",
    )
    packages: Packages | None = Field(default=None, description="Where the list of installed packages is.")
    edits: Edits | None = Field(default=None, description="The changes in the flow folder, as last observed, and where they are saved.")
    memory_kill: MemoryKill | None = Field(default=None, description="The last kill of a process for memory.")
    restarts: int | None = Field(default=None, description="How many times the pod was lost and started again.")
    restarts_in_a_row: int | None = Field(
        default=None,
        description="Restarts since the session was last ready for 10 minutes; each doubles the pause before the next start.",
    )
    cost: Cost | None = Field(default=None, description="What it costs; absent: no price is known.")
    conditions: Conditions | None = None
