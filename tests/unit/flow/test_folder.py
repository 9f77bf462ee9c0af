"""A flow folder is read as prompt flow reads it, and errors name file, place and way out."""

import codecs
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsession.flow import folder
from flowsession.flow.folder import LARGEST_FLOW_FILE, Flow, FolderError, read
from unit.builders import DAG

REQUIREMENTS = {"requirements.txt": b"pandas\n"}


def dag(text: str, **files: bytes) -> dict[str, bytes]:
    return {"flow.dag.yaml": text.encode(), **files}


def fails(files: dict[str, bytes]) -> FolderError:
    with pytest.raises(FolderError) as caught:
        read(files)
    return caught.value


def test_a_dag_flow():
    assert read({"flow.dag.yaml": DAG}) == Flow(kind="dag", file="flow.dag.yaml", nodes=2, image="", requirements_path=None)


@pytest.mark.parametrize(
    ("files", "kind", "file"),
    [
        ({"flow.dag.yml": DAG}, "dag", "flow.dag.yml"),
        ({"flow.flex.yaml": b"entry: main:run"}, "flex", "flow.flex.yaml"),
        ({"flow.flex.yml": b"entry: main:run"}, "flex", "flow.flex.yml"),
        ({"flow.dag.yaml": b"entry: main:run"}, "flex", "flow.dag.yaml"),
        ({"flow.flex.yaml": DAG}, "dag", "flow.flex.yaml"),
        ({"flow.flex.yaml": b"sample: {}"}, "flex", "flow.flex.yaml"),
        ({"chat.prompty": b"---\nname: chat\n---\n"}, "prompty", "chat.prompty"),
        ({"flow.dag.yaml": DAG, "chat.prompty": b"---\n"}, "dag", "flow.dag.yaml"),
    ],
)
def test_which_flow_it_is(files, kind, file):
    found = read(files)
    assert (found.kind, found.file) == (kind, file)


@pytest.mark.parametrize(
    ("environment", "files", "path"),
    [
        pytest.param("", {}, None, id="nothing asked, nothing there"),
        pytest.param("", REQUIREMENTS, "requirements.txt", id="found by itself"),
        pytest.param("environment: {}\n", REQUIREMENTS, "requirements.txt", id="found by itself with an empty environment"),
        pytest.param("environment:\n", REQUIREMENTS, "requirements.txt", id="found by itself with a null environment"),
        pytest.param("environment: {python_requirements_txt: }\n", REQUIREMENTS, "requirements.txt", id="a null key is an unset one"),
        pytest.param("environment: {python_requirements_txt: ''}\n", REQUIREMENTS, "requirements.txt", id="an empty one too"),
        pytest.param(
            "environment: {python_requirements_txt: env/dev.txt}\n", {"env/dev.txt": b"", **REQUIREMENTS}, "env/dev.txt", id="named wins"
        ),
        pytest.param("environment: {python_requirements_txt: ./dev.txt}\n", {"dev.txt": b""}, "dev.txt", id="dot and slash"),
    ],
)
def test_where_the_requirements_come_from(environment, files, path):
    assert read(dag(f"{environment}nodes: []\n", **files)).requirements_path == path


def test_the_image_that_the_flow_asks_for():
    assert read(dag("environment: {image: ' registry/python:3.12 '}\n")).image == "registry/python:3.12"


@pytest.mark.parametrize("files", [{"flow.flex.yaml": b"entry: a:b", **REQUIREMENTS}, {"chat.prompty": b"---\n", **REQUIREMENTS}])
def test_every_kind_of_flow_finds_its_requirements(files):
    assert read(files).requirements_path == "requirements.txt"


@pytest.mark.parametrize("front", ["---\n{}\n---\nsystem:\nHello\n", "\n---\r\n{}\r\n---\r\n", "-----\n{}\n-----\n"])
def test_a_prompty_asks_by_its_front_matter(front):
    text = front.replace("{}", "environment: {image: 'reg/x:1', python_requirements_txt: dev.txt}\nnodes: [1]")
    found = read({"chat.prompty": text.encode(), "dev.txt": b"", **REQUIREMENTS})
    assert found == Flow(kind="prompty", file="chat.prompty", nodes=None, image="reg/x:1", requirements_path="dev.txt")


@pytest.mark.parametrize("text", ["", "no front matter", "---\n---\n", "---\nenvironment: {image: x}\n", "text\n---\na: [\n---\n"])
def test_a_prompty_without_front_matter_asks_for_nothing(text):
    assert read({"chat.prompty": text.encode()}).image == ""


def test_what_is_wrong_with_a_front_matter_is_told_with_its_line():
    assert "chat.prompty line 3, column " in str(fails({"chat.prompty": b"---\nname: x\na: b: c\n---\n"}))


@pytest.mark.parametrize("plain", ["yes", "no", "on", "off", "y", "1:30", "0b2", "1e", "+.x"])
def test_plain_values_are_those_of_yaml_1_2(plain):
    assert read(dag(f"environment: {{image: {plain}}}\n")).image == plain


@pytest.mark.parametrize("plain", ["true", "False", "12", "0o17", "0x1F", "1_000", "1.5", "1e3", ".5", "-.inf", ".NaN", "2001-01-01"])
def test_what_is_no_text_in_yaml_1_2_is_no_image(plain):
    assert "environment.image is" in str(fails(dag(f"environment: {{image: {plain}}}\n")))


def test_a_key_that_is_there_twice_is_refused_as_prompt_flow_does():
    error = fails(dag("nodes: []\nenvironment: {image: a}\nenvironment: {image: b}\n"))
    assert "flow.dag.yaml line 3, column 1: not YAML: the key 'environment' is there twice" in str(error)


def utf16(text: str) -> bytes:
    return codecs.BOM_UTF16_LE + text.encode("utf-16-le")


@pytest.mark.parametrize(
    "content", [utf16("nodes: []\n"), codecs.BOM_UTF8 + b"nodes: []\n", codecs.BOM_UTF16_BE + "nodes: []\n".encode("utf-16-be")]
)
def test_marked_encodings_are_read(content):
    assert read({"flow.dag.yaml": content}).nodes == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("nodes: [\n  - a: {\n", ["flow.dag.yaml line 2, column ", "not YAML"], id="not YAML"),
        pytest.param("a: b: c\n", ["flow.dag.yaml line 1, column 5: not YAML: mapping values are not allowed"], id="two colons"),
        pytest.param("a: 1\n\tb: 2\n", ["line 2, column 1", "not YAML"], id="a tab"),
        pytest.param("x: 2001-13-45", ["flow.dag.yaml: not YAML: month must be in 1..12"], id="a date that is none"),
        pytest.param("- a\n- b\n", ["flow.dag.yaml is a list, but must be a mapping"], id="a list"),
        pytest.param("just text", ["flow.dag.yaml is a text, but must be a mapping"], id="a text"),
        pytest.param("42", ["flow.dag.yaml is a number"], id="a number"),
        pytest.param("", ["flow.dag.yaml is empty, but must be a mapping with keys such as inputs, outputs and nodes"], id="empty"),
        pytest.param(
            "environment: [a, b]\n", ["environment is a list, but must be a mapping with keys such as image"], id="list for environment"
        ),
        pytest.param("environment: text\n", ["environment is a text"], id="text for environment"),
        pytest.param("environment: true\n", ["environment is true or false"], id="bool for environment"),
        pytest.param("environment: {image: [a]}\n", ["environment.image is a list, but must be the name of an image"], id="list for image"),
        pytest.param("environment: {image: 3.11}\n", ["environment.image is a number"], id="number for image"),
        pytest.param("a: &x [*x]\nenvironment: *y\n", ["line 2", "undefined alias"], id="no such alias"),
    ],
)
def test_what_is_wrong_with_the_flow_file(text, words):
    error = fails(dag(text))
    assert error.reason == "FlowInvalid"
    for word in words:
        assert word in str(error)
    assert "Traceback" not in str(error)


def test_a_requirements_file_that_is_no_name_is_warned_of_as_by_prompt_flow():
    found = read(dag("environment: {python_requirements_txt: [a]}\n", **REQUIREMENTS))
    assert found.requirements_path is None
    assert [(one.file, one.code) for one in found.warnings] == [("flow.dag.yaml", "RequirementsMissing")]
    assert "environment.python_requirements_txt is a list, so nothing is installed; write the name of a file" in found.warnings[0].message


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("conda_file: conda.yaml", "environment.conda_file is not read: put its pip packages into requirements.txt"),
        ("setup_sh: setup.sh", "environment.setup_sh is not read: build what it sets up into an image of yours"),
        ("runtime_image: x", "environment.runtime_image is not read"),
        ("python_requirement_txt: r.txt", "environment.python_requirement_txt is not read: did you mean python_requirements_txt?"),
        ("zzz: [1]", "environment.zzz is not read: image and python_requirements_txt are"),
        ("1: 2", "environment.1 is not read"),
    ],
)
@pytest.mark.parametrize("file", ["flow.dag.yaml", "flow.flex.yaml", "chat.prompty"])
def test_keys_that_a_session_does_not_read_are_told(file, key, words):
    text = f"environment:\n  image: x\n  {key}\n"
    (warning,) = read({file: (f"---\n{text}---\n" if file.endswith(".prompty") else text).encode()}).warnings
    assert (warning.file, warning.code) == (file, "NotRead")
    assert words in warning.message


@pytest.mark.parametrize(
    ("files", "words"),
    [
        pytest.param({}, ["neither flow.dag.yaml nor flow.flex.yaml (it holds: nothing)", "check source and flowPath"], id="nothing"),
        pytest.param({"main.py": b""}, ["it holds: main.py"], id="no flow"),
        pytest.param(
            {"sub/flow.dag.yaml": DAG}, ["it holds: sub/flow.dag.yaml", "set flowPath: there is one in sub"], id="flow in a sub-folder"
        ),
        pytest.param({"a.prompty": b"", "b.prompty": b""}, ["neither", "a.prompty, b.prompty"], id="two prompties"),
        pytest.param({"flow.dag.yaml": DAG, "flow.flex.yaml": b"a: b"}, ["flow.dag.yaml and flow.flex.yaml; keep one"], id="dag and flex"),
        pytest.param({"flow.dag.yaml": DAG, "flow.dag.yml": DAG}, ["flow.dag.yaml and flow.dag.yml; keep one"], id="both endings"),
        pytest.param(
            {"flow.dag.yaml": b"\x89PNG\r\n\x1a\n"}, ["flow.dag.yaml is not text: byte 0 is not utf-8; save it as UTF-8"], id="binary"
        ),
        pytest.param({"flow.dag.yaml": b"ok: \x00\n"}, ["flow.dag.yaml: not YAML"], id="a null byte"),
        pytest.param({"flow.dag.yaml": codecs.BOM_UTF16_LE + b"a"}, ["flow.dag.yaml is not text"], id="half a character"),
        pytest.param({"flow.dag.yaml": "a: b".encode("utf-16-le")}, ["flow.dag.yaml: not YAML"], id="UTF-16 without a mark"),
    ],
)
def test_what_is_wrong_with_the_folder(files, words):
    error = fails(files)
    assert error.reason == "FlowInvalid"
    for word in words:
        assert word in str(error)


def test_two_megabytes_are_not_parsed():
    error = fails({"flow.dag.yaml": b"a: b\n" + b"# padding\n" * 210_000})
    assert "flow.dag.yaml has 2,100,005 bytes; at most 131,072 are read" in str(error)


@pytest.mark.parametrize("value", [b"1,", b"[],", b"{},", b"~,"])
def test_a_file_of_the_largest_size_with_nothing_but_values_is_not_parsed_to_its_end(value):
    """The operator has one thread: all sessions wait while a file is parsed for one."""
    many = b"a: [" + value * ((LARGEST_FLOW_FILE - 10) // len(value)) + b"1]\n"
    assert "more than 20,000 values" in str(fails({"flow.dag.yaml": many}))


def test_a_flow_of_five_hundred_nodes_is_read():
    node = "- {name: n, type: python, source: {type: code, path: step.py}, inputs: {question: '${inputs.q}', top_k: 5}, api: chat}\n"
    text = "environment: {image: 'python:3.12'}\nnodes:\n" + node * 500
    assert 50_000 < len(text) < LARGEST_FLOW_FILE
    flow = read(dag(text))
    assert (flow.nodes, flow.image) == (500, "python:3.12")


def test_what_it_holds_is_named_but_not_all_of_it():
    assert len(str(fails({f"file-{n:04}.py": b"" for n in range(1000)}))) < 400


@pytest.mark.parametrize("depth", [50, 900])
def test_nesting_is_no_crash(depth):
    fails({"flow.dag.yaml": b"a: " + b"[" * depth})


def outcome(function, *arguments):
    """Return the function's result, or the message of a FolderError, which people may see. Any other error fails the test."""
    try:
        return function(*arguments)
    except FolderError as error:
        return str(error)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_flow_or_an_error(content):
    found = outcome(read, {"flow.dag.yaml": content})
    assert isinstance(found, Flow) or found.startswith("flow.dag.yaml")


@given(st.binary(max_size=100).filter(lambda content: outcome(folder.text_of, "r.txt", content).startswith("r.txt is not text")))
def test_what_is_not_text_is_refused_with_the_place(content):
    assert re.match(r"r\.txt is not text: byte \d+ is not [a-z0-9-]+; save it as UTF-8", outcome(folder.text_of, "r.txt", content))


@given(st.text(max_size=50))
def test_what_is_text_is_read(text):
    assert folder.text_of("r.txt", text.encode()) == text.removeprefix("\ufeff")
