"""A flow file means the same to the operator as to ruamel.yaml, with which prompt flow reads it."""

from collections import Counter
from collections.abc import Mapping
from io import StringIO
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.comments import TaggedScalar

from flowsession.flow import yaml as flowyaml
from flowsession.flow.yaml import FolderError

pytestmark = pytest.mark.filterwarnings("ignore::ruamel.yaml.error.MantissaNoDotYAML1_1Warning")

REFUSED = ("refused",)
SEEN: Counter[str] = Counter()


def upstream(text: str) -> Any:
    """Read it as promptflow-core's `load_yaml` does (1.18.5)."""
    yaml = YAML()
    yaml.preserve_quotes = True
    try:
        return canonical(yaml.load(StringIO(text)))
    except Exception:
        return REFUSED  # whatever it raises: prompt flow doesn't run what it can't read


def ours(text: str) -> Any:
    try:
        return canonical(flowyaml.document("flow.dag.yaml", text.encode()))
    except FolderError:
        return REFUSED


def canonical(value: Any) -> Any:
    """Return the value with its type, so that True, 1 and 1.0 differ, and without a number's notation."""
    if isinstance(value, TaggedScalar):
        value = value.value
    if isinstance(value, Mapping):
        return "mapping", frozenset((canonical(key), canonical(inner)) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return "list", tuple(map(canonical, value))
    kind = next((kind for kind in (bool, int, float, str) if isinstance(value, kind)), None)
    if kind is not None:
        return kind.__name__, "nan" if value != value else kind(value)  # noqa: PLR0124
    return "other", value.isoformat().replace("Z", "+00:00") if hasattr(value, "isoformat") else str(value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("08", 8),
        ("010", 10),
        ("-010", -10),
        ("0o10", 8),
        ("0b11", 3),
        ("0x1F", 31),
        ("1_000", 1000),
        ("+.5", 0.5),
        (".5e3", ".5e3"),
        ("1e3", 1000.0),
        ("1:30", "1:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("yes", "yes"),
        ("Off", "Off"),
        ("TRUE", True),
        ("~", None),
        ("=", "="),
        ("<<", "<<"),
        ("!secret x", "x"),
        ("{{name}}", {"{'name': None}": None}),
    ],
)
def test_a_plain_value_means_what_it_means_to_prompt_flow(written, meant):
    found = flowyaml.document("f", f"default: {written}\n".encode())["default"]
    found = {str(key): inner for key, inner in found.items()} if isinstance(found, dict) else found
    assert (found, type(found)) == (meant, type(meant))
    assert ours(f"default: {written}\n") == upstream(f"default: {written}\n")


@pytest.mark.parametrize(
    "text",
    [
        "1: a\n'1': b\n",
        "yes: a\ntrue: b\n",
        "08: a\n'08': b\n",
        "? [a, b]\n: 1\n",
        "? {a: 1}\n: 1\n",
        "%YAML 1.1\n---\na: [yes, 010, 08, '1:30', 1:30, y, 0o7, 1:30.5]\n",
        "%YAML 1.2\n---\na: [yes, 010, 08, '1:30', 1:30, y, 0o7]\n",
        "top: {in: {most: &b {<<: {k: 0}, k: 1}}}\nlast: {<<: *b}\n",
        "a: &a {x: 1, y: 2}\nb: &b {y: 3}\nc: {<<: [*a, *b], x: 0}\nd: {<<: *a, <<: *b}\n",
        "a: &a {x: 1, y: 2}\nb: &b {y: 3}\nc: {<<: [*a, *b], x: 0}\n",
        "a: 1\n0x1: b\n1: c\n",
        "true: a\n1: b\n",
        "null: a\n~: b\n",
        "1: a\n1.0: b\n",
        "[a]: 1\n[a]: 2\n",
        "a: 2024-02-30\n",
        "a: 2024-02-29T10:00:00+02:00\nb: 2024-02-29 1:2:3.5 Z\nc: 2024-1-1\n",
        "a: !!int '08'\nb: !!float 1\nc: !!bool yes\nd: !!null x\ne: !!str 5\n",
        "a: !!python/object/apply:os.system [x]\n",
    ],
)
def test_a_document_is_read_as_prompt_flow_reads_it(text):
    assert ours(text) == upstream(text)


WORDS = "true True TRUE tRUE false yes Yes no on off y n null Null ~ .inf -.INF .nan -.nan = << 1e5 08 010 0o17 a b c 1 0x1 1.0 01 8"
QUOTED = ["''", "'1'", '"1"', "'08'", "${inputs.a}", "a b", "é 世界", '"\\x41\\n"', "'it''s'"]
DAY, TIME = r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}", r"[Tt ][0-9]{1,2}:[0-9]{2}:[0-9]{2}(\.[0-9]{0,3})?( ?Z|[-+][0-9]{1,2})?"
SCALARS: st.SearchStrategy[str] = st.one_of(
    st.text("0123456789_.-+eExXobBaAfF:", min_size=1, max_size=8),
    st.from_regex(r"[-+]?(0[box]?)?[0-9a-f_]{0,6}(\.[0-9_]{0,3})?([eE][-+]?[0-9]{0,3})?", fullmatch=True),
    st.from_regex(f"{DAY}({TIME})?", fullmatch=True),
    st.sampled_from(WORDS.split()),
    st.sampled_from(QUOTED),
).filter(lambda text: text.strip(":") == text != "")
"""Excludes empty scalars, which libyaml does not accept as keys, and scalars with colons at their ends, which libyaml and ruamel.yaml read
differently inside brackets."""


@settings(max_examples=700, deadline=None, derandomize=True, database=None)
@given(SCALARS)
def test_generated_values_mean_the_same(scalar):
    for text in (f"a: {scalar}\n", f"a: [{scalar}, {scalar}]\n", f"{scalar}: a\n'{scalar.replace(chr(39), '')}': b\n"):
        expected = upstream(text)
        SEEN["value refused" if expected is REFUSED else "value read"] += 1
        assert ours(text) == expected, text


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Draw a mapping in block style with flow style, anchors, aliases, merge keys, comments and block scalars in it."""
    anchors: list[str] = []

    def flow(depth: int) -> str:
        kind = draw(st.integers(0, 4 if depth else 2))
        if kind <= 2:
            return draw(SCALARS) if draw(st.integers(0, 5)) or not anchors else f"*{draw(st.sampled_from(anchors))}"
        if kind == 3:
            return f"[{', '.join(flow(depth - 1) for _ in range(draw(st.integers(0, 3))))}]"
        return f"{{{', '.join(f'{draw(SCALARS)}: {flow(depth - 1)}' for _ in range(draw(st.integers(0, 3))))}}}"

    lines = [f"%YAML {draw(st.sampled_from(['1.1', '1.2']))}", "---"] if draw(st.integers(0, 5)) == 0 else []
    indent = 0
    for number in range(draw(st.integers(1, 6))):
        key = draw(SCALARS) if draw(st.booleans()) else f"k{number}"
        here = " " * indent
        if draw(st.integers(0, 6)) == 0:
            lines.append(f"{here}# a comment")
        form = draw(st.integers(0, 6))
        if form == 0:
            anchors.append(f"m{number}")
            lines.append(f"{here}k{number}: &m{number} {{x: {draw(SCALARS)}, y{number}: {draw(SCALARS)}}}")
        elif form == 1 and anchors:
            lines.append(f"{here}k{number}: {{<<: *{draw(st.sampled_from(anchors))}, x: {draw(SCALARS)}}}")
        elif form == 2:
            lines += [f"{here}{key}: {draw(st.sampled_from(['|', '>', '|-', '>+', '|2']))}", f"{here}  08", f"{here}   more", ""]
        elif form == 3:
            lines += [f"{here}{key}:", *(f"{here}- {flow(1)}" for _ in range(draw(st.integers(0, 2))))]
        elif form == 4:
            lines.append(f"{here}k{number}:")
            indent += 2
        else:
            lines.append(f"{here}{key}: {flow(2)}")
    return "\n".join(lines) + "\n"


@settings(max_examples=400, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(documents())
def test_generated_documents_mean_the_same(text):
    expected = upstream(text)
    SEEN["document refused" if expected is REFUSED else "document read"] += 1
    assert ours(text) == expected, text


INCLUDES = ["", "additional_includes: [../a]\n", "additional_includes: &a [../a]\n", "? additional_includes\n: [../a]\n"]


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    documents(),
    st.sampled_from(INCLUDES),
)
def test_what_is_written_without_its_includes_means_the_same(text, includes):
    text = text + includes
    try:
        values = flowyaml.document("f", text.encode())
    except FolderError:
        return
    written = flowyaml.with_empty_list("f", text.encode(), "additional_includes", values)
    expected = canonical({**values, "additional_includes": []}) if includes else canonical(values)
    if includes or written.decode() != text:
        expected = canonical({**values, "additional_includes": []})
    assert ours(written.decode()) == upstream(written.decode()) == expected, text


def test_the_examples_show_something() -> None:
    """Runs after the tests above. Examples that are all refused, or all read, would prove nothing."""
    assert SEEN["value read"] > 600 and SEEN["document read"] > 150, SEEN
    assert SEEN["value refused"] > 50 and SEEN["document refused"] > 20, SEEN
