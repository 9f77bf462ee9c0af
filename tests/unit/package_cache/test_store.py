"""The package cache's files on disk: what is evicted when space runs out, and what somebody else removed."""

import hashlib
from pathlib import Path

from flowsession_cache.store import SIDE, Store


def kept(store: Store, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    store.incoming(digest).write_bytes(content)
    store.keep(digest, len(content))
    return digest


def test_the_metadata_of_a_wheel_that_somebody_removed_is_evicted_like_any_file(tmp_path: Path) -> None:
    store = Store(tmp_path, limit=100)
    store.open()
    wheel = kept(store, b"w" * 20)
    store.keep_metadata(wheel, b"Name: demo")
    (tmp_path / "files" / wheel).unlink()
    assert store.find(wheel) is None
    store.reserve(100)
    assert store.size == 100
    assert store.find_metadata(wheel) is None


def test_metadata_is_held_although_its_wheel_has_gone(tmp_path: Path) -> None:
    store = Store(tmp_path, limit=100)
    store.open()
    wheel = kept(store, b"w" * 20)
    store.keep_metadata(wheel, b"Name: demo")
    (tmp_path / "files" / wheel).unlink()
    assert store.find(wheel) is None
    found = store.find_metadata(wheel)
    assert found is not None and found.read_bytes() == b"Name: demo"


def test_metadata_that_was_read_anew_outlives_the_eviction_of_the_former(tmp_path: Path) -> None:
    store = Store(tmp_path, limit=60)
    store.open()
    store.keep_metadata("f" * 64, b"Name: former")
    store.keep_metadata("f" * 64, b"Name: newer")
    former = hashlib.sha256(b"Name: former").hexdigest()
    store.reserve(60 - len(b"Name: newer"))
    assert store.find(f"{'f' * 64}{SIDE}{former}") is None
    found = store.find_metadata("f" * 64)
    assert found is not None and found.read_bytes() == b"Name: newer"
