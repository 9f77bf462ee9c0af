"""Merge patches and timestamps: the smallest patch, and deadlines that are never shown too early."""

from hypothesis import given
from hypothesis import strategies as st

from flowsession.model import times
from flowsession.model.conditions import Verdict, clip, read, updated
from flowsession.model.draft import difference
from unit.builders import NOW, applied

LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3) | st.lists(st.integers(0, 2), max_size=2)
DOCUMENTS = st.recursive(
    st.dictionaries(st.sampled_from("abc"), LEAVES.filter(lambda leaf: leaf is not None), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(DOCUMENTS, DOCUMENTS)
def test_a_patch_turns_one_status_into_the_other(old, new):
    assert applied(old, difference(old, new)) == new


@given(DOCUMENTS)
def test_nothing_changed_is_no_patch(document):
    assert difference(document, document) == {}


def test_a_patch_holds_only_what_changed():
    assert difference({"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"x": 1, "y": 3}}) == {"a": {"y": 3}, "b": None}


@given(st.integers(0, 4_000_000_000_000))
def test_timestamps_are_cut_and_deadlines_rounded_up(milliseconds):
    seconds = milliseconds / 1000
    assert 0 <= seconds - times.parse(times.stamp(seconds)) < 1
    assert 0 <= times.parse(times.deadline_stamp(seconds)) - seconds < 1


def test_what_is_no_timestamp_is_none():
    assert [times.parse(text) for text in (None, "", "yesterday", "2026-13-01T00:00:00Z")] == [None] * 4


def test_a_condition_keeps_its_transition_time_while_its_status_stays():
    first = {"conditions": updated({}, {"Ready": Verdict(False, "Starting", "a")}, generation=1, now=NOW)}
    second = {"conditions": updated(read(first), {"Ready": Verdict(False, "Broken", "b")}, generation=2, now=NOW + 50)}
    third = updated(read(second), {"Ready": Verdict(True, "Running", "c")}, generation=2, now=NOW + 90)
    assert read(second)["Ready"].last_transition_time == times.stamp(NOW)
    assert (read(second)["Ready"].reason, read(second)["Ready"].observed_generation) == ("Broken", 2)
    assert third[0]["lastTransitionTime"] == times.stamp(NOW + 90)


def test_unknown_is_a_status_and_others_stay():
    first = {"conditions": updated({}, {"Ready": Verdict(True, "Running", "a")}, generation=1, now=NOW)}
    both = updated(read(first), {"Active": Verdict(None, "ProbeFailed", "b")}, generation=1, now=NOW)
    assert [(one["type"], one["status"]) for one in both] == [("Ready", "True"), ("Active", "Unknown")]


def test_long_messages_are_cut_where_people_see_it():
    assert clip("x" * 2000) == "x" * 2000
    assert len(clip("x" * 2001)) == 2000
    assert clip("x" * 2001).endswith("...")
