"""What is said of the lines of a requirements file before an installer sees them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsession.decide.requirements import review


@pytest.mark.parametrize(
    "line",
    [
        "pandas",
        "pandas==2.3.3",
        "Pandas >= 2, < 3 ; python_version >= '3.9'",
        "scikit_learn[extra,more]~=1.5",
        "pkg @ https://example.com/pkg-1.0-py3-none-any.whl",
        "https://example.com/pkg-1.0.tar.gz",
        "git+https://example.com/repo.git@main#egg=pkg",
        "pandas==2.3.3 --hash=sha256:abc --hash=sha256:def",
        "pandas  # why not",
        "promptflow",
    ],
)
def test_good_lines_count_and_are_not_judged(line):
    found = review(line)
    assert (found.count, found.errors, found.warnings) == (1, (), ())


@pytest.mark.parametrize(
    "line", ["--index-url https://example.com", "-r other.txt", "-c constraints.txt", "--pre", "-f https://example.com/x"]
)
def test_options_are_the_installers_affair(line):
    assert review(line) == review("")


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("pandas ==", "InvalidRequirement", ["'pandas =='", "write name==version"]),
        ("two words", "InvalidRequirement", ["'two words'"]),
        ("pandas=1.0", "InvalidRequirement", ["'pandas=1.0'"]),
        ("!", "InvalidRequirement", ["'!'"]),
        ("./local", "LocalPath", ["./local", "publish it to an index"]),
        ("../up", "LocalPath", ["build it into your image"]),
        ("/abs/pkg.whl", "LocalPath", ["/abs/pkg.whl"]),
        ("file:///abs/pkg.whl", "LocalPath", ["local file"]),
        ("wheels/pkg-1.0-py3-none-any.whl", "LocalPath", ["local file"]),
        ("-e .", "Editable", ["editable", "build it into your image"]),
        ("--editable=./pkg", "Editable", ["editable"]),
        ("-f ./wheels", "LocalPath", ["local folder"]),
        ("--find-links=/wheels", "LocalPath", ["local folder"]),
    ],
)
def test_bad_lines_are_named_with_the_way_out(line, code, words):
    found = review(f"numpy\n\n{line}\n")
    assert [(finding.line, finding.code) for finding in found.errors] == [(3, code)]
    for word in words:
        assert word in found.errors[0].message


@pytest.mark.parametrize("line", ["promptflow==1.18.5", "promptflow-tools>=1", "PromptFlow_Core<2"])
def test_a_pinned_prompt_flow_is_warned_of(line):
    (warning,) = review(line).warnings
    assert (warning.line, warning.code) == (1, "PinnedPromptflow")
    assert "remove the version" in warning.message


@pytest.mark.parametrize("text", ["", "\n\n", "# only\n  # comments\n", "\\\n", "   \n\t\n"])
def test_nothing_is_nothing(text):
    assert review(text).count == 0
    assert review(text).errors == ()


def test_a_continued_line_has_the_number_of_its_first():
    found = review("numpy\npandas \\\n  == \\\n  \nscipy\n")
    assert [finding.line for finding in found.errors] == [2]
    assert found.count == 3


def test_an_address_keeps_its_fragment():
    assert review("git+https://example.com/r.git#egg=x\nx#y\n").errors[0].line == 2


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end(end):
    assert [finding.line for finding in review(end.join(["a", "b ==", "c"])).errors] == [2]


@given(st.text(max_size=300))
def test_never_raises_and_places_are_right(text):
    found = review(text)
    last = len(text.splitlines())
    assert all(1 <= finding.line <= last for finding in (*found.errors, *found.warnings))
    assert found.count >= len({finding.line for finding in found.errors if finding.code == "InvalidRequirement"})


@given(st.lists(st.sampled_from(["pandas", "numpy>=1", "scipy==1.0"]), max_size=20), st.sampled_from(["\n", "\r\n"]))
def test_every_good_line_counts_once(lines, end):
    assert review(end.join(lines)).count == len(lines)
