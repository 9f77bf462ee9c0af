"""The operator's own credentials for registries: a docker config.json that the platform team mounts into its pod."""

import base64
import json
import logging
from pathlib import Path
from typing import Any

from flowsession.images.reference import DOCKER_HUB

log = logging.getLogger(__name__)

LARGEST = 1024 * 1024


def read(file: str, registry: str) -> str:
    """Return the Authorization header for a registry; empty without a file or an entry. Read each time, so a new Secret takes effect."""
    if not file:
        return ""
    try:
        with Path(file).open("rb") as opened:
            document = json.loads(opened.read(LARGEST))
        entries: dict[str, Any] = document["auths"]
        entry = next((entry for key, entry in entries.items() if _host(key) == registry), None)
        return f"Basic {_encoded(entry)}" if entry else ""
    except (OSError, ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
        # Not the error's text, which may quote the file.
        log.error("the registries' credentials can't be read; asking without them", extra={"file": file, "error": type(error).__name__})
        return ""


def _encoded(entry: dict[str, str]) -> str:
    if entry.get("auth"):
        return base64.b64encode(base64.b64decode(entry["auth"], validate=True)).decode()
    return base64.b64encode(f"{entry['username']}:{entry['password']}".encode()).decode()


def _host(key: str) -> str:
    host = key.partition("://")[2] or key
    host = host.partition("/")[0].lower()
    return DOCKER_HUB if host in ("index.docker.io", "registry-1.docker.io") else host
