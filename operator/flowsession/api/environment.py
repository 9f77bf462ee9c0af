"""FlowEnvironment: a flow folder, and the image and packages that it asks for."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from flowsession.api.base import IMAGE_RULE, Conditions, Model, ObjectName, Timestamp, immutable, rule, validations
from flowsession.api.size import Quantity
from flowsession.api.source import Source, SourceStatus, SourceWarning

OTLP_ENDPOINT = r"^(https?://[^\s/@?#]+(/[^\s@?#]*)?)?$"
"""Pattern of a base URL without credentials, query and fragment; an empty text means none."""


class InstallerTool(StrEnum):
    """Which program installs the requirements."""

    AUTO = "Auto"
    UV = "Uv"
    PIP = "Pip"


class Installer(Model):
    """How requirements are installed; absent fields come from the operator's settings."""

    tool: InstallerTool = Field(
        default=InstallerTool.AUTO,
        description="Auto: uv under pip's rules, and pip if uv refuses or is missing. Pip, Uv: only that one.",
    )
    timeout_seconds: int | None = Field(
        default=None, ge=1, le=86400, description="Time limit of one install, in seconds. Default: the operator's, 600."
    )
    index_url: str | None = Field(
        default=None,
        alias="indexURL",
        max_length=2048,
        description="Base URL of the package index, instead of the operator's or the installer's own. {private} in place of user and"
        " password, as in https://{private}@pkgs.dev.azure.com/ORG/_packaging/FEED/pypi/simple/, becomes a token on the way.",
    )
    extra_index_urls: list[Annotated[str, Field(max_length=2048)]] | None = Field(
        default=None,
        alias="extraIndexURLs",
        max_length=20,
        description="Further indexes, searched in addition to the first; {private} as in indexURL.",
    )
    credentials_secret_name: ObjectName | None = Field(
        default=None,
        description="Secret in this namespace, labelled flowsession.dev/feed=true, whose key token replaces {private}"
        " if the session's identity gives no token. Read at every install.",
    )
    ca_bundle_config_map_name: ObjectName | None = Field(
        default=None,
        description="ConfigMap in this namespace with key ca.crt: certificates (PEM) to trust besides the system's, for a private CA.",
    )
    only_binary: bool = Field(default=False, description="Refuse source distributions: nothing is compiled in the session.")


class ImageOrigin(StrEnum):
    """Who asked for an image."""

    DEFAULT = "Default"
    SPEC = "Spec"
    FLOW = "Flow"


class Connection(Model):
    """A connection of prompt flow, whose fields are in a Secret."""

    name: str = Field(
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9_]([A-Za-z0-9_. -]*[A-Za-z0-9_])?$",
        description="Name of the connection, as flows have it.",
    )
    secret_name: ObjectName = Field(
        description="Secret in this namespace with the connection's fields: prompt flow's own file under the key connection.yaml, or a key"
        " for each field, such as type, api_key, configs.X and secrets.X. Label it flowsession.dev/connection=true. The kubelet brings it"
        " to the sessions; the operator never reads it.",
    )


class Tracing(Model):
    """Where prompt flow's OpenTelemetry spans of tests and runs go."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule(
                "!has(self.headersSecretName) || (has(self.otlpEndpoint) && self.otlpEndpoint != '')",
                "headersSecretName is for the endpoint of otlpEndpoint: name that too",
            )
        )
    )

    otlp_endpoint: str | None = Field(
        default=None,
        max_length=2048,
        pattern=OTLP_ENDPOINT,
        description="Base URL of an OTLP/HTTP endpoint, such as http://otel-collector.observability:4318; spans go to /v1/traces below it,"
        ' as protobuf. Without user and password. Absent: the chart\'s, with its Secret. "": none, even if the chart has one.',
    )
    headers_secret_name: ObjectName | None = Field(
        default=None,
        description="Secret in this namespace whose keys are HTTP headers for that endpoint, such as authorization. The kubelet brings it"
        " to the sessions; the operator never reads it. A changed one is in use at the next request.",
    )
    capture_message_content: bool | None = Field(
        default=None,
        description="Whether spans have what the flow and its nodes were given and what they answered: inputs, outputs, prompts, messages"
        " of exceptions. Default: true. The chart's false holds for the chart's endpoint, whatever is here.",
    )


class MinimumCompute(Model):
    """The least that a session of the environment is guaranteed."""

    cpu: Quantity | None = Field(default=None, description='Processors, such as "2" or "500m".')
    memory: Quantity | None = Field(default=None, description="Memory, such as 8Gi.")


class FlowEnvironmentSpec(Model):
    """The flow folder and what it needs."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            immutable("owner", "owner is immutable: create another environment for another owner"),
        )
    )

    owner: str | None = Field(
        default=None,
        max_length=320,
        description="Who decides what is in the environment, such as alice@example.com; filled in from the requester where the cluster"
        " serves MutatingAdmissionPolicy. What anybody else changes reaches a session of another user only when that user asks for it."
        ' "": the platform\'s own, for those who administer environments. Immutable.',
    )
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
        json_schema_extra=validations(IMAGE_RULE),
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
    connections: list[Connection] | None = Field(
        default=None,
        max_length=16,
        description="Connections that tests, runs and terminals of the sessions find by name. A changed Secret is in use at the next call;"
        " another list is taken up by a reset.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    installer: Installer = Field(default_factory=Installer, description="How requirements are installed.")
    tracing: Tracing | None = Field(
        default=None,
        description="Where spans of tests and runs go; absent: to the chart's endpoint, if any. A change is taken up by a reset.",
    )


class FlowSummary(Model):
    """What the flow folder holds."""

    kind: str = Field(default="", description="dag, flex or prompty.")
    nodes: int | None = Field(default=None, description="Number of nodes of a dag flow.")
    includes: int | None = Field(default=None, description="Number of entries of additional_includes, merged into the flow folder.")


class EnvironmentRequests(Model):
    """The value of each request annotation that was handled last."""

    refresh: str | None = Field(default=None, description="Of flowsession.dev/refresh-requested-at.")
    check_version: str | None = Field(default=None, description="Of flowsession.dev/check-version-requested-at.")
    update: str | None = Field(default=None, description="Of flowsession.dev/update-requested-at.")
    unknown: str | None = Field(default=None, description="Names of unknown annotations flowsession.dev/..., as last reported.")


class FlowEnvironmentStatus(Model):
    """What the environment resolves to."""

    observed_generation: int | None = Field(default=None, description="metadata.generation that this status is about.")
    base_image: str | None = Field(default=None, description="The image that sessions start from.")
    base_image_from: ImageOrigin | None = Field(
        default=None,
        description="Who asked for it. Spec: spec.baseImage. Flow: flow.dag.yaml. Default: nobody, so it is the chart's default runtime"
        " image of that time; the environment stays on it until flowsession.dev/update-requested-at asks for the present one.",
    )
    image_digest: str | None = Field(
        default=None,
        description="The digest of that image, as a node reported it at the first run. NAME@sha256:...: later sessions start from"
        " exactly this, until flowsession.dev/update-requested-at. A bare sha256:... is the id of an image that the node did not pull.",
    )
    pull_anew: bool | None = Field(
        default=None,
        description="An update was requested, but the registry could not be asked for the digest: nodes pull the image by its tag, even"
        " if they have it, until one reports a digest.",
    )
    latest_image: str | None = Field(default=None, description="The newest known image; the present one if there is no newer one.")
    image_checked_at: Timestamp | None = Field(default=None, description="When the registry was last asked whether the image has moved.")
    requirements_file: str | None = Field(
        default=None, description="File of the flow folder that the requirements come from; empty: requirementsText."
    )
    requirements: int | None = Field(default=None, description="Number of requirement lines.")
    packages_revision: str | None = Field(
        default=None, description="Hash of image, requirements and installer settings; a change needs an install."
    )
    flow_revision: str | None = Field(default=None, description="Hash of the flow folder's files.")
    flow: FlowSummary | None = Field(default=None, description="What the flow folder holds.")
    warnings: list[SourceWarning] | None = Field(default=None, description="Problems that stop nothing.")
    source: SourceStatus | None = Field(
        default=None, description="The last reading of a source that a pod reads: git, a claim or an OCI artifact."
    )
    sessions: int | None = Field(default=None, description="Number of sessions of this environment.")
    handled_requests: EnvironmentRequests | None = Field(
        default=None, description="The value of each request annotation that was handled last."
    )
    conditions: Conditions | None = None
