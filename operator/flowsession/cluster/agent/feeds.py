"""The token for private package feeds, read from the Secret that an environment names, for one call only."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from flowsession.api import GROUP
from flowsession.cluster import errors
from flowsession.cluster.gateway import KubernetesCluster
from flowsession_protocol.limits import FEED_TOKEN
from flowsession_protocol.messages import Feed

LABEL = f"{GROUP}/feed"
"""Label of Secrets meant for sessions: without it no environment can obtain a Secret through the operator."""

KEY = "token"
HOSTS_KEY = "hosts"
"""Key of the hosts that the token is for: HOST or HOST:PORT, separated by spaces, commas or line breaks; *.HOST: all hosts below it."""
MOST_HOSTS = 100


@dataclass(frozen=True)
class FeedCredentials:
    """What the agent gets for `{private}`. Never stored and never logged."""

    source: str
    """Where the token comes from, for people."""
    token: str = field(default="", repr=False)
    problem: str = ""
    """Why the token is missing, and what to do; without a final period."""
    hosts: tuple[str, ...] | None = None
    """The hosts that it may be sent to; None: the Secret names none."""

    def to_wire(self) -> Feed:
        """Return the member `installer.feed` of PUT /v1/environment."""
        feed: Feed = {"token": self.token, "from": self.source, "problem": self.problem}
        if self.hosts is not None:
            feed["hosts"] = list(self.hosts)
        return feed


async def read(cluster: KubernetesCluster, namespace: str, name: str) -> FeedCredentials:
    """Return the token in a Secret, or why it is unavailable, which affects only installs that need it. Raises ClusterError for what is
    worth a retry."""
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
        message = f"{source} is not labelled {LABEL}=true, which says that sessions may have its token"
        return FeedCredentials(source, problem=f"{message}; run kubectl label secret {name} {LABEL}=true")
    return _offered(source, secret.get("data") or {})


def _offered(source: str, data: Mapping[str, str]) -> FeedCredentials:
    """Return the credentials in a Secret that is meant for sessions."""
    if KEY not in data:
        return FeedCredentials(source, problem=f"{source} has no key {KEY}; put the feed's token there")
    encoded, named = data[KEY], data.get(HOSTS_KEY)
    try:
        token = base64.b64decode(encoded).decode("ascii").strip()
    except (binascii.Error, UnicodeDecodeError):
        token = ""
    if not token or not token.isprintable() or len(token) > FEED_TOKEN:
        return FeedCredentials(source, problem=f"{source} has no token under its key {KEY}, but something else: put the feed's token there")
    if named is None:
        return FeedCredentials(source, token)
    hosts = _hosts(named)
    odd = next((host for host in hosts if not _HOST.match(host)), None)
    if odd is not None or len(hosts) > MOST_HOSTS:
        what = (
            f"has {odd!r} under its key {HOSTS_KEY}" if odd is not None else f"has more than {MOST_HOSTS} hosts under its key {HOSTS_KEY}"
        )
        return FeedCredentials(
            source, problem=f"{source} {what}: write names of hosts there, such as pypi.example.com, with :PORT if need be"
        )
    return FeedCredentials(source, token, hosts=hosts)


_HOST = re.compile(r"(?:\*\.)?(?:[a-z0-9](?:[a-z0-9._-]{0,252})|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?\Z")


def _hosts(encoded: str) -> tuple[str, ...]:
    try:
        text = base64.b64decode(encoded).decode("ascii", errors="replace")
    except binascii.Error:
        text = "?"
    return tuple(host.lower() for host in re.split(r"[\s,]+", text) if host)
