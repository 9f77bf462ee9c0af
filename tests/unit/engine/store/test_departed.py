"""Deleted sessions: which sessions wait for the edits made in their pods, and for how long."""

from typing import Any

import pytest

from flowsession.engine.store import objects
from flowsession.engine.store.departed import WAITED_SECONDS, DepartedSessions
from flowsession.engine.store.keys import Key
from unit.builders import NOW, agent, stamp
from unit.engine.store.test_cache import NAMESPACE, body, session


def pod(name: str, owner: str = "uid-alice") -> objects.PodEntry:
    meta = {"ownerReferences": [{"kind": "ComputeSession", "name": "alice", "uid": owner, "controller": True}]}
    status = {"containerStatuses": [{"name": "session", "state": {"running": {"startedAt": stamp(NOW)}}}]}
    found: dict[str, Any] = body("Pod", name, metadata=meta, status=status)
    return objects.pod({**found, "spec": {"containers": [{"name": "session", "image": "x"}]}})


@pytest.fixture
def departed() -> DepartedSessions:
    found = DepartedSessions()
    keys = found.note(objects.session(session()), "env-1", [pod("one"), pod("two"), pod("forged", owner="another")], NOW)
    assert keys == {Key("Pod", NAMESPACE, "one"), Key("Pod", NAMESPACE, "two")}
    return found


def waits(departed: DepartedSessions, now: float = NOW + 1, **agents: Any) -> bool:
    return departed.precede(objects.session(session(name="next")), agents, now)


def test_the_next_session_waits_for_its_predecessor_but_not_for_ever(departed):
    assert waits(departed, NOW + WAITED_SECONDS - 1)
    assert not waits(departed, NOW + WAITED_SECONDS)
    assert not departed.precede(objects.session(session(user="bob")), {}, NOW + 1)


def test_it_waits_until_each_pod_is_gone_or_has_nothing_to_save(departed):
    asked = {"settled": "", "asked_at": NOW + 0.5}
    assert waits(departed, **{"uid-one": agent(**asked), "uid-two": agent(**asked)}), "asked, and not yet saved"
    departed.forget("uid-one")
    assert waits(departed), "the other pod may have edits"
    departed.forget("uid-two")
    assert not waits(departed)
    assert len(departed) == 0
