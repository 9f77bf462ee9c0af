"""additional_includes are merged as prompt flow merges them, and nothing from outside the source is ever included."""

import io
import re
import zipfile

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flowsession.flow import includes
from flowsession.flow import yaml as flowyaml
from flowsession.flow.yaml import FolderError
from flowsession.model.resolved import Resolved, Unresolved
from unit.builders import from_folder

SOURCE = {
    "flows/chat/main.py": b"flow",
    "flows/chat/data/a.csv": b"flow",
    "shared/util.py": b"shared",
    "shared/.hidden": b"hidden",
    "shared/deep/er/x.txt": b"x",
    "lib/util.py": b"lib",
    "requirements.txt": b"pandas\n",
    "odd/data": b"a file",
    "odd/main.py/inner": b"a folder",
    "we[i]rd*.txt": b"literal",
    "ready.zip": b"PK",
    "ready/x": b"not this",
}
FLOW = "flow.dag.yaml"


def merge(*entries, folder="flows/chat", source=SOURCE):
    return includes.merge(source, folder, entries, file=FLOW)


def brought(*entries, **fields):
    """Return what the entries add to the flow folder."""
    merged = merge(*entries, **fields)
    own = {"main.py": b"flow", "data/a.csv": b"flow"}
    return {name: content for name, content in merged.files.items() if own.get(name) != content}


def refused(*entries, **fields):
    with pytest.raises(FolderError) as caught:
        merge(*entries, **fields)
    assert caught.value.reason == "FlowInvalid"
    return str(caught.value)


@pytest.mark.parametrize(
    ("entry", "files"),
    [
        pytest.param("../../requirements.txt", {"requirements.txt": b"pandas\n"}, id="a file by its base name"),
        pytest.param("../../shared/deep/er/x.txt", {"x.txt": b"x"}, id="a deep file"),
        pytest.param(
            "../../shared",
            {"shared/util.py": b"shared", "shared/.hidden": b"hidden", "shared/deep/er/x.txt": b"x"},
            id="a whole folder, hidden files too",
        ),
        pytest.param("../../shared/deep/", {"deep/er/x.txt": b"x"}, id="a slash at the end"),
        pytest.param(".././../shared/./deep//er", {"er/x.txt": b"x"}, id="dots and doubled slashes"),
        pytest.param("../../nowhere/../requirements.txt", {"requirements.txt": b"pandas\n"}, id="through a folder that is none"),
        pytest.param("data/a.csv", {"a.csv": b"flow"}, id="from the flow folder itself"),
        pytest.param(".", {"chat/main.py": b"flow", "chat/data/a.csv": b"flow"}, id="the flow folder itself, into itself"),
        pytest.param("../../we[i]rd*.txt", {"we[i]rd*.txt": b"literal"}, id="a file that is called like a pattern"),
        pytest.param("../../ready.zip", {"ready.zip": b"PK"}, id="a zip that is there"),
    ],
)
def test_what_an_entry_brings(entry, files):
    assert brought(entry) == files


def test_a_folder_around_the_flow_comes_in_with_the_flow_in_it():
    assert set(brought("..")) == {"flows/chat/main.py", "flows/chat/data/a.csv"}


def test_a_folder_is_zipped_when_the_zip_is_not_there():
    found = brought("../../shared.zip")
    packed = zipfile.ZipFile(io.BytesIO(found["shared.zip"]))
    assert packed.namelist() == ["shared/", "shared/.hidden", "shared/deep/er/x.txt", "shared/util.py"]
    assert packed.read("shared/util.py") == b"shared"
    assert brought("../../shared.zip") == found, "the same files give the same bytes, or every look would be a change"


def test_the_last_one_wins_and_each_replacement_is_told():
    merged = merge("../../shared/util.py", "../../lib/util.py", "../../lib/util.py", "data/a.csv")
    assert merged.files["util.py"] == b"lib"
    assert [(found.entry, found.files) for found in merged.duplicates] == [("../../lib/util.py", ("util.py",))] * 2
    assert merged.count == 4


def test_folders_of_one_name_are_merged_file_by_file():
    source = {**SOURCE, "other/data/b.csv": b"b", "other/data/a.csv": b"new"}
    merged = merge("../../other/data", source=source)
    assert (merged.files["data/a.csv"], merged.files["data/b.csv"]) == (b"new", b"b")
    assert merged.duplicates[0].files == ("data/a.csv",)


def test_a_file_called_like_a_folder_of_the_flow_goes_into_it_as_upstream_has_it():
    assert brought("../../odd/data") == {"data/data": b"a file"}


def test_the_flow_folder_may_be_the_source():
    source = {"main.py": b"", "shared/util.py": b"u"}
    assert brought("shared/util.py", folder=".", source=source)["util.py"] == b"u"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("/etc/passwd", ["'/etc/passwd' is an absolute path", "put it into the source"]),
        ("//etc/passwd", ["absolute"]),
        ("C:\\data", ["absolute"]),
        ("\\\\server\\share", ["absolute"]),
        ("../../../x", ["'../../../x' leads out of the source", "spec.flowPath"]),
        ("../../../../../../etc/hostname", ["leads out"]),
        ("../../../source/requirements.txt", ["leads out"]),
        ("a/../../../../x", ["leads out"]),
        ("../..", ["is the whole source", "name the folders"]),
        ("../../nope.txt", ["'../../nope.txt' is not in the source", "the source holds: flows, lib, odd", "correct the path"]),
        ("../../shared/nope.txt", ["shared holds: .hidden, deep, util.py"]),
        ("../../requirements.txt/x", ["requirements.txt holds: one file"]),
        ("../../*.py", ["patterns are not expanded: name each file, or the folder"]),
        ("../../shared/util.p?", ["patterns are not expanded"]),
        ("..\\..\\shared", ["write / instead of \\"]),
        ("../../nope.zip", ["is not in the source"]),
        ("../../requirements.zip", ["is not in the source"]),
        ("../../odd/main.py", ["its folder 'main.py' is a file of the flow", "rename one of them"]),
        ("~/x", ["is not in the source"]),
        ("a\0b", ["is not in the source"]),
    ],
)
def test_what_cannot_be_included_is_refused_by_name(entry, words):
    message = refused("data/a.csv", entry)
    for word in words:
        assert word in message, message
    assert includes.KEY in message


def test_an_entry_of_any_length_gives_a_short_message():
    assert len(refused("x" * 5000)) < 400


def test_a_link_comes_in_under_the_name_of_what_it_points_at_as_upstream_has_it():
    source = {"flow/main.py": b"", "real/a.txt": b"a", "link/a.txt": b"a", "alias.txt": b"a", "top.txt": b"t"}
    links = {"link": "real", "alias.txt": "real/a.txt"}

    def brought(entry):
        return set(includes.merge(source, "flow", [entry], file=FLOW, links=links).files) - {"main.py"}

    assert brought("../link") == {"real/a.txt"}
    assert brought("../alias.txt") == {"a.txt"}
    assert brought("../link/../top.txt") == {"top.txt"}


def test_a_file_into_a_folder_that_holds_a_folder_of_that_name_is_refused():
    source = {**SOURCE, "flows/chat/data/data/x": b""}
    assert "'data' and 'data/data' are folders" in refused("../../odd/data", source=source)


def test_the_same_folder_over_and_over_is_stopped():
    source = {"flow/x": b"", **{f"many/{n}": b"" for n in range(1000)}}
    assert "more than 10,000 files are copied" in refused(*["../many"] * 11, folder="flow", source=source)


def test_zipping_is_bounded_in_files_and_in_bytes():
    source = {"flow/x": b"", **{f"many/{n}": b"" for n in range(2001)}, "large/a/x": b"x" * 5_000_000}
    assert "more than 2,000 files or 8,388,608 bytes are zipped" in refused("../many.zip", folder="flow", source=source)
    assert "are zipped; pack the folder beforehand" in refused("../large.zip", "../large/a.zip", folder="flow", source=source)
    assert merge(*["../large.zip"] * 500, folder="flow", source=source).count == 500, "each folder is zipped once"


def test_what_grows_beyond_what_a_session_takes_is_refused():
    source = {"flow/x": b"", "a/b/c/d/e/f/g/h/i/large": b"x" * 1_000_000}
    nested = ["../a" + "/b/c/d/e/f/g/h/i"[: 2 * n] for n in range(9)]
    assert "9,000,000 bytes; a session takes 8,388,608" in refused(*nested, folder="flow", source=source)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("../shared", "additional_includes is a text, but must be a list of paths"),
        ({"a": 1}, "is a mapping, but must be a list"),
        ([1], "entry 1 of additional_includes is a number, but must be a path; put it in quotes"),
        (["x", None], "entry 2 of additional_includes is empty"),
        (["x", True], "entry 2 of additional_includes is true or false"),
        ([{"type": "artifact"}], "entry 1 of additional_includes is a mapping; packages of a feed are not fetched"),
    ],
)
def test_what_is_no_list_of_paths(value, words):
    with pytest.raises(FolderError, match=re.escape(words)):
        includes.named_by(FLOW, value)


@pytest.mark.parametrize("value", [None, []])
def test_nothing_is_included_where_nothing_is_named(value):
    assert includes.named_by(FLOW, value) == ()


NAMES = st.sampled_from(["a", "b", "c.zip", "flow", "..", ".", "", "*", "x.txt", "/", "d"])
PATHS = st.lists(NAMES, min_size=1, max_size=6).map("/".join)


@given(st.lists(PATHS, max_size=4), st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3).map("/".join), max_size=6))
def test_nothing_but_the_sources_files_ever_comes_in(entries, names):
    leaves = {f"{name}.txt": name.encode() for name in names}
    source = {"flow/main.py": b"main", **leaves}
    try:
        merged = merge(*entries, folder="flow", source=source)
    except FolderError:
        return
    assert merged.files["main.py"] == b"main"
    assert all(".." not in name.split("/") and not name.startswith("/") for name in merged.files)
    assert {content for name, content in merged.files.items() if not name.endswith(".zip")} <= set(source.values())


# -- in an environment


def keys(**texts):
    """Return a ConfigMap's keys, with `__` for `/`, and the items that map the keys to their paths."""
    files = {name: text.encode() for name, text in texts.items()}
    return files, {"items": [{"key": name, "path": name.replace("__", "/")} for name in files]}


def resolve(flow_path="flow", **texts):
    files, config_map = keys(**texts)
    return from_folder(files, configMap=config_map, flowPath=flow_path)


def test_includes_are_merged_before_the_requirements_are_read():
    found = resolve(
        **{"flow__flow.dag.yaml": "additional_includes: [../requirements.txt]\nnodes: []\n", "requirements.txt": "pandas\nnumpy\n"}
    )
    assert (found.requirements_count, found.requirements_path, found.flow.includes) == (2, "requirements.txt", 1)


def test_a_named_requirements_file_may_come_from_an_include():
    dag = "additional_includes: [../env]\nenvironment: {python_requirements_txt: env/dev.txt}\n"
    found = resolve(**{"flow__flow.dag.yaml": dag, "env__dev.txt": "pandas\n"})
    assert (found.requirements_count, found.requirements_path) == (1, "env/dev.txt")


def test_the_session_gets_the_merged_folder_without_the_key():
    """With the key, prompt flow in the session would look for the includes again, where they don't exist."""
    dag = "# my flow\nadditional_includes:  # shared\n- ../x.py  # one\n\nnodes: []  # none\n"
    found = resolve(**{"flow__flow.dag.yaml": dag, "x.py": "1"})
    assert dict(found.files) == {"flow.dag.yaml": b"# my flow\nadditional_includes: []  # one\n\nnodes: []  # none\n", "x.py": b"1"}


def test_a_duplicate_is_a_warning_in_the_status():
    found = resolve(**{"flow__flow.dag.yaml": "additional_includes: [../x.py]\n", "x.py": "1", "flow__x.py": "2"})
    (warning,) = found.warnings
    assert (warning.file, warning.code) == ("x.py", "DuplicateInclude")
    assert "'../x.py' replaces x.py of the flow folder; the last one wins" in warning.message
    assert found.files["x.py"] == b"1"


def test_there_are_never_more_warnings_than_a_status_has_room_for():
    dag = f"additional_includes: [{', '.join(['../x.py'] * 80)}]\n"
    found = resolve(**{"flow__flow.dag.yaml": dag, "x.py": "1"})
    assert len(found.warnings) == 50
    assert found.warnings[-1].message == "30 more warnings are not shown"


def test_an_include_may_bring_another_flow_file_whose_own_includes_are_not_followed():
    other = "environment: {image: other:1}\nadditional_includes: [../nowhere]\n"
    found = resolve(**{"flow__flow.dag.yaml": "additional_includes: [../o/flow.dag.yaml]\n", "o__flow.dag.yaml": other})
    assert isinstance(found, Resolved)
    assert (found.base_image, found.flow.includes) == ("other:1", 1)
    assert b"nowhere" not in found.files["flow.dag.yaml"]


def test_an_include_that_brings_a_second_flow_file_is_refused():
    found = resolve(**{"flow__flow.dag.yaml": "additional_includes: [../flow.flex.yaml]\n", "flow.flex.yaml": "entry: a:b\n"})
    assert isinstance(found, Unresolved)
    assert (found.reason, "keep one of them" in found.message) == ("FlowInvalid", True)


def test_a_prompty_has_no_includes():
    found = resolve(**{"flow__chat.prompty": "---\nadditional_includes: [../nowhere]\n---\n"})
    assert (found.flow.kind, found.flow.includes) == ("prompty", None)


def test_a_flex_flow_has():
    found = resolve(**{"flow__flow.flex.yaml": "entry: main:run\nadditional_includes: [../main.py]\n", "main.py": ""})
    assert (found.flow.kind, found.flow.includes, set(found.files)) == ("flex", 1, {"flow.flex.yaml", "main.py"})


def test_an_include_that_cannot_be_is_named_in_the_condition():
    found = resolve(**{"flow__flow.dag.yaml": "additional_includes: [../../x.py]\n"})
    assert (found.reason, "'../../x.py' leads out of the source" in found.message) == ("FlowInvalid", True)


def test_files_beside_the_flow_folder_change_nothing_unless_they_are_included():
    dag = {"flow__flow.dag.yaml": "additional_includes: [../x.py]\n", "x.py": "1"}
    first = resolve(**dag)
    assert resolve(**dag, **{"y.py": "1"}).flow_revision == first.flow_revision
    assert resolve(**{**dag, "x.py": "2"}).flow_revision != first.flow_revision


# -- removing the key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("additional_includes: [a, b]\nx: 1\n", "additional_includes: []\nx: 1\n"),
        ("{x: 1, additional_includes: [a], y: 2}", "{x: 1, additional_includes: [], y: 2}"),
        ("x: 1\nadditional_includes:\n  - a\n  - |\n    b\ny: 2\n", "x: 1\nadditional_includes: []\ny: 2\n"),
        ("additional_includes:\n  - a", "additional_includes: []"),
        ("'additional_includes': ['é']\nü: é  # ö\n", "'additional_includes': []\nü: é  # ö\n"),
        ("x: &a [b]\nadditional_includes: *a\ny: 1\n", "x: &a [b]\nadditional_includes: []\ny: 1\n"),
        ("x: {additional_includes: [z]}\nadditional_includes: [a]\n", "x: {additional_includes: [z]}\nadditional_includes: []\n"),
        ("x: [additional_includes]\nadditional_includes: [a]\n", "x: [additional_includes]\nadditional_includes: []\n"),
        ("additional_includes: &a [b]\ny: *a\n", "additional_includes: []\ny:\n- b\n"),
        ("? additional_includes\n: [a]\nx: 1\n", "additional_includes: []\nx: 1\n"),
    ],
)
def test_the_key_is_emptied_and_the_rest_stays_as_it_was_written(text, expected):
    values = flowyaml.document(FLOW, text.encode())
    assert flowyaml.with_empty_list(FLOW, text.encode(), includes.KEY, values).decode() == expected


VALUES = st.recursive(st.text("ab \n:#-'\"é", max_size=6) | st.integers() | st.none(), lambda v: st.lists(v, max_size=3), max_leaves=6)


@given(
    st.dictionaries(st.text("abc", max_size=3), VALUES, max_size=4),
    st.lists(st.text("ab./ \n#'é", min_size=1, max_size=6), min_size=1, max_size=4),
    st.sampled_from([True, False, None]),
    st.integers(0, 4),
)
def test_whatever_is_around_it_reads_the_same_after(values, entries, style, place):
    items = list(values.items())
    document = dict([*items[:place], (includes.KEY, entries), *items[place:]])
    text = yaml.safe_dump(document, default_flow_style=style, sort_keys=False, allow_unicode=True)
    read = flowyaml.document(FLOW, text.encode())
    after = flowyaml.with_empty_list(FLOW, text.encode(), includes.KEY, read)
    assert flowyaml.document(FLOW, after) == {**read, includes.KEY: []}
