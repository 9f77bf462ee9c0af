"""Masks logins in URLs before people see them in messages, statuses and logs."""

from __future__ import annotations

import re

PRIVATE = "{private}"
"""Placeholder in an index URL for the token that the agent inserts; not a secret itself."""

_LOGIN = re.compile(r"(://)(?!(?:[^/\s@:]*:)?\{private\}@)[^/\s?#]+@")


def masked(text: str) -> str:
    """Return `text` without the user and password of URLs. Call it before cutting a text: the end may hold the @ that reveals a login."""
    return _LOGIN.sub(r"\1****@", text)
