"""Takes logins out of URLs before people see them, in messages, statuses and logs."""

from __future__ import annotations

import re

PRIVATE = "{private}"
"""Stands in an index URL for the token that the agent puts in; no secret itself."""

_LOGIN = re.compile(r"(://)(?!(?:[^/\s@:]*:)?\{private\}@)[^/\s?#]+@")


def masked(text: str) -> str:
    """`text` without the user and password of URLs. To be called before a text is cut: its end may hold the @ that tells them."""
    return _LOGIN.sub(r"\1****@", text)
