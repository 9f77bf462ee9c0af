"""Paths that both sides accept."""

import pytest

from flowsession_protocol import limits


@pytest.mark.parametrize("path", [b"", b"/a", b"a//b", b"a/", b".", b"../a", b"a/..", b"a\0"])
def test_paths_that_lead_elsewhere(path):
    assert limits.is_unsafe_path(path)


@pytest.mark.parametrize("path", [b"a", b"a/b.c", b"...", b"..a/b"])
def test_plain_paths(path):
    assert not limits.is_unsafe_path(path)


@pytest.mark.parametrize(
    ("path", "over"), [(b"a" * 255, False), (b"a" * 256, True), (b"ab/" * 341 + b"a", False), (b"ab/" * 341 + b"ab", True)]
)
def test_what_is_too_long(path, over):
    assert limits.too_long(path) is over
