"""kubeconfig files with a bearer token, and a minimal client to check an API server's health."""

import base64
import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcluster import files


@dataclass(frozen=True)
class Api:
    """An API server as one user sees it."""

    server: str
    ca: Path
    token: str

    def get(self, path: str, *, seconds: float = 5) -> Any:
        """Return the decoded JSON response, or its text if it isn't JSON. Raises OSError on no response or an error status."""
        request = urllib.request.Request(self.server + path, headers={"Authorization": f"Bearer {self.token}"})  # noqa: S310 (https only)
        # The address is the machine's own, so a configured proxy must not be used for it.
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(self.ca))))
        with urllib.request.build_opener(*handlers).open(request, timeout=seconds) as answer:
            text = answer.read().decode()
        return json.loads(text) if text.startswith(("{", "[")) else text

    def ready(self) -> bool:
        """Return whether the server reports itself as ready."""
        try:
            return bool(self.get("/readyz") == "ok")
        except (OSError, urllib.error.HTTPError):
            return False


def write(path: Path, api: Api, *, user: str) -> Path:
    """Write a kubeconfig for this user. It contains the certificate, so it works from anywhere on this machine."""
    ca = base64.b64encode(api.ca.read_bytes()).decode()
    files.write(
        path,
        f"""\
apiVersion: v1
kind: Config
current-context: flowsession
contexts:
- name: flowsession
  context: {{cluster: flowsession, user: {json.dumps(user)}}}
clusters:
- name: flowsession
  cluster:
    server: {api.server}
    certificate-authority-data: {ca}
users:
- name: {json.dumps(user)}
  user: {{token: {api.token}}}
""",
        mode=0o600,
    )
    return path
