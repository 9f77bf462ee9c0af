"""The advice about an endpoint that refuses a flow's call."""

import json
from pathlib import Path

import pytest

from flowsession_agent.connections.refusals import advice, silence, wait

DAG = """
inputs: {question: {type: string}}
nodes:
- name: find
  type: python
  inputs:
    words:
    - one
    store: search-it
- name: ask
  type: llm
  connection: "open_ai_connection"  # ours
"""
OPENAI = "OpenAI API hits {}: Error code: {} - {{'error': {{'message': 'no'}}}} [Error reference: x]"
LIMITED = "Exception occurs: RateLimitError: Error code: 429 - x\nRateLimitError #0, Retry-After=7, Back off 7.0 seconds for retry.\n"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The session's variables with two connections; the second has no key."""
    for name, content in (("open-ai", "api_key: sk-secret"), ("search", "auth_mode: meid_token")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "connection.yaml").write_text(content)
    (tmp_path / "flow.dag.yaml").write_text(DAG)
    listed = [("open_ai_connection", "open-ai"), ("search-it", "search")]
    given = [{"name": name, "secret": secret, "path": str(tmp_path / secret)} for name, secret in listed]
    return {"FLOWSESSION_CONNECTIONS": json.dumps(given), "FLOW": str(tmp_path / "flow.dag.yaml")}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (OPENAI.format("AuthenticationError", 401), "answers 401, it does not take the key: correct that in Secret 'open-ai'"),
        (OPENAI.format("PermissionDeniedError", 403), "answers 403, the key may not do this: correct that in Secret 'open-ai'"),
        (OPENAI.format("NotFoundError", 404), "answers 404, it knows no such address, model or deployment"),
        (
            f"Exceed max retry times. {OPENAI.format('RateLimitError', 429)}",
            "answers 429, it takes no more calls for now: test again later",
        ),
        (OPENAI.format("InternalServerError", 503), "answers 503, a fault of its own"),
        (OPENAI.format("BadRequestError", 400), "answers 400: correct what the flow asks of it"),
        ("requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: http://x", "answers 401, it does not take the key"),
        ("httpx.HTTPStatusError: Server error '502 Bad Gateway' for url 'http://x'", "answers 502"),
        (
            "OpenAI API hits APIConnectionError: Connection error. [Error reference: x]",
            "can't be reached: correct the address in Secret 'open-ai'",
        ),
        ("OpenAI API hits APITimeoutError: Request timed out. [Error reference: x]", "does not answer: test again later"),
    ],
)
def test_it_names_the_connection_the_status_and_the_way_out(words: str, told: str, environ: dict[str, str]) -> None:
    said = advice(words, environ["FLOW"], environ, node="ask")
    assert said.startswith("connection 'open_ai_connection': its endpoint ")
    assert told in said
    assert "sk-secret" not in said


def test_the_time_of_retry_after_is_told(environ: dict[str, str]) -> None:
    assert "test again in 7 s (Retry-After)" in advice(LIMITED, environ["FLOW"], environ, log=LIMITED, node="ask")


def test_the_node_is_found_in_the_log(environ: dict[str, str]) -> None:
    words = OPENAI.format("AuthenticationError", 401)
    log = f"2026 execution ERROR Node find in line 0 failed. Exception: {words}"
    assert "connection 'search-it'" in advice(words, environ["FLOW"], environ, log=log)
    assert "grant that the role Cognitive Services OpenAI User" in advice(words, environ["FLOW"], environ, log=log)


def test_what_is_no_call_of_an_endpoint_needs_no_advice(environ: dict[str, str]) -> None:
    assert advice("KeyError: 'answer'", environ["FLOW"], environ, log=LIMITED) == ""
    assert advice("ValueError: 401 of 500 lines", environ["FLOW"], environ) == ""


def test_a_connection_that_cannot_be_told_is_not_guessed(environ: dict[str, str]) -> None:
    assert advice(OPENAI.format("AuthenticationError", 401), environ["FLOW"], environ).startswith("a connection: its endpoint answers 401")


def test_a_connection_that_a_run_gives_the_node_is_the_one_that_is_named(environ: dict[str, str]) -> None:
    words, given = OPENAI.format("AuthenticationError", 401), {"ask": {"connection": "search-it"}}
    assert "connection 'search-it'" in advice(words, environ["FLOW"], environ, node="ask", connections=given)
    assert "connection 'search-it'" in advice(words, environ["FLOW"], environ, connections=given)
    assert "connection 'open_ai_connection'" in advice(words, environ["FLOW"], environ, node="ask", connections={"ask": {"model": "x"}})
    other = {"ask": {"connection": "of prompt flow's own store"}}
    assert advice(words, environ["FLOW"], environ, node="ask", connections=other).startswith("a connection: ")


def waits(line: int, at: str, seconds: float, node: str = "ask") -> str:
    before = f"2026-11-29 {at} +0000   21323 execution          WARNING  [{node} in line {line} (index starts from 0)] stderr> "
    return (
        f"{before}Exception occurs: RateLimitError: Error code: 429 - Rate limit reached\n"
        f"{before}RateLimitError #0, Retry-After={seconds:.0f}, Back off {seconds} seconds for retry.\n"
    )


NOW = 1795982404.0
"""2026-11-29 20:00:04 UTC."""
DONE = "2026-11-29 20:00:03 +0000   21049 execution.bulk     INFO     Process name(F-2:1)-Process id(21315)-Line number({}) completed.\n"


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("", ""),
        (waits(1, "20:00:04", 30.0), "line 1 asks again at 20:00:34 UTC"),
        (waits(1, "21:30:04", 30.0).replace("+0000", "+0130"), "line 1 asks again at 20:00:34 UTC"),
        (waits(1, "16:30:04", 30.0).replace("+0000", "-0330"), "line 1 asks again at 20:00:34 UTC"),
        (waits(1, "29:99:99", 30.0), ""),
        (waits(1, "20:00:04", 30.0).replace("off 30.0 s", "off 3.0.0 s"), ""),
        (waits(1, "20:00:04", 1e15), ""),
        (waits(1, "20:00:04", 9.0), ""),
        (waits(1, "19:59:35", 30.0), "line 1 asks again at 20:00:05 UTC"),
        (waits(1, "19:59:34", 30.0), ""),
        (waits(1, "19:59:04", 60.0), ""),
        (waits(1, "20:00:02", 3600.0) + DONE.format(1), ""),
        (waits(1, "20:00:02", 3600.0) + DONE.format(11), "line 1 asks again at 21:00:02 UTC"),
        (waits(1, "19:00:00", 5000.0) + waits(1, "20:00:00", 60.0), "line 1 asks again at 20:01:00 UTC"),
        (waits(1, "20:00:00", 60.0) + waits(12, "20:00:00", 20.0), "2 lines wait, and line 12 asks again first, at 20:00:20 UTC"),
    ],
)
def test_lines_that_wait_for_long_are_told_while_they_do(log: str, told: str, environ: dict[str, str]) -> None:
    found = wait(log, environ["FLOW"], environ, now=NOW)
    assert found == (f"connection 'open_ai_connection': its endpoint answers 429: {told}" if told else "")


def test_only_an_endpoint_that_is_known_is_called_silent(environ: dict[str, str], tmp_path: Path) -> None:
    assert silence(environ["FLOW"], environ) == "", "two are named there"
    given = {"ask": {"connection": "open_ai_connection"}}
    assert silence(environ["FLOW"], environ, given).startswith("if it waited for connection 'open_ai_connection'")
    assert silence(environ["FLOW"], {}) == ""
