"""Warnings about index URLs that need a login: `{private}` without a source for its token, tokens in the clear, passwords in the text."""

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from flowsession.api.source import SourceWarning
from flowsession_protocol.masking import PRIVATE
from flowsession_protocol.messages import Installer
from flowsession_protocol.requirements import lines

_SETTING = "spec.installer.credentialsSecretName"
_OPTIONS = ("--index-url", "--extra-index-url", "--find-links")
_LOGIN = re.compile(r"^[a-z]+://([^/?#]*)@", re.IGNORECASE)


def warnings(files: Mapping[str, str], installer: Installer, *, secret: str) -> Iterator[SourceWarning]:
    """Yield warnings about the index URLs of requirements files (text by name) and of the installer's settings (docs/agent-protocol.md).

    `secret` is the name of the Secret with the token, empty if there is no such Secret. Each warning is given once for a server, at the
    first URL that it applies to.
    """
    warned: set[tuple[str, str]] = set()
    for file, line, url in _urls(files, installer):
        for code, about, message in _judged(url, secret, installer["identityFeedHosts"]):
            if (code, about) not in warned:
                warned.add((code, about))
                yield SourceWarning(file=file, line=line, code=code, message=message)


def _urls(files: Mapping[str, str], installer: Installer) -> Iterator[tuple[str, int | None, str]]:
    for file, text in files.items():
        if "@" in text:
            for line in lines(text):
                yield from ((file, line.first, value) for option, value in line.options if not line.body and option in _OPTIONS)
    for setting, urls in (("installer.indexURL", [installer["indexURL"]]), ("installer.extraIndexURLs", installer["extraIndexURLs"])):
        yield from ((setting, None, url) for url in urls if PRIVATE in url.lower())  # other logins may be intended by the platform team


def _judged(url: str, secret: str, identity_hosts: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield a code, the server concerned, and a message."""
    login = _LOGIN.match(url)
    if login is None:
        return
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return  # the installer reports what is wrong with it
    user = login.group(1)
    server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if PRIVATE not in user.lower():
        if "$" not in user:
            text = "the user and password are in the text, for all to read who may read the environment"
            yield "LoginInURL", server, f"{server}: {text}; write {PRIVATE} in their place, and name a Secret in {_SETTING}"
        return
    if not secret:
        offer = f"a Secret labelled flowsession.dev/feed=true, with the token under the key token, in {_SETTING}"
        if any(fnmatch.fnmatch(host, one.lower()) for one in identity_hosts):
            way_out = f"sessions that have no identity with workload identity need {offer}"
        else:
            way_out = f"identities have a token for {', '.join(identity_hosts)} only, so name {offer}"
        yield "PrivateFeed", server, f"{server} asks for a token: {way_out}"
    if parts.scheme.lower() == "http":
        yield "PlainFeed", server, f"{server} gets no token, since http would show it to everybody on the way; use https"
