"""kubeconfig files with a bearer token, and just enough of a client to ask an API server how it is."""

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
        """The decoded JSON answer, or its text where it isn't JSON. Raises OSError when there is no answer or an error status."""
        request = urllib.request.Request(self.server + path, headers={"Authorization": f"Bearer {self.token}"})  # noqa: S310 (https only)
        # A machine behind a proxy must not ask it for an address that is its own.
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(self.ca))))
        with urllib.request.build_opener(*handlers).open(request, timeout=seconds) as answer:
            text = answer.read().decode()
        return json.loads(text) if text.startswith(("{", "[")) else text

    def ready(self) -> bool:
        """Whether the server says of itself that it can serve."""
        try:
            return bool(self.get("/readyz") == "ok")
        except (OSError, urllib.error.HTTPError):
            return False


def write(path: Path, api: Api, *, user: str) -> Path:
    """A kubeconfig for this user; the certificate is in it, so the file works from anywhere on this machine."""
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
