"""Checks that the session's identity can authenticate a connection with `auth_mode: meid_token`, requesting a token as azure-identity does.

A token doesn't show roles: only the connection's endpoint reveals which one is missing.
"""

from __future__ import annotations

import http.client
import os
from urllib.parse import urlsplit

from flowsession_protocol.connection_kinds import MEID, BadConnectionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping

CODE = "ConnectionIdentity"
RESOURCE = "https://cognitiveservices.azure.com"
"""The resource for which prompt flow requests tokens, whatever the connection's type (1.18.5)."""
OTHER_WAYS = ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_USERNAME", "IDENTITY_ENDPOINT", "MSI_ENDPOINT")
"""Variables by which azure-identity finds an identity other than the pod's. Such identities are not checked here."""
NODE = "http://169.254.169.254"
"""The address at which an Azure virtual machine gives tokens of its own identity."""
NODE_SECONDS = 1
ASK_SECONDS = 10
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables in which azure-identity's client looks for certificates."""
ROLE = "the role Cognitive Services OpenAI User on the endpoint's resource"


def check(data: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Raise BadConnectionError if the connection needs an identity that the session lacks, or that gets no token.

    An unreachable token endpoint is not an error, since that is temporary.
    """
    if data.get("auth_mode") != MEID or any(environ.get(name) for name in OTHER_WAYS):
        return
    from flowsession_agent.feeds.entra import Identity, IdentityError
    from flowsession_agent.feeds.upstream import Network

    network = Network(environ=environ, ca_bundle=_certificates(environ), seconds=ASK_SECONDS)
    identity = Identity.of(environ, network, scope=f"{RESOURCE}/.default")
    if identity is None:
        if _node_gives_token(environ):
            return
        message = f"it authenticates as the session (auth_mode: {MEID}), which has no identity in Azure"
        way = f"name a ServiceAccount with a workload identity in the session's spec.identity, and grant that {ROLE}"
        raise BadConnectionError(CODE, f"{message}: {way}; or give the Secret an api_key")
    try:
        identity.token()
    except IdentityError as error:
        if error.refused:
            message = f"the session's identity {identity.client} gets no token to authenticate by (auth_mode: {MEID}): {error}"
            raise BadConnectionError(CODE, f"{message}: grant it a federated credential for the session's ServiceAccount") from None


def _node_gives_token(environ: Mapping[str, str]) -> bool:
    parts = urlsplit(environ.get("AZURE_POD_IDENTITY_AUTHORITY_HOST") or NODE)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=NODE_SECONDS)
    target = f"/metadata/identity/oauth2/token?api-version=2018-02-01&resource={RESOURCE}"
    try:
        connection.request("GET", target, headers={"Metadata": "true"})
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _certificates(environ: Mapping[str, str]) -> str:
    for name in CA_VARIABLES:
        try:
            with open(environ.get(name, os.devnull), encoding="utf-8") as file:
                if found := file.read():
                    return found
        except (OSError, UnicodeDecodeError):
            continue
    return ""
