"""Every answer of an agent is treated as hostile: parsing cuts it down to views of bounded size, and never raises."""

import json
import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsession.cluster.agent import answers
from flowsession.cluster.agent.transport import AgentError, parsed
from flowsession.engine.manifests import packages_in
from flowsession.model.agent_views import AgentState, InstallView

GOOD = {
    "bootID": "boot",
    "version": 7,
    "environment": {"packagesRevision": "p", "flowRevision": "f"},
    "install": {
        "state": "Succeeded",
        "packagesRevision": "p",
        "tool": "uv",
        "exitCode": 0,
        "seconds": 3.2,
        "changed": 12,
        "warnings": ["w"],
    },
    "activity": {"busy": False, "idleSeconds": 12.3, "what": "exec python train.py"},
    "packages": {"count": 171},
    "retired": False,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*GOOD, *GOOD["install"], *GOOD["activity"], "name"]), inner)
    ),
    max_leaves=20,
)


def test_a_good_answer_is_read_in_full():
    found = answers.state(GOOD)
    assert (found.version, found.packages_revision, found.flow_revision) == (7, "p", "f")
    assert (found.busy, found.idle_seconds, found.what, found.packages, found.retired) == (False, 12.3, "exec python train.py", 171, False)
    assert found.install == InstallView("Succeeded", "p", "uv", 0, 3.2, 12, warnings=("w",))


def test_an_empty_answer_says_nothing():
    found = answers.state({})
    assert (found.busy, found.retired, found.install.state, found.packages_revision) == (False, False, "None", "")


@given(st.dictionaries(st.sampled_from(list(GOOD)), JSON))
def test_any_json_is_a_state_of_bounded_size(document):
    found = answers.state(document)
    assert isinstance(found, AgentState)
    assert len(repr(found)) < 100_000
    assert 0 <= found.idle_seconds < math.inf
    assert found.version >= 0
    json.dumps([getattr(found.install, part.name) for part in fields(found.install)], allow_nan=False)


@given(JSON)
def test_any_json_is_a_list_of_packages(value):
    found = answers.packages({"packages": value})
    assert found.count >= 0
    json.loads(found.document)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3.5, 3.5),
        (7, 7.0),
        (0, 0.0),
        (-1, 0.0),
        (math.nan, 0.0),
        (math.inf, 1e12),
        (-math.inf, 0.0),
        (1e300, 1e12),
        (10**30, 1e12),
        (True, 0.0),
        ("5", 0.0),
        (None, 0.0),
        ([5], 0.0),
        ({}, 0.0),
    ],
)
def test_numbers(value, expected):
    assert answers.number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "plain"),
        ("x" * 50, "x" * 10),
        ("a\nb\tc", "a\nb\tc"),
        ("a\x1b[31mb", "a[31mb"),
        ("a\x00b", "ab"),
        ("\u202eabc", "abc"),
        ("\ud800x", "x"),
        (5, ""),
        (None, ""),
        (["a"], ""),
        (b"a", ""),
    ],
)
def test_texts(value, expected):
    assert answers.text(value, 10) == expected


@pytest.mark.parametrize("value", ["true", 1, "yes", [True], {"a": 1}, None])
def test_only_true_is_true(value):
    """A retirement counts only if the answer plainly says so."""
    found = answers.state({"retired": value, "activity": {"busy": value}})
    assert (found.retired, found.busy) == (False, False)


def test_huge_texts_and_lists_are_cut():
    huge = "x" * 10_000_000
    install = {
        "state": huge,
        "message": huge,
        "stdoutTail": huge,
        "stderrTail": huge,
        "tool": huge,
        "code": huge,
        "warnings": [huge] * 1000,
    }
    found = answers.state({"bootID": huge, "install": install, "activity": {"what": huge}, "environment": {"packagesRevision": huge}})
    assert len(repr(found)) < 25_000
    assert len(found.install.stdout_tail) == 4000
    assert (len(found.install.warnings), len(found.install.warnings[0])) == (20, 500)
    assert found.install.state == "None"


@pytest.mark.parametrize("code", ["1", 1.5, None, 2**31, -(2**40)])
def test_an_exit_code_that_is_none(code):
    assert answers.state({"install": {"exitCode": code}}).install.exit_code is None


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"5", b"null", b"\xff", b'{"a":' * 100_000, b"[" * 100_000, b"1" * 10_000])
def test_what_is_no_json_object_is_an_error_in_words(raw):
    with pytest.raises(AgentError, match="its answer is not"):
        parsed(raw)


# -- the list of packages


def test_the_table_and_the_document():
    found = answers.packages(
        {
            "packages": [
                {"name": "numpy", "version": "2.1", "layer": "dependency", "requiredBy": ["pandas", "scipy"]},
                {"name": "pandas", "version": "2.3.3", "layer": "requirements", "replaces": "1.0"},
                {"name": "pip", "version": "24", "layer": "image"},
            ]
        }
    )
    assert found.count == 3
    assert found.table.splitlines() == [
        "PACKAGE  VERSION  FROM",
        "numpy    2.1      dependency of pandas, scipy",
        "pandas   2.3.3    requirements (image had 1.0)",
        "pip      24       image",
    ]
    assert json.loads(found.document)["packages"][0] == {
        "name": "numpy",
        "version": "2.1",
        "layer": "dependency",
        "requiredBy": ["pandas", "scipy"],
    }


@pytest.mark.parametrize("items", [None, 5, "text", {}, [None, 5, "a"]])
def test_a_list_that_is_none_is_empty(items):
    assert answers.packages({"packages": items}).count == 0


def realistic(number: int, *, requiring: int) -> list[dict[str, Any]]:
    """Return packages as PyPI has them: names of 8 to 37 characters, many of them required by others."""
    name = "typing-inspection-azure-storage-blob-x"
    return [
        {
            "name": f"{name[: 3 + n % 30]}-{n:04}",
            "version": f"{n % 50}.{n % 13}.{n % 7}.post{n % 4}",
            "layer": ("image", "dependency", "requirements")[n % 3],
            "requiredBy": [f"{name[: 3 + k % 20]}-{k:04}" for k in range(n, n + n % requiring)],
        }
        | ({"replaces": "1.2.3"} if n % 9 == 1 else {})
        for n in range(number)
    ]


@pytest.mark.parametrize("requiring", [1, 4, 30])
def test_five_thousand_packages_are_listed_in_full(requiring):
    items = realistic(5000, requiring=requiring)
    found = answers.packages({"packages": items})
    document = json.loads(found.document)
    assert (found.count, len(document["packages"]), found.table.count("\n")) == (5000, 5000, 5001)
    assert "truncated" not in document
    assert len(found.table.encode()) + len(found.document.encode()) <= 1024 * 1024
    for item, entry in zip(items, document["packages"], strict=True):
        assert entry.get("requiredBy", [])[:1] == item["requiredBy"][:1]
        assert {**entry, "requiredBy": 0} == {**item, "requiredBy": 0}


def test_as_long_as_there_is_room_all_that_require_a_package_are_named():
    items = realistic(300, requiring=15)
    assert [entry.get("requiredBy", []) for entry in json.loads(answers.packages({"packages": items}).document)["packages"]] == [
        item["requiredBy"] for item in items
    ]


def test_too_many_packages_are_cut_at_whole_ones_and_both_forms_say_how_many_are_missing():
    items = [
        {"name": f"package-{n}" + "x" * 150, "version": "1" * 90, "layer": "evil", "requiredBy": ["y" * 100] * 50} for n in range(50_000)
    ]
    found = answers.packages({"packages": items})
    document, lines = json.loads(found.document), found.table.splitlines()
    shown = len(document["packages"])
    assert found.count == 20_000 == shown + document["truncated"]
    assert shown > 1000
    assert document["packages"][-1]["name"] == items[shown - 1]["name"]
    assert (len(lines), lines[-2].split()[0]) == (shown + 2, items[shown - 1]["name"])
    assert lines[-1] == f"... ({20_000 - shown:,} more; see `flow packages` in the session)"
    assert 950_000 < len(found.table.encode()) + len(found.document.encode()) < 1024 * 1024
    assert packages_in({"data": {"packages.txt": found.table, "packages.json": found.document}}) == 20_000


def test_a_package_is_one_line_whatever_it_is_called():
    found = answers.packages({"packages": [{"name": "a\nPACKAGE\tb", "version": "1\n2", "layer": "image"}]})
    assert found.table.splitlines()[1:] == ["a PACKAGE b  1 2      image"]


def test_long_names_make_no_wide_table():
    found = answers.packages({"packages": [{"name": "x" * 200, "version": "1"}, {"name": "a", "version": "2"}]})
    assert [len(line) for line in found.table.splitlines()] == [40 + 2 + 7 + 2 + 4, 200 + 2 + 7 + 2 + 5, 40 + 2 + 7 + 2 + 5]


@pytest.mark.parametrize(
    ("package", "origin"),
    [
        ({"layer": "requirements", "replaces": "1.0"}, "requirements (image had 1.0)"),
        ({"layer": "dependency", "requiredBy": ["pandas"], "replaces": "1.0"}, "dependency of pandas (image had 1.0)"),
        ({"layer": "dependency", "replaces": "1.0"}, "dependency (image had 1.0)"),
        ({"layer": "requirements"}, "requirements"),
        ({"layer": "image"}, "image"),
    ],
)
def test_what_differs_from_the_image_can_be_read_in_the_table(package, origin):
    found = answers.packages({"packages": [{"name": "numpy", "version": "2.1", **package}]})
    assert found.table.splitlines()[1] == f"numpy    2.1      {origin}"
