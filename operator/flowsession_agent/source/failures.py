"""Turn git's error output into a code and a sentence with the way out."""

from __future__ import annotations

import re

from flowsession_agent.source.errors import SourceError

_SECRET = "check the Secret of credentialsSecretName"  # noqa: S105 - a sentence

# Pattern in the output of git or ssh -> code, way out; the first match counts. The output is English, since the locale is C.
_KNOWN = (
    (
        r"terminal prompts disabled|could not read Username",
        "AuthenticationFailed",
        "name a Secret in credentialsSecretName that may read it",
    ),
    (r"Authentication failed|error: 40[13]|HTTP 40[13]|could not read Password", "AuthenticationFailed", f"{_SECRET}: it was refused"),
    (
        r"Host key verification failed|host key is known",
        "UnknownHostKey",
        f"{_SECRET}: known_hosts must hold the key that this host has now",
    ),
    (r"Permission denied|Load key|error in libcrypto", "AuthenticationFailed", f"{_SECRET}: its ssh-privatekey was not taken"),
    (r"No user exists for uid", "AuthenticationFailed", "ssh needs a user of that number in the image: set session.runAsUser to 1000"),
    (r"SSL certificate|certificate verif|server verification", "CertificateUnknown", "put the server's CA into the Secret, under ca.crt"),
    (r"Could not resolve host|Name or service not known|failure in name", "Unreachable", "check the host's name, and the cluster's DNS"),
    (
        r"not found|does not exist|not appear to be a git repository|error: 404",
        "RepositoryNotFound",
        "check the URL, and that the credentials may read it",
    ),
    (r"No space left", "NoSpace", "the repository is too large to be read: use a persistentVolumeClaim"),
    (r"refused|timed out|No route|unreachable|Failed to connect|too slow", "Unreachable", "check that pods of this namespace may reach it"),
)

_CLOSING_WORDS = ("Please make sure you have", "and the repository exists", "fatal: Could not read from remote")
"""Starts of lines that git prints when ssh failed, which don't explain why."""


def of_git(doing: str, stderr: str, masked: str) -> SourceError:
    """Return the error for a failed command's `stderr`. `masked` is the same text without secrets, from which the message quotes."""
    code, advice = "GitFailed", ""
    for pattern, known, way_out in _KNOWN:
        if re.search(pattern, stderr):
            code, advice = known, f"; {way_out}"
            break
    return SourceError(code, f"{doing}: {_last_line(masked)}{advice}")


def _last_line(stderr: str) -> str:
    """Return the most telling line: git's last "fatal:" or "error:", or else the last line of ssh or the server."""
    lines = [line.strip() for line in stderr.replace("\r", "\n").splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(_CLOSING_WORDS)]
    errors = [line for line in lines if line.startswith(("fatal:", "error:", "ERROR:"))]
    line = (errors or lines or ["git gave no reason"])[-1]
    return re.sub(r"(?<!\w)(\w+://)[^/\s@]+@", r"\1", line)[:500].rstrip(".")
