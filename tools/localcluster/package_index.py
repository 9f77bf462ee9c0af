"""How this machine reaches the package index: its own pip and uv settings, CA bundle and proxy.

Image builds use them, and so does the demo when it tells the operator how sessions should install packages.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PASSED_ON = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_INSECURE_HOST",
    "UV_NATIVE_TLS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
_CA_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_PIP_SETTINGS = {"index-url": "PIP_INDEX_URL", "extra-index-url": "PIP_EXTRA_INDEX_URL", "trusted-host": "PIP_TRUSTED_HOST"}


@dataclass(frozen=True)
class Settings:
    """`variables` are environment variables without the CA ones; `ca_bundle` is a file of certificates to trust."""

    variables: Mapping[str, str]
    ca_bundle: Path | None

    def environment(self) -> dict[str, str]:
        """All of it as environment variables for a place that has the CA bundle under the same path."""
        bundle = {name: str(self.ca_bundle) for name in _CA_VARIABLES} if self.ca_bundle else {}
        return {**self.variables, **bundle}

    def mounts(self) -> list[Path]:
        """Files that must be there for `environment` to be true."""
        return [self.ca_bundle] if self.ca_bundle else []


def read() -> Settings:
    """From the environment, and where it is silent from pip's configuration files."""
    configured = _pip_configuration()
    variables = {variable: configured[setting] for setting, variable in _PIP_SETTINGS.items() if setting in configured}
    variables |= {name: os.environ[name] for name in _PASSED_ON if os.environ.get(name)}
    named = next((os.environ[name] for name in _CA_VARIABLES if os.environ.get(name)), configured.get("cert", ""))
    bundle = Path(named) if named and Path(named).is_file() else None
    return Settings(variables=variables, ca_bundle=bundle)


def containers_conf(settings: Settings) -> str:
    """A containers.conf whose variables reach every RUN step but, unlike `buildah build --env`, not the image."""
    return f"[containers]\nenv = {json.dumps([f'{name}={value}' for name, value in settings.environment().items()])}\n"


def _pip_configuration() -> dict[str, str]:
    """`pip config list` of the system's pip as {setting: value}, global settings only; {} without a pip."""
    try:
        result = subprocess.run(["pip", "config", "list"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return {}
    pairs = (line.partition("=") for line in result.stdout.splitlines() if line.startswith("global."))
    return {name.removeprefix("global."): value.strip().strip("'\"").replace("\\n", " ").strip() for name, _, value in pairs}
