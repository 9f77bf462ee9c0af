"""Reads a flow folder as prompt flow does: which flow it holds, and the image and requirements that it asks for.

The rules are those of promptflow-core's `resolve_flow_path` and promptflow-azure's `Flow._resolve_requirements` (1.18.5).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

DAG_FILES = ("flow.dag.yaml", "flow.dag.yml")
FLEX_FILES = ("flow.flex.yaml", "flow.flex.yml")
LARGEST_FLOW_FILE = 128 * 1024
"""Bytes; prompt flow has no limit, but a parser that runs beside everybody's sessions needs one. Some 70 ms of parsing by libyaml for a
file of real nodes, 600 of them; flows that people write have less than 50 KB."""

MOST_VALUES = 20_000
"""Values, keys and brackets in a flow file: twice as many fit into a file of nothing else, and take 0.3 s."""

LONGEST_NUMBER = 1000
"""Characters of a number, whose reading takes time by the square of its length."""

_NUMBER = re.compile(r"^[-+0-9:._]+$")

MOST_MERGES = 8
"""Merge keys (<<) in a flow file: each may double the work of the one before."""

DEEPEST = 100
"""Levels of nesting in a flow file."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class FolderError(Exception):
    """The folder can't be used. Reason is FlowInvalid or RequirementsRejected; the text says what, where and what to do."""

    def __init__(self, message: str, *, reason: str = "FlowInvalid") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Flow:
    """What a flow folder asks for."""

    kind: str
    file: str
    nodes: int | None
    image: str
    requirements_path: str | None
    """File of the folder that holds the requirements; None: there is none."""


def read(files: Mapping[str, bytes]) -> Flow:
    """The folder's flow. Raises FolderError."""
    file, kind = _flow_file(files)
    if kind == "prompty":
        return Flow(kind=kind, file=file, nodes=None, image="", requirements_path=_automatic(files))
    document = _document(file, files[file])
    environment = document.get("environment")
    if environment is None:
        environment = {}
    if not isinstance(environment, dict):
        raise FolderError(
            f"{file}: environment is {_kind(environment)}, but must be a mapping with keys such as image and python_requirements_txt"
        )
    image = environment.get("image")
    if image is not None and not isinstance(image, str):
        raise FolderError(f"{file}: environment.image is {_kind(image)}, but must be the name of an image")
    nodes = document.get("nodes")
    return Flow(
        kind=kind,
        file=file,
        nodes=len(nodes) if isinstance(nodes, list) else None,
        image=(image or "").strip(),
        requirements_path=_requirements(file, environment.get("python_requirements_txt"), files),
    )


def text_of(name: str, content: bytes) -> str:
    """A file's text: UTF-8, or UTF-16 with a byte order mark, as pip reads it. Raises FolderError."""
    marks = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
    encoding = next((encoding for mark, encoding in marks if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise FolderError(f"{name} is not text: byte {error.start} is not {encoding}; save it as UTF-8") from None


def _flow_file(files: Mapping[str, bytes]) -> tuple[str, str]:
    found = [(name, kind) for names, kind in ((DAG_FILES, "dag"), (FLEX_FILES, "flex")) for name in names if name in files]
    if len(found) > 1:
        raise FolderError(f"the flow folder holds {' and '.join(name for name, _ in found)}; keep one of them")
    if found:
        return found[0]
    prompties = sorted(name for name in files if name.endswith(".prompty") and "/" not in name)
    if len(prompties) == 1:
        return prompties[0], "prompty"
    here = ", ".join(sorted(files)[:10]) or "nothing"
    raise FolderError(f"the flow folder has neither flow.dag.yaml nor flow.flex.yaml (it holds: {here}); check source and flowPath")


def _document(file: str, content: bytes) -> dict[str, Any]:
    if len(content) > LARGEST_FLOW_FILE:
        raise FolderError(f"{file} has {len(content):,} bytes; at most {LARGEST_FLOW_FILE:,} are read: keep data in files of its own")
    text = text_of(file, content)
    try:
        _check_size_of_tree(file, text)
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader, the C one where there is one
    except yaml.MarkedYAMLError as error:
        place = f" line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}" if error.problem_mark else ""
        raise FolderError(f"{file}{place}: not YAML: {error.problem or error.context}") from None
    except (
        yaml.YAMLError,
        ValueError,
        LookupError,
        ArithmeticError,
        AttributeError,
        TypeError,
    ) as error:  # what PyYAML's constructors raise for odd tags
        raise FolderError(f"{file}: not YAML: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from None
    if not isinstance(document, dict):
        raise FolderError(f"{file} is {_kind(document)}, but must be a mapping with keys such as inputs, outputs and nodes")
    return document


def _check_size_of_tree(file: str, text: str) -> None:
    """Looks at the parser's events, which come one by one. Composing them is recursive in C, where deep nesting kills the process; and
    merge keys multiply."""
    depth = merges = aliases = 0
    for number, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if number > MOST_VALUES:
            raise FolderError(f"{file} has more than {MOST_VALUES:,} values; keep data in files of its own")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > LONGEST_NUMBER and _NUMBER.match(event.value) and event.implicit[0]:
            raise FolderError(
                f"{file} line {event.start_mark.line + 1 if event.start_mark else 0}: a number of {len(event.value)} characters"
            )
        merges += isinstance(event, yaml.ScalarEvent) and event.value == "<<"
        aliases += isinstance(event, yaml.AliasEvent)
        if merges > MOST_MERGES or (merges and aliases > 2 * MOST_MERGES):
            raise FolderError(f"{file} has more than {MOST_MERGES} merge keys (<<), or too many aliases beside them; write the values out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise FolderError(f"{file} line {event.start_mark.line + 1 if event.start_mark else 0}: nested more than {DEEPEST} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _requirements(file: str, named: object, files: Mapping[str, bytes]) -> str | None:
    if named is None:
        return _automatic(files)
    if not isinstance(named, str):
        raise FolderError(f"{file}: environment.python_requirements_txt is {_kind(named)}, but must be the name of a file")
    path = PurePosixPath(named.strip())
    if path.is_absolute() or ".." in path.parts:
        raise FolderError(
            f"{file}: environment.python_requirements_txt is {named!r}, outside of the flow folder; put the file into the folder",
            reason="RequirementsRejected",
        )
    if str(path) not in files:
        raise FolderError(
            f"{file} names the requirements file {named!r}, but the flow folder has no such file; add it or correct the name",
            reason="RequirementsRejected",
        )
    return str(path)


def _automatic(files: Mapping[str, bytes]) -> str | None:
    return "requirements.txt" if "requirements.txt" in files else None


def _kind(value: object) -> str:
    words = {list: "a list", dict: "a mapping", str: "a text", int: "a number", float: "a number", bool: "true or false"}
    return "empty" if value is None else words.get(type(value), f"a {type(value).__name__}")
