"""SHA-256 by CPython's built-in module: `hashlib` would load OpenSSL, 4 ms of the first answer."""

from __future__ import annotations

from flowsession_protocol import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def sha256(data: bytes = b"") -> Any:
    """Return a hash object that has taken `data`."""
    for name in ("_sha2", "_sha256"):  # since Python 3.12, until 3.11
        try:
            return __import__(name).sha256(data)
        except ImportError:
            continue
    import hashlib

    return hashlib.sha256(data)


def fingerprint(size: int, digest: Any) -> str:
    """Return a content's size and hash in one word; `digest` has taken all of the content."""
    return f"{size}:{digest.hexdigest()[: limits.FINGERPRINT_DIGITS]}"


def of_content(content: bytes) -> str:
    """Return the fingerprint of a file that reads `content`."""
    return fingerprint(len(content), sha256(content))
