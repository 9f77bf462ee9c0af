"""How this machine reaches the package index: its own pip and uv settings, CA bundle and proxy.

Used by image builds, and by the demo to configure how the operator has sessions install packages.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localcluster import files, paths

_PROXY = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_UV = ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_INSECURE_HOST")
_PIP = {
    "index-url": "PIP_INDEX_URL",
    "extra-index-url": "PIP_EXTRA_INDEX_URL",
    "trusted-host": "PIP_TRUSTED_HOST",
    "timeout": "PIP_DEFAULT_TIMEOUT",
}
"""Setting in pip's configuration files -> the environment variable that overrides it."""

_CA = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


@dataclass(frozen=True)
class Settings:
    """The machine's settings, none of which may stay in an image."""

    pip: Mapping[str, str]
    """pip's settings by their names in pip.conf, e.g. index-url."""

    uv: Mapping[str, str]
    """Environment variables of uv."""

    proxy: Mapping[str, str]
    """The usual proxy variables, e.g. HTTPS_PROXY."""

    ca_bundle: Path | None
    """A file with the certificates to trust."""

    def environment(self, *, ca_bundle: str | None = None) -> dict[str, str]:
        """Return all settings as environment variables, for a place with the CA bundle at `ca_bundle` (default: its path here)."""
        bundle = ca_bundle or (str(self.ca_bundle) if self.ca_bundle else "")
        certificates = dict.fromkeys(_CA, bundle) if bundle else {}
        return {**{_PIP[name]: value for name, value in self.pip.items()}, **self.uv, **self.proxy, **certificates}

    def pip_conf(self) -> str:
        """Return a pip.conf with the settings in `pip`."""
        lines = (f"{name} = {value}" for name, value in sorted(self.pip.items()))
        return "\n".join(["[global]", *lines, ""])


def read() -> Settings:
    """Read the settings from the environment, and missing ones from pip's own configuration."""
    configured = _pip_configuration()
    pip = {name: os.environ.get(variable) or configured.get(name, "") for name, variable in _PIP.items()}
    named = next((os.environ[name] for name in _CA if os.environ.get(name)), configured.get("cert", ""))
    return Settings(
        pip={name: value for name, value in pip.items() if value},
        uv={name: os.environ[name] for name in _UV if os.environ.get(name)},
        proxy={name: os.environ[name] for name in _PROXY if os.environ.get(name)},
        ca_bundle=Path(named) if named and Path(named).is_file() else None,
    )


def build_secrets(settings: Settings, folder: Path) -> dict[str, Path]:
    """Return the files for `--secret id=NAME,src=FILE`: pip.conf, and ca.pem if the machine has its own CA bundle."""
    files.write(folder / "pip.conf", settings.pip_conf(), mode=0o600)
    secrets = {"pip.conf": folder / "pip.conf"}
    if settings.ca_bundle:
        secrets["ca.pem"] = settings.ca_bundle
    return secrets


def _pip_configuration() -> dict[str, str]:
    """Return the global settings in pip's configuration files, or {} without a pip (this Python's, the machine's or the project's)."""
    for pip in ([sys.executable, "-m", "pip"], ["pip"], [str(paths.CHECKOUT / ".venv" / "bin" / "pip")]):
        try:
            result = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            continue
        if result.returncode == 0:
            return parse_pip_config_list(result.stdout)
    return {}


def parse_pip_config_list(output: str) -> dict[str, str]:
    """Return `global.name='value'` lines as {name: value}. Several values of a setting are separated by spaces, as in a variable."""
    pairs = (line.partition("=") for line in output.splitlines() if line.startswith("global."))
    return {name.removeprefix("global."): " ".join(value.strip().strip("'\"").replace("\\n", " ").split()) for name, _, value in pairs}
