"""What the loop adds to a decision: whether the API server has lately failed to carry out writes."""

from typing import Any

import pytest

from flowsession.engine import loop
from flowsession.engine.loop import SILENT_FAILURES, Engine
from flowsession.engine.store.keys import Key
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


def server_silent(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Return the `server_silent` that the session's decision sees."""
    seen: list[Any] = []
    monkeypatch.setattr(loop.session, "decide", lambda snapshot, now: seen.append(snapshot))
    engine.plan(SESSION)
    return bool(seen[0].server_silent)


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
    assert not server_silent(engine, monkeypatch), "a failure or two say nothing"
    engine.queue.retry(failing)
    assert server_silent(engine, monkeypatch) is told
