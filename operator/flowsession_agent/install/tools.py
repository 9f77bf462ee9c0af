"""The command lines of uv and pip, and the environment that both run in."""

from __future__ import annotations

import configparser
import os
import re

from flowsession_protocol.variables import PUBLIC_KEYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping, Sequence

    from flowsession_agent.install.base import Base
    from flowsession_agent.install.requirement_lines import Line
    from flowsession_agent.install.venvs import Layer
    from flowsession_agent.server.order import InstallerSettings
    from flowsession_agent.settings import Home

CA_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")
# Variables that would send packages elsewhere than into the layer, or bring foreign code into the tools.
DROPPED = (
    *(PUBLIC_KEYS, "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV", "CONDA_PREFIX", "XDG_CACHE_HOME"),
    *("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PIP_DRY_RUN", "PIP_REQUIREMENT", "PIP_LOG"),
    *("UV_TARGET", "UV_PREFIX", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_PROJECT_ENVIRONMENT", "UV_CONFIG_FILE", "UV_OVERRIDE", "UV_LOG"),
)
# uv doesn't read pip's settings, but must follow them here.
SAME_FOR_UV = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_TRUSTED_HOST": "UV_INSECURE_HOST",
    "PIP_CONSTRAINT": "UV_CONSTRAINT",
    "PIP_CERT": "SSL_CERT_FILE",
}
ONLY_FOR_PIP = ("PIP_NO_INDEX", "PIP_PRE", "PIP_NO_BINARY", "PIP_ONLY_BINARY", "PIP_NO_DEPS", "PIP_REQUIRE_HASHES", "PIP_PREFER_BINARY")
RULES_OF_PIP = ("--index-strategy", "unsafe-best-match")  # uv's default rule for pre-releases is the closest to pip's
PLANNED = re.compile(r"^ [+~] ([^\s=]+)(?:==(\S+))?(?: @ (\S+)| \(from ([^\s)]+)\))?$", re.MULTILINE)
CARRIED = frozenset(
    ("--index-url", "--extra-index-url", "--find-links", "--trusted-host", "--no-index", "--no-binary", "--only-binary", "--pre")
)


def environ(inherited: Mapping[str, str], *, home: Home, settings: InstallerSettings, image_config: Mapping[str, str]) -> dict[str, str]:
    """Return the tools' environment. It has the index URLs because every process of the pod can read command lines."""
    found = {**image_config, **inherited, **settings.environment}
    if settings.index_url:
        found["PIP_INDEX_URL"] = found["UV_DEFAULT_INDEX"] = settings.index_url
        found.pop("UV_INDEX_URL", None)
    if settings.extra_index_urls:
        found["PIP_EXTRA_INDEX_URL"] = found["UV_INDEX"] = " ".join(settings.extra_index_urls)
    if settings.ca_bundle:
        from flowsession_agent.install import certificates

        bundle = os.path.join(home.tmp, "ca-bundle.pem")
        with open(bundle, "w", encoding="utf-8") as file:
            file.write(certificates.bundle(settings.ca_bundle))
        found.update(dict.fromkeys(CA_VARIABLES, bundle))
    for pip, uv in SAME_FOR_UV.items():
        if pip in found:
            value = found[pip]
            found.setdefault(uv, ",".join(value.split()) if uv == "UV_FIND_LINKS" else value)
    found.update(
        {
            "HOME": home.home,
            "TMPDIR": home.tmp,
            "PIP_CACHE_DIR": os.path.join(home.cache, "pip"),
            "UV_CACHE_DIR": os.path.join(home.cache, "uv"),
        }
    )
    found.update({"PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_PROGRESS_BAR": "off", "PIP_NO_COLOR": "1"})
    found.update(
        {
            "UV_NO_PROGRESS": "1",
            "UV_NO_CONFIG": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_WRAP": "1",
            "NO_COLOR": "1",
            "LC_ALL": "C.UTF-8",
        }
    )
    return {name: value for name, value in found.items() if name not in DROPPED}


def image_config(base: Base) -> dict[str, str]:
    """Return the settings in the image's pip.conf, as the equivalent variables."""
    found: dict[str, str] = {}
    for path in ("/etc/pip.conf", os.path.join(os.path.dirname(base.scripts), "pip.conf"), os.environ.get("PIP_CONFIG_FILE", os.devnull)):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip reports it itself
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update({f"PIP_{key.upper().replace('-', '_')}": " ".join(value.split()) for key, value in parser.items(section)})
    return found


def needs_pip(lines: list[Line], environment: Mapping[str, str]) -> bool:
    """Return whether only pip supports the request: editable installs, local paths, and settings that uv lacks."""
    if any(name in environment for name in ONLY_FOR_PIP):
        return True
    hashed = any(line.hashes for line in lines)
    return any(
        line.values("--editable") or line.text.startswith((".", "/", "file:")) or (hashed and line.body and not line.name) for line in lines
    )


def uv_plan(uv: str, base_python: str, *, file: str, constraints: Sequence[str], lines: list[Line], only_binary: bool) -> list[str]:
    """Return the command that lists what uv would install over the image. One hash in the file makes hashes mandatory, as with pip."""
    command = [uv, "pip", "install", "--dry-run", "--python", base_python, "--break-system-packages", *RULES_OF_PIP, "-r", file]
    command += [word for file in constraints for word in ("-c", file)]
    command += ["--require-hashes"] if any(line.hashes for line in lines) else []
    return command + (["--only-binary", ":all:"] if only_binary else [])


def planned(output: str, lines: list[Line]) -> list[str]:
    """Return the requirements that uv's dry run listed, each exactly pinned, with the hashes that the file allows for it."""
    from flowsession_protocol.requirements import normalise

    hashes = {line.name: line.hashes for line in lines if line.hashes}
    return [
        f"{name} @ {url or source}"
        if url or source
        else " ".join([f"{name}=={version}", *(f"--hash={value}" for value in hashes.get(normalise(name), []))])
        for name, version, url, source in PLANNED.findall(output)
    ]


def hints_at_prereleases(text: str) -> bool:
    """Return whether uv hints that pre-releases might fit. pip may accept them where uv doesn't."""
    return any("pre-release" in line or "prerelease" in line for line in text.lower().splitlines() if "hint: " in line)


def carried_options(lines: list[Line], *, folder: str) -> list[str]:
    """Return the file's options about where packages come from, for the plan's file. Relative paths become absolute."""
    found = [option for line in lines if not line.body for option in line.options if option[0] in CARRIED]
    local = {value: os.path.join(folder, value) for _, value in found if value and os.path.exists(os.path.join(folder, value))}
    return [f"{name} {local.get(value, value)}".strip() for name, value in found]


def uv_install(uv: str, layer: Layer, *, plan: str, only_binary: bool, hashed: bool) -> list[str]:
    """Return the command that installs exactly the plan into the layer."""
    command = [
        uv,
        "pip",
        "install",
        "--no-deps",
        "--python",
        layer.python,
        "--index-strategy",
        "unsafe-best-match",
        "--prerelease",
        "allow",
    ]
    command += ["-r", plan] + (["--require-hashes"] if hashed else [])
    return command + (["--only-binary", ":all:"] if only_binary else [])


def pip_install(layer: Layer, *, file: str, constraints: Sequence[str], only_binary: bool) -> list[str]:
    """Return the command by which the image's pip installs into the layer.

    Bytecode is left to the first import: compiling everything takes two thirds of pip's time.
    """
    command = [layer.python, "-I", "-m", "pip", "install", "--no-compile", "--no-warn-script-location", "-r", file]
    command += [word for file in constraints for word in ("-c", file)]
    return command + (["--only-binary", ":all:"] if only_binary else [])
