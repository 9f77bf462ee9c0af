"""The token for private package feeds: read from the one Secret that an environment names, for the length of one call."""

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
"""What marks a Secret as meant for sessions: without it no environment can get at a Secret through the operator."""

KEY = "token"
HOSTS_KEY = "hosts"
"""Of the Secret: the hosts that its token is for, HOST or HOST:PORT, separated by spaces, commas or lines; *.HOST: all below it."""
MOST_HOSTS = 100


@dataclass(frozen=True)
class FeedCredentials:
    """What the agent gets for `{private}`. Never kept and never logged."""

    source: str
    """Whose token it is, for people."""
    token: str = field(default="", repr=False)
    problem: str = ""
    """Why there is none, and the way out; without a full stop."""
    hosts: tuple[str, ...] | None = None
    """Where it may go. None: the Secret does not say."""

    def to_wire(self) -> Feed:
        """Return the member `installer.feed` of PUT /v1/environment."""
        feed: Feed = {"token": self.token, "from": self.source, "problem": self.problem}
        if self.hosts is not None:
            feed["hosts"] = list(self.hosts)
        return feed


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
        message = f"{source} is not labelled {LABEL}=true, which says that sessions may have its token"
        return FeedCredentials(source, problem=f"{message}; run kubectl label secret {name} {LABEL}=true")
    return _offered(source, secret.get("data") or {})


def _offered(source: str, data: Mapping[str, str]) -> FeedCredentials:
    """Return what a Secret that is meant for sessions holds."""
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
