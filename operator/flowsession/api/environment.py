"""FlowEnvironment: a flow folder, and the image and packages that it asks for."""

from enum import StrEnum

from pydantic import Field

from flowsession.api.base import Conditions, Model, ObjectName, rule, validations
from flowsession.api.size import Quantity
from flowsession.api.source import Source, SourceStatus, SourceWarning


class InstallerTool(StrEnum):
    """Which program installs the requirements."""

    AUTO = "Auto"
    UV = "Uv"
    PIP = "Pip"


class Installer(Model):
    """How requirements are installed; what is absent comes from the operator's settings."""

    tool: InstallerTool = Field(
        default=InstallerTool.AUTO,
        description="Auto: uv under pip's rules, and pip where uv refuses or is absent. Pip, Uv: only that one.",
    )
    timeout_seconds: int | None = Field(
        default=None, ge=1, le=86400, description="Time limit of one install, in seconds. Default: the operator's, 600."
    )
    index_url: str | None = Field(
        default=None,
        alias="indexURL",
        max_length=2048,
        description="Base URL of the package index, instead of the operator's or the installer's own.",
    )
    extra_index_urls: list[str] | None = Field(
        default=None, alias="extraIndexURLs", max_length=20, description="Further indexes, searched beside the first."
    )
    ca_bundle_config_map_name: ObjectName | None = Field(
        default=None, description="ConfigMap in this namespace with key ca.crt: certificates (PEM) that the index may be signed by."
    )
    only_binary: bool = Field(default=False, description="Refuse source distributions: nothing is compiled in the session.")


class MinimumCompute(Model):
    """What a session of the environment must be guaranteed at least."""

    cpu: Quantity | None = Field(default=None, description='Processors, such as "2" or "500m".')
    memory: Quantity | None = Field(default=None, description="Memory, such as 8Gi.")


class FlowEnvironmentSpec(Model):
    """The flow folder and what it needs."""

    source: Source | None = Field(
        default=None, description="Where the flow folder comes from; absent: no flow folder, only image and requirements."
    )
    flow_path: str = Field(
        default=".",
        max_length=1024,
        description="The flow folder inside the source. additional_includes may reach outside of it, never outside of the source.",
        json_schema_extra=validations(
            rule("!self.startsWith('/') && !('..' in self.split('/'))", "flowPath must be relative and must not contain '..'")
        ),
    )
    base_image: str = Field(
        default="",
        max_length=1024,
        description="Image of the session's pod; overrides environment.image of flow.dag.yaml. Empty in both: the default runtime image.",
    )
    requirements_text: str | None = Field(
        default=None,
        max_length=262144,
        description="The requirements, in the format of requirements.txt. Absent: the file that flow.dag.yaml names,"
        " or requirements.txt. Empty: none.",
    )
    minimum_compute: MinimumCompute | None = Field(
        default=None,
        description="What a session must be guaranteed: when it names no VM size, one is chosen whose share is at least this.",
    )
    installer: Installer = Field(default_factory=Installer, description="How requirements are installed.")


class FlowSummary(Model):
    """What the flow folder holds."""

    kind: str = Field(default="", description="dag, flex or prompty.")
    nodes: int | None = Field(default=None, description="Number of nodes of a dag flow.")
    includes: int | None = Field(default=None, description="Number of entries of additional_includes, merged into the flow folder.")


class HandledRequests(Model):
    """Values of request annotations that were handled."""

    refresh: str | None = Field(default=None, description="Of flowsession.dev/refresh-requested-at.")


class FlowEnvironmentStatus(Model):
    """What the environment was resolved to."""

    observed_generation: int | None = Field(default=None, description="metadata.generation that this status speaks of.")
    base_image: str | None = Field(default=None, description="The image that sessions start from.")
    requirements_file: str | None = Field(
        default=None, description="File of the flow folder that the requirements come from; empty: requirementsText."
    )
    requirements: int | None = Field(default=None, description="Number of requirement lines.")
    packages_revision: str | None = Field(
        default=None, description="Hash of image, requirements and installer settings: another one needs an install."
    )
    flow_revision: str | None = Field(default=None, description="Hash of the flow folder's files.")
    flow: FlowSummary | None = Field(default=None, description="What the flow folder holds.")
    warnings: list[SourceWarning] | None = Field(default=None, description="What is odd but stops nothing.")
    source: SourceStatus | None = Field(default=None, description="What was last read of a source that a pod of its own reads (git).")
    sessions: int | None = Field(default=None, description="Number of sessions of this environment.")
    handled_requests: HandledRequests | None = Field(
        default=None, description="The request annotations that were handled last, by their values."
    )
    conditions: Conditions | None = None
