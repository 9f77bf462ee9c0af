"""Tokens for agents: signed once for calls in close succession, for one pod and one clock."""

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from flowsession.cluster import tokens
from flowsession.cluster.tokens import MOST_REUSED, REUSED_SECONDS, Signer
from flowsession_protocol import TOKEN_SECONDS


class Clock:
    now = 1_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(tokens, "time", clock)
    return clock


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer(rsa.generate_private_key(public_exponent=65537, key_size=2048))


def test_calls_that_follow_each_other_share_a_token_while_it_is_young(signer, clock):
    first = signer.token("pod-1")
    clock.now += REUSED_SECONDS - 1
    assert signer.token("pod-1") == first
    clock.now += 1
    assert signer.token("pod-1") != first
    assert REUSED_SECONDS < TOKEN_SECONDS / 2, "what is reused must still be valid when it arrives"


def test_no_pod_gets_anothers_token_nor_one_for_another_clock(signer, clock):
    assert len({signer.token("pod-1"), signer.token("pod-2"), signer.token("pod-1", clock_offset=500.0)}) == 3


def test_a_clock_that_was_set_back_gets_a_new_token(signer, clock):
    first = signer.token("pod-3")
    clock.now -= 3600
    assert signer.token("pod-3") != first


def test_few_are_kept(signer, clock, monkeypatch):
    monkeypatch.setattr(signer, "_sign", lambda uid, now: f"{uid} {now}")
    for number in range(3 * MOST_REUSED):
        signer.token(f"pod-{number}")
    assert len(signer._lately) <= MOST_REUSED
