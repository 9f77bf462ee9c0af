"""Whether an order asks for an install."""

import pytest

from flowsession_agent.server import order


def asks(text: str) -> bool:
    return order.read({"packagesRevision": "1", "requirements": {"text": text}}).requirements is not None


@pytest.mark.parametrize("text", ["numpy", "# why\n\nnumpy", "-rother.txt", "--requirement=other.txt", "-e .", "-r 'x"])
def test_what_needs_an_install(text):
    assert asks(text)


@pytest.mark.parametrize(
    "text",
    ["", "\n# numpy\n", "-c limits.txt", "-i https://example.com/simple --pre", "-i \\\n  https://example.com/simple\n", "# why \\\n"],
)
def test_comments_and_options_alone_need_none(text):
    assert not asks(text)
