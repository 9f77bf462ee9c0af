"""SHA-256 by CPython's built-in module: `hashlib` would load OpenSSL, which adds 4 ms to the first response."""

from __future__ import annotations

from flowsession_protocol import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def sha256(data: bytes = b"") -> Any:
    """Return a hash object updated with `data`."""
    for name in ("_sha2", "_sha256"):  # from Python 3.12 on, up to 3.11
        try:
            return __import__(name).sha256(data)
        except ImportError:
            continue
    import hashlib

    return hashlib.sha256(data)


def fingerprint(size: int, digest: Any) -> str:
    """Return a content's fingerprint, `SIZE:HASH`. `digest` must be updated with all of the content."""
    return f"{size}:{digest.hexdigest()[: limits.FINGERPRINT_DIGITS]}"


def of_content(content: bytes) -> str:
    """Return the fingerprint of `content`."""
    return fingerprint(len(content), sha256(content))
