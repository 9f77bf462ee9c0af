"""Processor time that a stranger's text may cost the operator's one thread: each parser gets the largest and worst input that it allows.

The bound is several times what the worst input takes, and far below what liveness allows.
"""

import contextlib
import time

import pytest

from flowsession.flow import folder, includes, yaml
from flowsession.flow.yaml import FolderError
from flowsession.requirements import review

MOST_SECONDS = 1.5
MANY = {f"{number:06}.txt": b"" for number in range(20_000)}
DEEP = "/".join(["d"] * 500)


def seconds(work, *arguments, **named):
    """Return the processor time of a call, whether or not it refuses its input."""
    began = time.process_time()
    with contextlib.suppress(FolderError):
        work(*arguments, **named)
    return time.process_time() - began


def filled(unit, *, size=review.LARGEST):
    return unit * (size // len(unit))


REQUIREMENTS = [
    *("\n", "\\\n", "a\\\n", "#\n", "\r", "\x0b", "\u2028", "'", "://", "://a@", "=", "a=b=c"),
    *(
        "-i x\n",
        "--trusted-host x\n",
        "--x\n",
        "-e .\n",
        "- \n",
        " -\n",
        "-i 'x'\n",
        "-r x.txt\n",
        "-c 000000.txt\n",
        "-r ${A}\n",
        "-r http://x\n",
    ),
    *("-i ", "a -", "-i '", '-i "\\', "-r ../", "-r a/", "x -i x ", "--hash=sha256:0 ", "a --hash=md5:0 ", "--require-hashes\n", "${A}"),
    *(
        "a\n",
        "a==\n",
        "a==1\n",
        "promptflow==1\n",
        "a --hash=sha256:00\n",
        "${A}\n",
        "a=={A}\n",
        "a @ x://\n",
        "git+x\n",
        "./x\n",
        "a; '1'==\n",
    ),
    *("a --hash='" + "x" * 9_900 + "'\n", "a --hash='x\\\n" * 800 + "'\n", "-i " + "\\x" * 4_990 + "\n", "-i " + "'" * 9_990 + "\n"),
    *("a ; " + "(" * 1_900 + "\n", "a[" + ",".join("x" * 900) + "]\n", "a" + ",".join(["==1"] * 600) + "\n", "a==" + "1." * 900 + "\n"),
    *(
        "a" + " " * 1_900 + "b\n",
        "a ; " + " or ".join(["python_version=='3'"] * 80) + "\n",
        "/".join(["a"] * 900) + "\n",
        "[" * 1_900 + "\n",
    ),
]


@pytest.mark.parametrize("unit", REQUIREMENTS, ids=lambda unit: repr(unit[:24]))
def test_requirements(unit):
    files = {**MANY, "top.txt": b""}
    assert seconds(review.review, filled(unit), path="top.txt", files=files) < MOST_SECONDS


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"a.txt": b"#" * 900_000}, id="one file many times"),
        pytest.param({"a.txt": b"#" * 8_000_000 + b"\xff"}, id="no text"),
        pytest.param(
            {"a.txt": b"-r b0.txt\n", **{f"b{n}.txt": f"-r b{n + 1}.txt\n".encode() + b"-i x\n" * 900 for n in range(49)}}, id="a chain"
        ),
        pytest.param({f"{'a' * 900}{n}.txt": b"" for n in range(20_000)}, id="long names"),
    ],
)
def test_included_requirements(files):
    assert seconds(review.review, filled("-r a.txt\n", size=200_000), path="top.txt", files=files) < MOST_SECONDS


def test_missing_includes_list_the_folder_once_and_end():
    found = review.review("-r nope.txt\n" * 1_000, path="top.txt", files=MANY)
    assert len(found.errors) == review.MOST_ERRORS
    assert "there is no 'nope.txt' in the flow folder (there: 000000.txt, 000001.txt," in found.errors[0].message


INCLUDES = [
    pytest.param({f"x/{DEEP}/{n}.txt": b"" for n in range(3_000)}, ["../x"] * 4, id="deep folders"),
    pytest.param({f"x/{n}.txt": b"" for n in range(3_000)}, ["../x/1.txt"] * 9_999, id="many entries"),
    pytest.param({f"x/{n}.txt": b"x" * 4_000 for n in range(1_900)}, ["../x.zip"], id="a large zip"),
    pytest.param(
        {f"x{m}/{DEEP}/{n}.txt": b"x" * 3_000 for m in range(40) for n in range(49)}, [f"../x{m}.zip" for m in range(40)], id="deep zips"
    ),
    pytest.param({"x/1.txt": b""}, ["a/" * 60_000], id="a long way"),
    pytest.param({"x/1.txt": b""}, ["a/" * 2_000] * 30, id="long ways"),
    pytest.param({"x/1.txt": b""}, ["../x/" * 800] * 25, id="to and fro"),
    pytest.param({"x/1.txt": b""}, ["../y/" * 800] * 25, id="by a link"),
]


@pytest.mark.parametrize(("source", "entries"), INCLUDES)
def test_additional_includes(source, entries):
    def merge():
        includes.merge({**source, "f/flow.dag.yaml": b""}, "f", includes.named_by("f", entries), file="f", links={"y": DEEP})

    assert seconds(merge) < MOST_SECONDS


ANCHORS = "k0: &x0 [1]\n" + "".join(f"k{n}: &x{n} [*x{n - 1}, *x{n - 1}]\n" for n in range(1, 3_000))
FLOWS = [
    *(
        "a: [|1,",
        "a: [|[],",
        "a: [|[",
        "a: [|{a: ",
        "|a: ",
        "|a: b\n",
        "|- ",
        "|? ",
        "|\n",
        "|#\n",
        "|--- ",
        "a: [|&a x,",
        "a: [&a x|,*a",
        "a: {|{a: 1}: 1,",
    ),
    *(
        'a: "|\\x41',
        "a: '|''",
        "a: |1",
        "a: |1_",
        "a: |0x",
        "a: |1.",
        "a: |1:",
        "a: |=",
        "a: |!a ",
        "a: !!binary |AA",
        "a: !!float |1",
        "a: !!int |1",
    ),
    *(
        "a: \\||\n \n",
        "|%TAG ! x\n",
        "a: [|<<,",
        "a: {|<<: {},",
        "|a:\n ",
        "environment: {|a: 1,",
        "environment:\n|  a: x\n",
        "a: |2001-01-01 ",
    ),
    *(
        f"{ANCHORS}additional_includes: []|\n",
        f"{ANCHORS}additional_includes: &q []|\n",
        "additional_includes: [|a,",
        "additional_includes: [|[a],",
    ),
    *("---\n|---     x\n", "|---\n", "|-", "---\n|-", "---\n| "),
]


def opened(name, text):
    content = text.encode()
    flow = folder.open_flow({name: content})
    folder.judge(flow, {name: content})
    entries = includes.named_by(name, flow.values.get(includes.KEY))
    if entries or includes.KEY in flow.values:
        yaml.with_empty_list(name, content, includes.KEY, flow.values)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: repr(flow[-24:]))
@pytest.mark.parametrize("name", ["flow.dag.yaml", "flow.flex.yaml", "chat.prompty"])
def test_flow_files(name, flow):
    """The part after the last | is repeated until the file is full."""
    start, _, unit = flow.replace("\\|", "\0").rpartition("|")
    text = start.replace("\0", "|") + filled(unit, size=yaml.LARGEST - len(start))
    assert seconds(opened, name, text) < MOST_SECONDS
    if name == "chat.prompty":
        assert seconds(opened, name, f"---\n{text[: yaml.LARGEST - 10]}\n---\n") < MOST_SECONDS
