"""Where the cache has an index: the part of its addresses that the operator and the cache must agree on."""

import hashlib


def key_of(index: str) -> str:
    """What an index is called in the cache's addresses: made of its URL, so that no change of settings turns one into another."""
    return hashlib.sha256(index.rstrip("/").encode()).hexdigest()[:16]


def cached(cache: str, index: str) -> str:
    """Where the cache at the URL `cache` has the index."""
    return f"{cache.rstrip('/')}/{key_of(index)}/simple"
