"""Each side reads the members that the other one sends: mypy checks the sender against the types, this checks the reader."""

import base64
import types
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest

from flowsession.cluster.agent import answers, source_answers
from flowsession_agent.edits import archive, saved
from flowsession_agent.server import order
from flowsession_agent.source.order import SourceOrder
from flowsession_protocol import messages


class Members(dict[str, Any]):
    """Records which members are read, nested ones by their path."""

    def __init__(self, members: dict[str, Any], way: str, read: set[str]) -> None:
        super().__init__(members)
        self._way, self._read = way, read

    def get(self, name: str, default: Any = None) -> Any:  # type: ignore[override]
        self._read.add(f"{self._way}{name}")
        return super().get(name, default)


SAMPLES: dict[Any, Any] = {str: "x", int: 1, float: 1.0, bool: True}


def sample(kind: Any, way: str, read: set[str], named: set[str]) -> Any:
    """Return a value of a type of the protocol, with all members that it may have."""
    if is_typeddict(kind):
        members = {}
        for name, inner in get_type_hints(kind).items():
            named.add(f"{way}{name}")
            members[name] = sample(inner, f"{way}{name}.", read, named)
        return Members(members, way, read)
    if get_origin(kind) in (Union, types.UnionType):
        return sample(next(one for one in get_args(kind) if one is not type(None)), way, read, named)
    if get_args(kind):
        inner = sample(get_args(kind)[-1], way, read, named)
        return {"x": inner} if len(get_args(kind)) == 2 else [inner]
    return SAMPLES[kind]


def unread(kind: Any, reader: Callable[[Any], object], **given: Any) -> set[str]:
    read: set[str] = set()
    named: set[str] = set()
    reader(Members({**sample(kind, "", read, named), **given}, "", read))
    return named - read


@pytest.mark.parametrize(
    ("kind", "reader", "given", "left"),
    [
        (
            messages.State,
            answers.state,
            {},
            # Read by people in the session, through `flow`; the client itself checks podUID.
            {"podUID", "agent", "agent.version", "agent.protocol", "agent.python", "bootID", "check.warnings", "check.seconds"}
            | {f"check.warnings.{name}" for name in ("code", "message", "file", "line", "node")}
            | {f"edits.{name}" for name in ("bytes", "leftOutFiles", "more", "discarded", "saved")},
        ),
        (messages.EditsArchive, lambda answer: answers.edits(answer, 200, revision=""), {}, set()),
        (messages.Package, lambda package: answers.packages({"packages": [package]}), {}, set()),
        (messages.Source, source_answers.source, {"state": "Done", "commit": "0" * 40, "unchanged": False}, {"code", "message"}),
        (messages.Source, source_answers.source, {"state": "Failed"}, {"revision", "commit", "archive", "unchanged", "warnings"}
         | {f"warnings.{name}" for name in ("code", "file", "message")}),
    ],
)  # fmt: skip
def test_the_operator_reads_what_an_agent_says(kind, reader, given, left):
    assert unread(kind, reader, **given) == left


def test_an_agent_reads_what_it_is_told():
    def read(body: Any) -> None:
        body["files"] = {}
        body["installer"].update({"tool": "Auto", "environment": {}, "cache": {}})
        order.read(body)

    assert {name for name in unread(messages.Order, read) if not name.startswith("savedEdits.")} == set()


def test_an_agent_reads_saved_edits(tmp_path):
    packed = base64.b64encode(archive.pack(str, [])).decode()
    assert unread(messages.SavedEdits, lambda edits: saved.take(edits, path=str(tmp_path / "edits")), archive=packed) == set()


def test_an_agent_reads_what_source_it_shall_read():
    def read(body: Any) -> None:
        body["environment"] = {}
        body["git"]["url"] = "https://example.com/x.git"
        SourceOrder({name: value for name, value in body.items() if name != "folder"})
        SourceOrder({name: value for name, value in body.items() if name != "git"})

    # The body's own members were all passed on.
    assert {name for name in unread(messages.SourceOrder, read) if "." in name} == set()
