"""Which file is the flow."""

from collections import OrderedDict
from datetime import date

import pytest

from flowsession_protocol import flow_files


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], []),
        (["a.py", "sub/flow.dag.yaml", "sub/chat.prompty"], []),
        (["flow.flex.yml", "flow.dag.yml", "flow.dag.yaml", "chat.prompty"], ["flow.dag.yaml", "flow.dag.yml", "flow.flex.yml"]),
        (["chat.prompty", "a.py"], ["chat.prompty"]),
        (["chat.prompty", "other.prompty"], []),
    ],
)
def test_candidates_by_precedence(names, found):
    assert flow_files.candidates(iter(names)) == found


@pytest.mark.parametrize(
    ("name", "keys", "kind"),
    [
        ("flow.dag.yaml", {"nodes"}, "dag"),
        ("flow.dag.yaml", {"entry"}, "flex"),
        ("flow.flex.yaml", {"nodes"}, "dag"),
        ("flow.flex.yml", {"entry", "nodes"}, "flex"),
        ("flow.flex.yaml", set(), "flex"),
        ("chat.prompty", {"entry"}, "prompty"),
    ],
)
def test_the_kind_is_told_by_a_key_rather_than_the_name(name, keys, kind):
    assert flow_files.kind(name, keys) == kind


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "empty"),
        (True, "true or false"),
        (1, "a number"),
        (1.5, "a number"),
        ("", "a text"),
        ([], "a list"),
        (OrderedDict(), "a mapping"),
        (date(2024, 1, 1), "a date"),
    ],
)
def test_a_value_is_named_in_words(value, said):
    assert flow_files.kind_of(value) == said
