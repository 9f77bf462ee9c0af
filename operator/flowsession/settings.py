"""The operator's settings, chosen by the platform team and read from one YAML file that the chart writes."""

from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from flowsession.api.environment import OTLP_ENDPOINT, InstallerTool


class _Settings(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


class AgentVia(StrEnum):
    """How the operator reaches agents: on the pod's address, or through the API server's pod proxy (from outside the cluster)."""

    DIRECT = "Direct"
    PROXY = "Proxy"


class InstallerDefaults(_Settings):
    """Installer settings for environments that don't set their own."""

    tool: InstallerTool = InstallerTool.AUTO
    timeout_seconds: int = Field(default=600, ge=1)
    index_url: str = Field(default="", alias="indexURL")
    extra_index_urls: tuple[str, ...] = Field(default=(), alias="extraIndexURLs")
    ca_bundle: str = ""
    environment: dict[str, str] = {}
    only_binary: bool = False
    identity_feed_hosts: tuple[str, ...] = ("pkgs.dev.azure.com", "*.pkgs.visualstudio.com")
    """Hosts for which a session's identity has a token; a leading `*.` matches every subdomain."""


class PackageCache(_Settings):
    """The cache that sessions install packages through; none if `url` is empty."""

    url: str = ""
    """http://HOST:PORT, reached from the sessions' pods."""
    indexes: tuple[str, ...] = ()
    """URLs of the package indexes that it caches."""


class TracingDefaults(_Settings):
    """Destination of the spans of tests and runs, for environments that name no endpoint."""

    otlp_endpoint: str = Field(default="", pattern=OTLP_ENDPOINT)
    headers_secret_name: str = ""
    """A Secret of this name in each session's namespace."""
    capture_message_content: bool = True


class PodMetadataRules(_Settings):
    """Which labels and annotations people may give to their sessions' pods; `*` stands for any characters."""

    labels: tuple[str, ...] = (
        "kueue.x-k8s.io/queue-name",
        "kueue.x-k8s.io/priority-class",
        "sidecar.istio.io/inject",
        "istio.io/rev",
        "istio.io/dataplane-mode",
    )
    annotations: tuple[str, ...] = (
        "sidecar.istio.io/inject",
        "sidecar.istio.io/proxyCPU*",
        "sidecar.istio.io/proxyMemory*",
        "linkerd.io/inject",
        "config.linkerd.io/proxy-cpu-*",
        "config.linkerd.io/proxy-memory-*",
        "cluster-autoscaler.kubernetes.io/safe-to-evict",
        "karpenter.sh/do-not-disrupt",
    )


class SessionDefaults(_Settings):
    """Defaults of a session's pod, unless its VMSize sets them. Quantities are written as in Kubernetes."""

    size_name: str = "default"
    requests: dict[str, str] = {"cpu": "100m", "memory": "512Mi"}
    limits: dict[str, str] = {"memory": "2Gi"}
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, Any], ...] = ()
    run_as_user: int = 1000
    termination_grace_period_seconds: int = Field(default=30, ge=0)
    ephemeral_storage_limit: str = "20Gi"
    """Limit on all that a session writes to its node's disk; empty: only the node's own."""
    unreachable_seconds: int = Field(default=3600, ge=60)
    edits_retention_days: int = Field(default=30, ge=1)
    pod_metadata: PodMetadataRules = PodMetadataRules()


class ResolverSettings(_Settings):
    """The short-lived pods that read sources such as git repositories."""

    requests: dict[str, str] = {"cpu": "50m", "memory": "64Mi"}
    limits: dict[str, str] = {"memory": "512Mi"}
    timeout_seconds: int = Field(default=300, ge=10)


class SizeSettings(_Settings):
    """Settings that apply to every VMSize."""

    autoscaler: bool = False
    """Whether the cluster adds nodes for pods that fit on none."""
    daemonset_requests: dict[str, str] = {"cpu": "300m", "memory": "500Mi"}
    """Resources that the cluster's DaemonSets request on every node, which sessions can't have."""
    max_pods_per_node: int = Field(default=250, ge=10, le=1000)
    """Determines AKS's memory reservation on nodes that don't exist yet."""


class ImageSettings(_Settings):
    """Which images may be used, and how their registries are asked for newer ones."""

    allowed_registries: tuple[str, ...] = ()
    """Patterns: a registry, or a registry and a path below it. Empty: any image, and only the default image's registry is asked."""
    check_every_seconds: int = Field(default=0, ge=0)
    """0: only on request."""
    insecure_registries: tuple[str, ...] = ()
    """HOST:PORT of registries that speak plain http."""
    ca_bundle: str = ""
    """CA certificates (PEM) to trust for registries, in addition to the well-known ones."""
    credentials_file: str = ""
    """Path of a docker config.json, as in Secrets of type kubernetes.io/dockerconfigjson; empty: anonymous."""


class Settings(_Settings):
    """All settings; the chart's values.yaml documents them for users."""

    runtime_image: str = "flowsession-runtime:latest"
    image_pull_policy: str = "IfNotPresent"
    agent_via: AgentVia = AgentVia.DIRECT
    edits_address: str = ""
    """HOST:PORT (UDP) to which agents announce unsaved edits; empty: they can't."""
    installer: InstallerDefaults = InstallerDefaults()
    package_cache: PackageCache = PackageCache()
    tracing: TracingDefaults = TracingDefaults()
    session: SessionDefaults = SessionDefaults()
    sizes: SizeSettings = SizeSettings()
    images: ImageSettings = ImageSettings()
    resolver: ResolverSettings = ResolverSettings()


def load(path: Path | None) -> Settings:
    """Return the settings in a file, or the defaults without one. Raises pydantic.ValidationError with the field, or OSError."""
    if path is None:
        return Settings()
    return Settings.model_validate(yaml.safe_load(path.read_text()) or {})
