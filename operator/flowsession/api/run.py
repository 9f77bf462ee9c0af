"""FlowRun: an environment's flow over a file of data, once, in a session of its user."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from flowsession.api.base import IMMUTABLE, Conditions, Model, ObjectName, Timestamp, immutable, rule, validations
from flowsession.api.identity import Identity
from flowsession.api.session import EnvironmentRef

_PART = r"([^/.][^/]*|\.[^/.][^/]*|\.\.[^/]+)"
_Path = Annotated[str, Field(min_length=1, max_length=1024, pattern=rf"^{_PART}(/{_PART})*$")]
"""Path of a file inside some folder, relative to it."""


class RunPhase(StrEnum):
    """The state in one word, for people; programs read the conditions."""

    QUEUED = "Queued"
    PREPARING = "Preparing"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELED = "Canceled"


FINAL = frozenset({RunPhase.COMPLETED.value, RunPhase.FAILED.value, RunPhase.CANCELED.value})
"""Phases of a run in which nothing changes anymore."""


class ConfigMapData(Model):
    """A key of a ConfigMap of the same namespace."""

    name: ObjectName = Field(description="Name of the ConfigMap; whoever creates the run must be allowed to get it.")
    key: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[-._a-zA-Z0-9]+$",
        description="Key with the data; it ends with .jsonl, .csv or .tsv, as prompt flow tells formats apart.",
    )


class ClaimFile(Model):
    """A file of a PersistentVolumeClaim."""

    claim_name: ObjectName = Field(description="Name of the PersistentVolumeClaim; the run's session mounts it.")
    path: _Path = Field(description="The file, relative to the claim's root: .jsonl, .csv or .tsv, as prompt flow reads them.")


class ClaimFolder(Model):
    """A folder of a PersistentVolumeClaim."""

    claim_name: ObjectName = Field(description="Name of the PersistentVolumeClaim; the run's session mounts it.")
    path: str = Field(
        default="",
        max_length=1024,
        pattern=rf"^({_PART}(/{_PART})*)?$",
        description="The folder, relative to the claim's root, in which the run gets one of its own. Empty: the root.",
    )


class RunOutputsTarget(Model):
    """Where outputs shall be kept."""

    persistent_volume_claim: ClaimFolder | None = Field(
        default=None,
        description="Prompt flow's folder of the run is written there, line by line, of any size; a run whose pod is lost goes on from it.",
    )


class RunData(Model):
    """Where the data lies."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule(
                "[has(self.path), has(self.configMap), has(self.persistentVolumeClaim)].filter(one, one).size() == 1",
                "data is one of path, configMap and persistentVolumeClaim",
            )
        )
    )

    path: _Path | None = Field(
        default=None,
        description="A file of the flow folder, relative to it: .jsonl, .csv or .tsv, as prompt flow reads them.",
    )
    config_map: ConfigMapData | None = Field(default=None, description="A file that a ConfigMap holds.")
    persistent_volume_claim: ClaimFile | None = Field(default=None, description="A file of a PersistentVolumeClaim.")


class SessionRef(Model):
    """A session of the same namespace."""

    name: ObjectName = Field(description="Name of the ComputeSession.")


class LineSettings(Model):
    """How the lines are run."""

    concurrency: int | None = Field(
        default=None, ge=1, le=1000, description="How many lines are run at a time. Absent: as many as the session has processors."
    )
    timeout_seconds: int | None = Field(
        default=None, ge=1, le=86400, description="Seconds after which a line fails. Absent: prompt flow's own 600."
    )


class RunResources(Model):
    """What the run's session runs on, in the terms of prompt flow's run.yml."""

    instance_type: str = Field(
        default="",
        max_length=63,
        pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_]*[A-Za-z0-9])?)?$",
        description="Azure's name of a VM size, such as Standard_D4s_v5; kubectl get vmsize lists them. Empty or automatic: any.",
    )
    compute: ObjectName | None = Field(default=None, description="A ComputeInstance of the same user. Absent: none.")


_FIXED = (
    "sessionRef", "data", "run", "columnMapping", "variant", "environmentVariables",
    "connections", "init", "lines", "resources", "identity", "resumeFrom", "runYaml", "path", "outputs",
)  # fmt: skip
_Text = Annotated[str, Field(max_length=4096)]


class FlowRunSpec(Model):
    """Whose run it is, and what is run over which data."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            *(immutable(name, f"{name} is immutable: create another run") for name in _FIXED),
            rule(
                "!has(self.resources) || !has(self.resources.compute) || !has(self.resources.instanceType)"
                " || self.resources.instanceType == ''",
                "resources.compute is an instance with a size of its own: leave instanceType out",
            ),
            rule(
                "has(self.data) || has(self.run) || has(self.resumeFrom) || has(self.runYaml)",
                "a run needs data, or an earlier run for its outputs: set data, run, or both",
            ),
            rule("!has(self.path) || has(self.runYaml)", "path says where runYaml lies in the source: set runYaml too, or data.path"),
            rule(
                "!has(self.resumeFrom) || !(has(self.data) || has(self.run) || has(self.runYaml) || has(self.columnMapping)"
                " || has(self.variant) || has(self.environmentVariables) || has(self.connections) || has(self.init))",
                "resumeFrom goes on with the settings of that run: leave out data, run, runYaml, columnMapping, variant,"
                " environmentVariables, connections and init",
            ),
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
    run_yaml: str | None = Field(
        default=None,
        max_length=16384,
        description="Prompt flow's run.yml as it is, instead of the fields below; those that are set win over it. Fields that prompt flow"
        " doesn't know are told in status.warnings. Immutable.",
    )
    path: _Path | None = Field(
        default=None,
        description="Where in the source runYaml lies, such as runs/nightly.yml: its relative paths begin there. Absent: they begin where"
        " its field flow finds the flow folder. Immutable.",
    )
    session_ref: SessionRef | None = Field(
        default=None,
        description="The session to run in, one of the same user; resources and identity are ignored then. It may be one of another"
        " environment, if it has the image, packages and connections that environmentRef asks for: nothing is installed there. Absent: the"
        " user's session of the environment that is as resources and identity say, else one that is made for the run. Immutable.",
    )
    resources: RunResources | None = Field(default=None, description="What the run's session shall run on. Absent: anything. Immutable.")
    identity: Identity | None = Field(default=None, description="As whom the run's session shall act. Absent: as anybody. Immutable.")
    data: RunData | None = Field(
        default=None, description="The data, one line for each run of the flow. Absent: the outputs of the earlier run alone. Immutable."
    )
    run: ObjectName | None = Field(
        default=None,
        description='An earlier FlowRun of the same user. columnMapping names its outputs and data as "${run.outputs.answer}" and'
        ' "${run.inputs.question}"; lines that failed there are left out. Its session may be gone. Immutable.',
    )
    resume_from: ObjectName | None = Field(
        default=None,
        description="An earlier FlowRun of the same user and environment, with failed lines or ended early: lines with outputs there are"
        " not run again, all others are, over the same data and with the same settings. Immutable.",
    )
    column_mapping: dict[str, Any] = Field(
        default_factory=dict,
        max_length=100,
        description='By input of the flow: where it comes from, such as "${data.question}", or a constant of any kind. Immutable.',
    )
    variant: str | None = Field(
        default=None,
        max_length=200,
        pattern=r"^\$\{[^.{}]+\.[^.{}]+\}$",
        description='A node\'s variant to run, such as "${answer.variant_1}". Absent: the default ones. Immutable.',
    )
    environment_variables: dict[str, _Text] = Field(
        default_factory=dict,
        max_length=100,
        description='Environment variables for the flow, over its own; "${my_connection.api_key}" is a connection\'s field. Immutable.',
    )
    connections: dict[str, Annotated[dict[str, _Text], Field(max_length=20)]] = Field(
        default_factory=dict,
        max_length=100,
        description='By node: what is put in place of its connection and inputs of the connection, such as {"connection": "other",'
        ' "deployment_name": "gpt-4o"}. Immutable.',
    )
    init: dict[str, Any] = Field(default_factory=dict, max_length=100, description="Arguments for the class of a flex flow. Immutable.")
    lines: LineSettings | None = Field(default=None, description="How the lines are run. Immutable.")
    outputs: RunOutputsTarget | None = Field(
        default=None, description="Where outputs are kept. Absent: in a ConfigMap, up to 1,000,000 bytes packed. Immutable."
    )
    timeout_seconds: int | None = Field(
        default=None,
        ge=1,
        le=2592000,
        description="Seconds after its begin at which the run is ended as TimedOut; lines that are done keep their outputs. Absent: never.",
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        le=31536000,
        description="Seconds after its end at which the run is deleted, its outputs included. Absent: never.",
    )
    display_name: str | None = Field(default=None, max_length=200, description="The run's name for people.")
    description: str | None = Field(default=None, max_length=4096, description="What the run is for.")
    tags: dict[str, Annotated[str, Field(max_length=1024)]] = Field(
        default_factory=dict, max_length=50, description="Words about the run, by name."
    )
    cancel: bool = Field(
        default=False,
        description="True: the run ends as Canceled. Lines that are done stay counted, and their outputs are kept.",
        json_schema_extra=validations(rule("self || !oldSelf", "cancel can't be taken back: create another run")),
    )

    @property
    def builds_on(self) -> str | None:
        """Name of the earlier run that it needs."""
        return self.run or self.resume_from

    @property
    def outputs_claim(self) -> ClaimFolder | None:
        """The folder on a claim for its outputs."""
        return self.outputs.persistent_volume_claim if self.outputs else None


class RunLines(Model):
    """What became of the lines of the data."""

    total: int = Field(description="How many there are; 0 until the data is read.")
    completed: int = Field(description="How many have outputs.")
    failed: int = Field(description="How many failed.")


class RunTokens(Model):
    """What language models counted."""

    prompt: int | None = Field(default=None, description="Tokens of prompts.")
    completion: int | None = Field(default=None, description="Tokens of answers.")
    total: int | None = Field(default=None, description="All tokens.")


class RunOutputs(Model):
    """Where the outputs are kept."""

    persistent_volume_claim: ClaimFolder | None = Field(
        default=None, description="The folder with prompt flow's own files, with its records of each line."
    )
    config_map_names: list[str] | None = Field(
        default=None,
        description="ConfigMaps with key outputs.tar.gz, which holds prompt flow's own files: flow_outputs/output.jsonl, inputs.jsonl,"
        " metrics.json, error.json, logs.txt, and data.* where it fits in.",
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
    tokens: RunTokens | None = Field(default=None, description="Tokens that language models counted, of all lines together.")
    resumes: int | None = Field(
        default=None, description="How many times it went on in another container of its pod, without the lines that were done; 1 at most."
    )
    outputs: RunOutputs | None = Field(default=None, description="Where the outputs are kept.")
    warnings: list[str] | None = Field(
        default=None, description="What of the spec or of runYaml has no effect, such as a mapping of an input that the flow hasn't got."
    )
    errors: list[RunProblem] | None = Field(default=None, description="The first ten failures.")
    log_tail: str | None = Field(default=None, description="The end of prompt flow's log of the run, where it failed.")
    started_at: Timestamp | None = Field(default=None, description="When the session began with it.")
    completed_at: Timestamp | None = Field(default=None, description="When it was over.")
    duration: str | None = Field(default=None, description="From startedAt to completedAt, such as 12s.")
    conditions: Conditions | None = None
