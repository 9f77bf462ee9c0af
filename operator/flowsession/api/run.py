"""FlowRun: an environment's flow over a file of data, once, in a session of its user."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from flowsession.api.base import IMMUTABLE, Conditions, Model, ObjectName, Timestamp, rule, validations
from flowsession.api.session import EnvironmentRef

_PART = r"([^/.][^/]*|\.[^/.][^/]*|\.\.[^/]+)"


class RunPhase(StrEnum):
    """The state in one word, for people; programs read the conditions."""

    QUEUED = "Queued"
    PREPARING = "Preparing"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELED = "Canceled"


FINAL = frozenset({RunPhase.COMPLETED.value, RunPhase.FAILED.value, RunPhase.CANCELED.value})
"""Phases of a run in which nothing changes any more."""


class RunData(Model):
    """Where the data lies."""

    path: str = Field(
        min_length=1,
        max_length=1024,
        pattern=rf"^{_PART}(/{_PART})*$",
        description="A file of the flow folder, relative to it: .jsonl, .csv or .tsv, as prompt flow reads them.",
    )


class SessionRef(Model):
    """A session of the same namespace."""

    name: ObjectName = Field(description="Name of the ComputeSession.")


class FlowRunSpec(Model):
    """Whose run it is, and what is run over which data."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule("has(self.sessionRef) == has(oldSelf.sessionRef)", "sessionRef is immutable: create another run for another session"),
            rule("has(self.columnMapping) == has(oldSelf.columnMapping)", "columnMapping is immutable: create another run for another one"),
        )
    )

    user: str = Field(
        min_length=1,
        max_length=320,
        description="The person whose run this is, such as alice@example.com; it runs in a session of theirs. Immutable.",
        json_schema_extra=validations(rule(IMMUTABLE, "user is immutable: a run belongs to one person")),
    )
    environment_ref: EnvironmentRef = Field(
        description="The environment whose flow is run. Immutable.",
        json_schema_extra=validations(rule(IMMUTABLE, "environmentRef is immutable: create another run for another environment")),
    )
    session_ref: SessionRef | None = Field(
        default=None,
        description="The session to run in, one of the same user and environment. Absent: the user's Ready session of the environment."
        " Immutable.",
        json_schema_extra=validations(rule(IMMUTABLE, "sessionRef is immutable: create another run for another session")),
    )
    data: RunData = Field(
        description="The data, one line for each run of the flow. Immutable.",
        json_schema_extra=validations(rule(IMMUTABLE, "data is immutable: create another run for other data")),
    )
    column_mapping: dict[str, Annotated[str, Field(max_length=4096)]] = Field(
        default_factory=dict,
        max_length=100,
        description='By input of the flow: where it comes from, such as "${data.question}", or a constant. Immutable.',
        json_schema_extra=validations(rule(IMMUTABLE, "columnMapping is immutable: create another run for another mapping")),
    )
    cancel: bool = Field(
        default=False,
        description="True: the run ends as Canceled. Lines that are done stay counted.",
        json_schema_extra=validations(rule("self || !oldSelf", "cancel can't be taken back: create another run")),
    )


class RunLines(Model):
    """What became of the lines of the data."""

    total: int = Field(description="How many there are; 0 until the data is read.")
    completed: int = Field(description="How many have outputs.")
    failed: int = Field(description="How many failed.")


class RunOutputs(Model):
    """Where the outputs are kept."""

    config_map_names: list[str] | None = Field(
        default=None,
        description="ConfigMaps with key outputs.tar.gz, which holds prompt flow's own files: flow_outputs/output.jsonl, inputs.jsonl,"
        " metrics.json, error.json, logs.txt.",
    )


class RunProblem(Model):
    """A line that failed, or an aggregation node."""

    line: int | None = Field(default=None, description="Number of the line in the data, from 0 as prompt flow counts.")
    node: str | None = Field(default=None, description="The node that failed.")
    message: str = Field(description="Prompt flow's words.")


class FlowRunStatus(Model):
    """The run's present state. Once phase is Completed, Failed or Canceled, nothing changes any more."""

    observed_generation: int | None = Field(default=None, description="metadata.generation that this status is about.")
    phase: RunPhase | None = Field(default=None, description="The state in one word.")
    session_name: str | None = Field(default=None, description="The session that it runs in.")
    pod_name: str | None = Field(default=None, description="That session's pod.")
    lines: RunLines | None = Field(default=None, description="Counts, written at most once in 10 seconds, and at the end.")
    progress: str | None = Field(default=None, description="The counts for people, such as 37/40, 2 failed.")
    metrics: dict[str, str] | None = Field(default=None, description="What aggregation nodes logged as metrics.")
    outputs: RunOutputs | None = Field(default=None, description="Where the outputs are kept.")
    errors: list[RunProblem] | None = Field(default=None, description="The first ten failures.")
    started_at: Timestamp | None = Field(default=None, description="When the session began with it.")
    completed_at: Timestamp | None = Field(default=None, description="When it was over.")
    duration: str | None = Field(default=None, description="From startedAt to completedAt, such as 12s.")
    conditions: Conditions | None = None
