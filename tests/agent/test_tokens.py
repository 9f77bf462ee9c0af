"""Who may call: every refusal in docs/agent-protocol.md, with a real agent."""

import json
import time
from typing import Any

import pytest

from .support import POD_UID, Agent, Operator, base64url


def refusal(agent: Agent, token: str | None) -> tuple[int, Any]:
    status, answer = agent.call("GET", "/v1/state", token=token)
    assert answer["podUID"] == POD_UID
    return status, answer.get("code")


def test_a_good_token_is_let_in_and_health_needs_none(agent: Agent) -> None:
    assert agent.call("GET", "/v1/state")[0] == 200
    assert agent.call("GET", "/healthz", token=None) == (200, {"ok": True, "podUID": POD_UID})


def test_no_token(agent: Agent) -> None:
    assert refusal(agent, None) == (401, "TokenMissing")


def test_a_token_for_another_pod(agent: Agent) -> None:
    assert refusal(agent, agent.operator.token(aud="another")) == (401, "TokenNotForThisPod")
    assert refusal(agent, agent.operator.token(aud=[POD_UID])) == (401, "TokenNotForThisPod")


def test_an_expired_token_is_told_the_time_to_mint_one_that_fits(agent: Agent) -> None:
    offset = 3600
    wrong = int(time.time()) - offset
    status, answer = agent.call("GET", "/v1/state", token=agent.operator.token(iat=wrong, exp=wrong + 60))
    assert (status, answer["code"]) == (401, "TokenExpired")
    corrected = wrong + (answer["now"] - wrong)
    assert agent.call("GET", "/v1/state", token=agent.operator.token(iat=corrected, exp=corrected + 60))[0] == 200


def test_a_token_of_the_future_is_told_the_time_too(agent: Agent) -> None:
    ahead = int(time.time()) + 3600
    assert refusal(agent, agent.operator.token(iat=ahead, exp=ahead + 60)) == (401, "TokenExpired")


@pytest.mark.parametrize(
    "claims",
    [{"exp": 2**32}, {"iat": "now"}, {"exp": None}, {"iat": True}, {"exp": 1e400}, {"iat": -1}, {"iat": 5, "exp": 5}],
    ids=str,
)
def test_times_that_no_operator_mints(agent: Agent, claims: dict[str, Any]) -> None:
    assert refusal(agent, agent.operator.token(**claims)) == (401, "TokenInvalid")


@pytest.mark.parametrize(
    "header", [{"alg": "none"}, {"alg": "HS256"}, {"kid": "other"}, {"kid": 5}, {"kid": None}, {"crit": ["exp"]}], ids=str
)
def test_headers_that_no_operator_mints(agent: Agent, header: dict[str, Any]) -> None:
    assert refusal(agent, agent.operator.token(header=header)) == (401, "TokenInvalid")


def test_a_token_by_another_key_of_the_same_name(agent: Agent) -> None:
    assert refusal(agent, Operator(agent.operator.kid).token()) == (401, "TokenInvalid")


def test_a_changed_claim_or_signature(agent: Agent) -> None:
    head, _, signature = agent.operator.token(aud="another").split(".")
    now = int(time.time())
    forged = base64url(json.dumps({"aud": POD_UID, "iat": now, "exp": now + 60}).encode())
    assert refusal(agent, f"{head}.{forged}.{signature}") == (401, "TokenInvalid")
    good = agent.operator.token()
    assert refusal(agent, good[:-2]) == (401, "TokenInvalid")
    assert refusal(agent, good.rpartition(".")[0] + ".") == (401, "TokenInvalid")
    assert refusal(agent, good.rpartition(".")[0] + "." + base64url(b"\xff" * 256)) == (401, "TokenInvalid")


@pytest.mark.parametrize(
    "token", ["x", "a.b", "a.b.c", "..", "a.b.c.d", "é.b.c", "e30.e30.AA", base64url(b"[" * 5000) + ".e30.AA"], ids=lambda token: token[:8]
)
def test_what_is_no_token(agent: Agent, token: str) -> None:
    assert refusal(agent, token) == (401, "TokenInvalid")


def test_signed_claims_that_are_no_object(agent: Agent) -> None:
    header = json.dumps({"alg": "RS256", "kid": agent.operator.kid}).encode()
    for claims in (b"[]", b"5", b"{", b"[" * 6000):
        assert refusal(agent, agent.operator.sign(header, claims)) == (401, "TokenInvalid")
