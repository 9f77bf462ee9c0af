"""Which place is full, and that a flow's check does not blame the flow for it."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from flowsession_agent.check.trouble import describe
from flowsession_agent.session import space


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Places that have no space left."""
    places: set[str] = set()
    monkeypatch.setattr(space.os, "statvfs", lambda place: SimpleNamespace(f_bavail=0 if place in places else 1))
    return places


def no_space(name: str | None = None) -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", name)


@pytest.mark.parametrize(
    ("places", "name", "found"),
    [
        ({"/dev/shm"}, None, "/dev/shm"),
        ({"/dev/shm", "/data"}, "/data/x", "/data"),
        ({"/home/me"}, "/data/x", "/home/me"),
        (set(), "/data/x", ""),
        ({"/tmp"}, "relative", "/tmp"),
    ],
)
def test_the_full_place(full: set[str], monkeypatch: pytest.MonkeyPatch, places: set[str], name: str | None, found: str) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    full |= places
    assert space.full(no_space(name)) == found


def test_what_says_that_no_space_is_left() -> None:
    assert space.is_short(no_space())
    assert not space.is_short(OSError(errno.ENOENT, "no such file"))
    assert not space.is_short(ValueError("No space left on device"))


def test_no_space_is_no_fault_of_the_flow(full: set[str], tmp_path: Path) -> None:
    full.add("/dev/shm")
    found = describe(no_space(), folder=str(tmp_path), default="act.py")
    assert (found.code, found.message) == ("NoSpace", "its import needs space, and none is left in /dev/shm")
