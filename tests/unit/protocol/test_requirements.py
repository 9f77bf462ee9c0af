"""Requirement lines as pip reads them, for both sides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from flowsession_protocol import requirements
from flowsession_protocol.requirements import lines, normalise


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("# no\n\n  \n", []),
        ("numpy\r\nscipy", [(1, 1, "numpy"), (2, 2, "scipy")]),
        ("numpy # why\n", [(1, 1, "numpy")]),
        ("x @ https://example.com/x#egg=x\n", [(1, 1, "x @ https://example.com/x#egg=x")]),
        ("x @ https://example.com/x #egg=x\n", [(1, 1, "x @ https://example.com/x")]),
        ("numpy \\\n  ==1.0\nscipy\n", [(1, 2, "numpy   ==1.0"), (3, 3, "scipy")]),
        ("numpy \\\n# no\nscipy\n", [(1, 2, "numpy"), (3, 3, "scipy")]),
        ("numpy # why \\\n==1.0\nscipy\n", [(1, 2, "numpy"), (3, 3, "scipy")]),
        ("# why \\\nnumpy\n", [(2, 2, "numpy")]),
        ("numpy \\", [(1, 1, "numpy")]),
    ],
)
def test_logical_lines_and_where_they_stand(text, found):
    assert [(line.first, line.last, line.text) for line in lines(text)] == found


@pytest.mark.parametrize(
    ("text", "body", "options"),
    [
        ("numpy==1.0 --hash=sha256:00 --hash sha256:11", "numpy==1.0", (("--hash", "sha256:00"), ("--hash", "sha256:11"))),
        ("-rother.txt", "", (("--requirement", "other.txt"),)),
        ("-r 'my other.txt'", "", (("--requirement", "my other.txt"),)),
        ("-c=limits.txt", "", (("--constraint", "limits.txt"),)),
        ("--requirement=a.txt b.txt", "", (("--requirement", "a.txt"), ("", "b.txt"))),
        ("-i https://example.com/simple --pre", "", (("--index-url", "https://example.com/simple"), ("--pre", ""))),
        ("--no-such x -e .", "", (("--no-such", "x"), ("--editable", "."))),
        ("x-y --global-option -a", "x-y", (("--global-option", "-a"),)),
    ],
)
def test_options_by_their_long_names(text, body, options):
    (line,) = lines(text)
    assert (line.body, line.options, line.problem) == (body, options, "")
    assert line.values(options[0][0]) == [value for name, value in options if name == options[0][0]]


@pytest.mark.parametrize(("text", "problem"), [("x --hash", "--hash has no value"), ("-r 'x", "a quotation mark is not closed")])
def test_options_that_cant_be_read(text, problem):
    (line,) = lines(text)
    assert line.problem == problem


@given(st.text(alphabet="aB0-_.", min_size=1))
def test_names_compare_as_packaging_has_it(name):
    assert normalise(name) == canonicalize_name(name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_files_encoding_is_told_by_its_mark(encoding):
    data = "numpy # für\n".encode(encoding)
    assert data.decode(requirements.encoding_of(data)) == "numpy # für\n"
