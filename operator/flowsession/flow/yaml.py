"""Reads the YAML of a flow file, which is untrusted: within limits, and in YAML 1.2 as prompt flow does. Also empties a key in its text.

`yaml_values` defines what its values mean.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from flowsession.flow.yaml_values import Dumper, Loader, Loader11
from flowsession_protocol.flow_files import kind_of
from flowsession_protocol.requirements import encoding_of

LARGEST = 128 * 1024
"""Bytes of a flow file. Prompt flow has no limit, but a parser shared by all sessions needs one. At this size, libyaml takes about 70 ms
for a file of 600 real nodes; flows that people write have less than 50 KB."""

MOST_VALUES = 20_000
"""Values, keys and brackets in a flow file. A file of nothing else could hold twice that many, which would take 0.3 s."""

LONGEST_NUMBER = 1000
"""Characters of a number: parsing takes time that grows with the square of its length."""

MOST_MERGES = 8
"""Merge keys (<<) in a flow file: each may double the work of the one before."""

DEEPEST = 100
"""Levels of nesting in a flow file."""

_NUMBER = re.compile(r"^[-+0-9:._]+$")


class FolderError(Exception):
    """The folder can't be used. Reason is FlowInvalid or RequirementsRejected; the text says what, where and what to do."""

    def __init__(self, message: str, *, reason: str = "FlowInvalid") -> None:
        super().__init__(message)
        self.reason = reason


def text_of(name: str, content: bytes) -> str:
    """Return a file's text: UTF-8, or UTF-16 with a byte order mark, as pip reads it. Raises FolderError."""
    encoding = encoding_of(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise FolderError(f"{name} is not text: byte {error.start} is not {encoding}; save it as UTF-8") from None


def document(file: str, content: bytes, *, most_values: int = MOST_VALUES) -> dict[str, Any]:
    """Return the contents of the flow file. Raises FolderError."""
    if len(content) > LARGEST:
        raise FolderError(f"{file} has {len(content):,} bytes; at most {LARGEST:,} are read: keep data in files of its own")
    found = _load(file, text_of(file, content), most_values)
    if not isinstance(found, dict):
        raise FolderError(f"{file} is {kind_of(found)}, but must be a mapping with keys such as inputs, outputs and nodes")
    return found


def with_empty_list(file: str, content: bytes, key: str, values: Mapping[str, Any]) -> bytes:
    """Return the flow file with an empty list as the value of the top-level `key`, and everything else as written.

    `values` is what `document` returned for the file. If the value can't be cut out of the text, the file is written anew from `values`.
    """
    text = text_of(file, content)
    at = _span(text, key)
    if at is not None:
        return f"{text[: at[0]]}: []{text[at[1] :]}".encode()
    return yaml.dump({**values, key: []}, Dumper=Dumper, sort_keys=False, allow_unicode=True).encode()


def _load(file: str, text: str, most_values: int) -> object:
    try:
        version = _check_size_of_tree(file, text, most_values)
        return yaml.load(text, Loader=Loader11 if version == (1, 1) else Loader)  # noqa: S506 - a safe loader, the C one where there is one
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


def _check_size_of_tree(file: str, text: str, most_values: int) -> tuple[int, int] | None:
    """Check the parser's events one by one, and return the YAML version that the document names. Raises FolderError.

    Composing the events is recursive in C, where deep nesting kills the process, and merge keys multiply the work.
    """
    version: tuple[int, int] | None = None
    depth = merges = aliases = 0
    for number, event in enumerate(_events(text)):
        if number > most_values:
            raise FolderError(f"{file} has more than {most_values:,} values; keep data in files of its own")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > LONGEST_NUMBER and _NUMBER.match(event.value) and event.implicit[0]:
            raise FolderError(
                f"{file} line {event.start_mark.line + 1 if event.start_mark else 0}: a number of {len(event.value)} characters"
            )
        if isinstance(event, yaml.DocumentStartEvent):
            version = event.version
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
    return version


def _events(text: str) -> Iterator[yaml.Event]:
    events: Iterator[yaml.Event] = yaml.parse(text, Loader=Loader)
    return events


def _span(text: str, key: str) -> tuple[int, int] | None:
    """Return the indices of the end of a top-level key and of the end of its value.

    Return None if the value holds an anchor, which an alias elsewhere may name, or if the key is written with a question mark.
    """
    depth, start, end = 0, None, 0
    for event in _events(text):
        opens = isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        mark = event.end_mark
        if start is not None and (getattr(event, "anchor", None) and not isinstance(event, yaml.AliasEvent)):
            return None
        if start is not None and mark is not None:
            if not isinstance(event, yaml.CollectionEndEvent) or event.start_mark is None or event.start_mark.index < mark.index:
                end = mark.index  # a block collection ends where the next token begins
            if depth == 1 and not opens:
                simple = text[start:end].lstrip(" \t").startswith(":")
                return (start, start + len(text[start:end].rstrip())) if simple else None
        elif depth == 1 and isinstance(event, yaml.ScalarEvent) and event.value == key and mark is not None:
            start = mark.index
        depth += opens
    return None
