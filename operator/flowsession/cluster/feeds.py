"""The token for private package feeds: read from the one Secret that an environment names, for the length of one call."""

import base64
import binascii
from dataclasses import dataclass, field

from flowsession.api import GROUP
from flowsession.cluster import errors
from flowsession.cluster.gateway import KubernetesCluster

LABEL = f"{GROUP}/feed"
"""What marks a Secret as meant for sessions: without it no environment can get at a Secret through the operator."""

KEY = "token"
LONGEST = 64 * 1024
"""Characters that the agent takes."""


@dataclass(frozen=True)
class FeedCredentials:
    """What the agent gets for `{private}`. Never kept and never logged."""

    source: str
    """Whose token it is, for people."""
    token: str = field(default="", repr=False)
    problem: str = ""
    """Why there is none, and the way out; without a full stop."""

    def to_wire(self) -> dict[str, str]:
        """The member `installer.feed` of PUT /v1/environment."""
        return {"token": self.token, "from": self.source, "problem": self.problem}


async def read(cluster: KubernetesCluster, namespace: str, name: str) -> FeedCredentials:
    """The token in a Secret, or why it can't be had, which concerns nobody but installs that need it. Raises ClusterError for what is to
    be tried again."""
    source = f"Secret {name!r}"
    try:
        secret = await cluster.get("Secret", namespace, name)
    except errors.NotFound:
        make = f"kubectl create secret generic {name} --from-file={KEY}=FILE, and kubectl label secret {name} {LABEL}=true"
        return FeedCredentials(source, problem=f"{source} of spec.installer.credentialsSecretName does not exist; make it by {make}")
    except errors.Rejected as error:
        way_out = "the chart's installer.readFeedSecrets allows it"
        return FeedCredentials(source, problem=f"the operator may not read {source} ({error}); {way_out}")
    if (secret["metadata"].get("labels") or {}).get(LABEL) != "true":
        said = f"{source} is not labelled {LABEL}=true, which says that sessions may have its token"
        return FeedCredentials(source, problem=f"{said}; run kubectl label secret {name} {LABEL}=true")
    encoded = (secret.get("data") or {}).get(KEY)
    if encoded is None:
        return FeedCredentials(source, problem=f"{source} has no key {KEY}; put the feed's token there")
    try:
        token = base64.b64decode(encoded).decode("ascii").strip()
    except (binascii.Error, UnicodeDecodeError):
        token = ""
    if not token or not token.isprintable() or len(token) > LONGEST:
        return FeedCredentials(source, problem=f"{source} has no token under its key {KEY}, but something else: put the feed's token there")
    return FeedCredentials(source, token)
