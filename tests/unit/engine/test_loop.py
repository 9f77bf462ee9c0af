"""What the loop adds to a decision: whether the API server has lately failed to carry out writes, and the backlog."""

import pytest

from flowsession.engine import loop
from flowsession.engine.loop import SILENT_FAILURES, Engine
from flowsession.engine.store.keys import Key
from flowsession.reconcile.session.snapshot import SessionSnapshot
from unit.builders import NAMESPACE
from unit.engine.store.test_cache import body, session

SESSION = Key("ComputeSession", NAMESPACE, "alice")
BOX = Key("ComputeInstance", NAMESPACE, "box")
ON_BOX = {
    "environmentRef": {"name": "env"},
    "user": "alice@example.com",
    "idle": {"action": "Delete", "timeoutSeconds": 600},
    "compute": {"instanceRef": {"name": "box"}},
}


def decided(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> SessionSnapshot:
    """Return what the session's decision sees."""
    seen: list[SessionSnapshot] = []
    monkeypatch.setattr(loop.session, "decide", lambda snapshot, now: seen.append(snapshot))
    engine.plan(SESSION)
    return seen[0]


async def take_all(engine: Engine) -> None:
    """Empty the queue, as if each key's decision had been made."""
    while len(engine.queue):
        engine.queue.done(await engine.queue.get())


@pytest.mark.parametrize(
    ("spec", "failing", "told"),
    [
        pytest.param(ON_BOX, BOX, True, id="the instance's writes fail"),
        pytest.param(ON_BOX, SESSION, True, id="its own writes fail"),
        pytest.param(ON_BOX, Key("ComputeInstance", NAMESPACE, "other"), False, id="another instance's writes fail"),
        pytest.param(None, BOX, False, id="it is on no instance"),
    ],
)
async def test_a_session_is_told_that_the_server_does_nothing_for_it_or_its_instance(engine, monkeypatch, spec, failing, told):
    engine.observe("ComputeInstance", body("ComputeInstance", "box", spec={"user": "alice@example.com", "vmSize": "Standard_D2s_v5"}))
    engine.observe("ComputeSession", session() | ({"spec": spec} if spec else {}))
    for _ in range(SILENT_FAILURES - 1):
        engine.queue.retry(failing)
    assert not decided(engine, monkeypatch).server_silent, "a failure or two say nothing"
    engine.queue.retry(failing)
    assert decided(engine, monkeypatch).server_silent is told


async def test_sessions_without_a_phase_are_a_backlog_although_their_decisions_are_made(engine, monkeypatch):
    for number in range(30):
        engine.observe("ComputeSession", session(name=f"new-{number}"))
    engine.observe("ComputeSession", session(status={"phase": "Running"}))
    await take_all(engine)
    assert decided(engine, monkeypatch).backlog == 30
    for number in range(30):
        engine.observe("ComputeSession", session(2, name=f"new-{number}", status={"phase": "Starting"}))
    assert decided(engine, monkeypatch).backlog == len(engine.queue) == 30, "their keys are due again"
    await take_all(engine)
    assert decided(engine, monkeypatch).backlog == 0
