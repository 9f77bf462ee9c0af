"""Which responses the package cache accepts as received over TLS."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from yarl import URL

from flowsession_cache.transport import lost_tls


def answer(*urls: str) -> Any:
    """Return a response from the last address, after redirects from the others."""
    *history, last = [SimpleNamespace(url=URL(url)) for url in urls]
    return cast("Any", SimpleNamespace(url=last.url, history=history))


@pytest.mark.parametrize(
    ("urls", "lost"),
    [
        (["https://a"], False),
        (["https://a", "https://b"], False),
        (["https://a", "http://b"], True),
        (["https://a", "http://b", "https://a"], True),
        (["http://a", "http://b"], False),
        (["http://a", "https://b"], False),
    ],
)
def test_an_answer_that_went_over_an_address_without_tls_is_none(urls, lost):
    assert lost_tls(urls[0], answer(*urls)) is lost
