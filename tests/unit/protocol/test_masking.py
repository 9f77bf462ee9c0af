"""Credentials in URLs are masked."""

import pytest

from flowsession_protocol.masking import masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-i https://me:word@example.com/simple", "-i https://****@example.com/simple"),
        ("https://word@a.example https://b:c@d@e.example", "https://****@a.example https://****@e.example"),
        (
            "https://{private}@example.com https://me:{private}@example.com",
            "https://{private}@example.com https://me:{private}@example.com",
        ),
        ("https://me:{private}word@example.com", "https://****@example.com"),
        ("x @ https://example.com/a@b", "x @ https://example.com/a@b"),
    ],
)
def test_masked(text, shown):
    assert masked(text) == shown
