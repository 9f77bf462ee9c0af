"""The format of the datagrams."""

import pytest

from flowsession_protocol import datagrams

UID = "0b4e0a52-1c3f-4a53-9d9b-2f6f5b0d1c11"


@pytest.mark.parametrize("word", [datagrams.WAITING, datagrams.ENDING, datagrams.KILLED, datagrams.CHECKED])
def test_what_an_agent_sends_the_operator_reads(word):
    assert datagrams.read(datagrams.message(UID, word)) == (UID, word)


@pytest.mark.parametrize("data", [b"", b"x", datagrams.message(UID, "other"), datagrams.message("a" * 65, "waiting"), b"\xff" * 2000])
def test_anything_else_says_nothing(data):
    assert datagrams.read(data) is None
