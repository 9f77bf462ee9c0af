"""Requests tokens from Microsoft Entra for the session's identity: exchanges its ServiceAccount's federated token for one of Azure DevOps.

AKS's workload identity webhook gives the pod four variables and the file: https://azure.github.io/azure-workload-identity/docs/.
The exchange is the client credentials grant with a federated credential:
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow. Azure Artifacts accepts such a token as a password,
as Microsoft's own https://pypi.org/project/artifacts-keyring-nofuss/ supplies it for workload identities.
"""

from __future__ import annotations

import http.client
import json
import time
from urllib.parse import quote, urlencode, urlsplit

from flowsession_agent.feeds.upstream import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping

    from flowsession_agent.feeds.upstream import Network

SCOPE = "499b84ac-1321-427f-aa17-267ca6975798/.default"  # Azure DevOps, in every tenant
AUTHORITY = "https://login.microsoftonline.com/"
VARIABLES = ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE")
EARLY_SECONDS = 120
ANSWER_LIMIT = 256 * 1024
MESSAGE_CHARACTERS = 400


class IdentityError(Exception):
    """The identity gives no token; the text says why. `refused`: a retry won't help."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class Identity:
    """The pod's workload identity."""

    def __init__(self, environ: Mapping[str, str], network: Network, scope: str) -> None:
        self._scope = scope
        self.client = environ["AZURE_CLIENT_ID"]
        self._tenant = environ["AZURE_TENANT_ID"]
        self._file = environ["AZURE_FEDERATED_TOKEN_FILE"]
        self._authority = environ.get("AZURE_AUTHORITY_HOST") or AUTHORITY
        self._network = network
        self._token = ""
        self._until = 0.0

    @classmethod
    def of(cls, environ: Mapping[str, str], network: Network, *, scope: str = SCOPE) -> Identity | None:
        """Return the identity that the pod's environment describes, or None."""
        return cls(environ, network, scope) if all(environ.get(name) for name in VARIABLES) else None

    def token(self) -> str:
        """Return a token that is valid for two minutes at least. Raises IdentityError."""
        if time.monotonic() >= self._until:
            self._token, seconds = self._exchange()
            self._until = time.monotonic() + seconds - EARLY_SECONDS
        return self._token

    def _exchange(self) -> tuple[str, float]:
        assertion = self._assertion()
        parts = urlsplit(self._authority)
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client,
            "scope": self._scope,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        target = f"{parts.path.rstrip('/')}/{quote(self._tenant)}/oauth2/v2.0/token"
        where = f"{parts.scheme}://{parts.netloc}"
        try:
            route = self._network.route(parts.scheme, parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443))
            try:
                answer = route.ask("POST", target, headers, urlencode(form).encode())
                body = answer.read(ANSWER_LIMIT)
            finally:
                route.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise IdentityError(f"{where} can't be reached ({reason(error)}): check the network and the proxy variables") from None
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise IdentityError(f"{where} answered {answer.status} with something else than JSON")
        token, seconds = document.get("access_token"), document.get("expires_in")
        if answer.status == 200 and isinstance(token, str) and token and token.isascii() and token.isprintable():
            return token, float(seconds) if isinstance(seconds, (int, float)) else EARLY_SECONDS
        message = str(document.get("error_description") or document.get("error") or "no reason given").replace(assertion, "****")
        raise IdentityError(f"{where} answered {answer.status}: {_first_sentences(message)}", refused=answer.status in (400, 401, 403))

    def _assertion(self) -> str:
        try:
            with open(self._file, encoding="ascii") as file:
                return file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            message = error.strerror if isinstance(error, OSError) else "not text"
            why = f"{self._file} can't be read ({message}): the pod lacks the token of its ServiceAccount"
            raise IdentityError(why, refused=True) from None


def _first_sentences(message: str) -> str:
    """Return Entra's reason (AADSTS...) without the trace ids and times after it, which differ in every response."""
    return " ".join(message.partition("Trace ID:")[0].split())[:MESSAGE_CHARACTERS].rstrip(" .")
