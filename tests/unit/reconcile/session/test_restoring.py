"""What a session reports about edits saved by earlier sessions, and when it looks for them."""

from dataclasses import replace

import pytest

from flowsession.model.agent_views import EditsView, SavedEdits
from unit.builders import DAG, agent, decide, pod, resolved, session_snapshot, state, status_after

FLOW = resolved(files={"flow.dag.yaml": DAG})
SAVED = SavedEdits(name="edits-1", session="old", saved_at="2026-01-01T00:00:00Z", revision="one")


def started(saved: SavedEdits | None, edits: EditsView | None = None, **fields):
    """A session whose agent just got the environment and the saved edits."""
    said = agent(state(FLOW, edits=edits or EditsView()), FLOW)
    return session_snapshot(pod(), environment=FLOW, agent=said, saved=saved, saved_known=True, **fields)


def told(snapshot):
    return [(event.reason, event.warning) for event in decide(snapshot).events if event.reason.startswith("Edits")]


def test_restored_edits_are_told_once():
    fresh = started(SAVED, EditsView(restored=True))
    assert told(fresh) == [("EditsRestored", False)]
    conditions = [one for one in status_after(fresh)["conditions"] if one["type"] == "EditsInPlace"]
    assert conditions
    again = replace(fresh, status={"conditions": conditions})
    assert told(again) == []
    newer = replace(again, saved=replace(SAVED, session="newer"))
    assert told(newer) == [("EditsRestored", False)]


def test_what_was_lost_is_a_warning():
    lost = "what session old edited after that is lost: 2 MB are too much"
    assert told(started(replace(SAVED, lost=lost), EditsView(restored=True))) == [("EditsRestored", True)]
    assert told(started(SavedEdits(lost=lost))) == [("EditsNotSaved", True)]
    assert told(started(SavedEdits())) == []


@pytest.mark.parametrize(
    ("environment", "known", "looks"),
    [(FLOW, False, True), (FLOW, True, False), (resolved(), False, False)],
    ids=["a folder", "known already", "no folder"],
)
def test_a_start_looks_for_saved_edits_where_there_is_a_folder(environment, known, looks):
    plan = decide(session_snapshot(environment=environment, saved_known=known))
    assert plan.creates
    assert (plan.fetch_edits is not None) is looks
