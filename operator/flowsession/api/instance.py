"""ComputeInstance: one person's own machine, reserved for as long as it runs, whose sessions share it."""

from enum import StrEnum

from pydantic import Field

from flowsession.api.base import IMMUTABLE, Conditions, Model, Timestamp, rule, validations
from flowsession.api.compute import Cost
from flowsession.api.identity import Identity, IdentityInUse


class InstancePhase(StrEnum):
    """The state in one word, for people; programs read the conditions."""

    PENDING = "Pending"
    STARTING = "Starting"
    RUNNING = "Running"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    FAILED = "Failed"


class InstanceIdleAction(StrEnum):
    """What happens to an unused instance."""

    STOP = "Stop"
    NONE = "None"


class StoppedBy(StrEnum):
    """Who or what stopped the instance."""

    USER = "User"
    IDLE = "Idle"


class InstanceIdle(Model):
    """When an unused instance stops."""

    action: InstanceIdleAction = Field(
        default=InstanceIdleAction.STOP,
        description="Stop: the reservation is released after timeoutSeconds in which no session on it was in use; instance and sessions"
        " stay, and start again by request. None: it runs until it is stopped.",
    )
    timeout_seconds: int = Field(
        default=3600, ge=5, le=31536000, description="Seconds without work in any session on the instance, or without a session."
    )


class ComputeInstanceSpec(Model):
    """Whose machine, of which size, and whether it runs."""

    user: str = Field(
        min_length=1,
        max_length=320,
        description="The person whose instance this is, such as alice@example.com; nobody else's sessions run on it. Immutable.",
        json_schema_extra=validations(rule(IMMUTABLE, "user is immutable: an instance belongs to one person")),
    )
    vm_size: str = Field(
        min_length=1,
        max_length=63,
        pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_]*[A-Za-z0-9])?$",
        description="Azure's name of a VM size, such as Standard_D2s_v5, or the name of the VMSize object; kubectl get vmsize lists them."
        " All of a node of that size is reserved. Immutable.",
        json_schema_extra=validations(rule(IMMUTABLE, "vmSize is immutable: create another instance for another size")),
    )
    running: bool = Field(
        default=True, description="False: stopped; the reservation is released, and the sessions on it wait. True again: it starts."
    )
    idle: InstanceIdle = Field(default_factory=InstanceIdle, description="When an unused instance stops.")
    identity: Identity = Field(
        default_factory=Identity, description="As whom the sessions on it act. A change restarts them with the new identity."
    )


class Stopped(Model):
    """Why the instance does not run."""

    by: StoppedBy = Field(description="User: spec.running is false. Idle: nobody used it.")
    at: Timestamp = Field(description="Since when.")


class HandledInstanceRequests(Model):
    """The value of each request annotation that was handled last."""

    resume: str | None = Field(default=None, description="Of flowsession.dev/resume-requested-at.")
    unknown: str | None = Field(default=None, description="Names of unknown annotations flowsession.dev/..., as last reported.")


class ComputeInstanceStatus(Model):
    """The instance's present state."""

    observed_generation: int | None = Field(default=None, description="metadata.generation that this status is about.")
    phase: InstancePhase | None = Field(default=None, description="The state in one word.")
    node_name: str | None = Field(default=None, description="The reserved node.")
    pod_name: str | None = Field(default=None, description="The pod that holds the reservation.")
    identity: IdentityInUse | None = Field(default=None, description="As whom that pod pulls its image; absent: without credentials.")
    incarnation: int | None = Field(default=None, description="How many times such a pod was created, from 1.")
    started_at: Timestamp | None = Field(
        default=None, description="When it was started last, or will be after a back-off; idleness counts from here at the earliest."
    )
    ready_at: Timestamp | None = Field(default=None, description="When the present reservation was made.")
    restarts: int | None = Field(default=None, description="How many times the reservation was lost and replaced.")
    restarts_in_a_row: int | None = Field(
        default=None, description="Restarts since a reservation last held for 10 minutes; each doubles the next pause."
    )
    sessions: int | None = Field(default=None, description="Number of the user's sessions that name this instance.")
    last_activity_at: Timestamp | None = Field(default=None, description="When work was last seen in a session on it, as last observed.")
    stopped: Stopped | None = Field(default=None, description="Why it does not run; absent: it runs or shall run.")
    cost: Cost | None = Field(default=None, description="What it costs.")
    handled_requests: HandledInstanceRequests | None = Field(
        default=None, description="The value of each request annotation that was handled last."
    )
    conditions: Conditions | None = None
