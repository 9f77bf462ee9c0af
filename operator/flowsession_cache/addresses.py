"""The addresses of indexes in the cache, on which the operator and the cache must agree."""

import hashlib


def key_of(index: str) -> str:
    """Return an index's name in the cache's addresses, made of its URL so that no change of settings turns one index into another."""
    return hashlib.sha256(index.rstrip("/").encode()).hexdigest()[:16]


def cached(cache: str, index: str) -> str:
    """Return the address of the index in the cache at the URL `cache`."""
    return f"{cache.rstrip('/')}/{key_of(index)}/simple"
