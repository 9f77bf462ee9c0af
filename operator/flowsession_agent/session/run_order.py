"""Read the order of a run: any body is either refused or conforms to `messages.RunOrder`."""

from __future__ import annotations

import base64
import binascii
import re

from flowsession_agent.errors import bad_request
from flowsession_agent.session import flow_folder
from flowsession_protocol import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from flowsession_protocol import messages

ID = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
FILE = re.compile(r"[A-Za-z0-9._-]{1,253}\Z")
CLAIM = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
LARGEST_NUMBER = 10**6


def read(body: Any) -> messages.RunOrder:
    """Return the order in a request's body. Raises ApiError with 400 that names the member."""
    found = body if isinstance(body, dict) else {}
    run_id, name = found.get("id"), found.get("name")
    mapping: Any = found.get("columnMapping")
    if not isinstance(run_id, str) or not ID.match(run_id) or not isinstance(name, str) or not NAME.match(name):
        raise bad_request("id and name of a run must be short words.")
    if not _members(mapping) or len(mapping) > limits.RUN_MAPPING:
        raise bad_request(f"columnMapping must name up to {limits.RUN_MAPPING} inputs, each with its value.")
    order: messages.RunOrder = {"id": run_id, "name": name, "columnMapping": mapping}
    for member, (right, words) in _MEMBERS.items():
        if (value := found.get(member)) is not None:
            if not right(value):
                raise bad_request(f"{member} must be {words}.")
            order[member] = value  # type: ignore[literal-required]
    if "data" in order and "dataFile" in order:
        raise bad_request("data and dataFile exclude each other.")
    if not {"data", "dataFile", "dataClaim", "earlier", "earlierClaim"} & order.keys():
        raise bad_request("data must be the path of a file in the flow folder, where no other data and no earlier run comes along.")
    if ("guest" in order) != ("files" in order):
        raise bad_request("guest and files come together: the flow of another environment, and its folder.")
    return order


def content_of(text: str) -> bytes:
    """Return the bytes of a text in base64."""
    return base64.b64decode(text, validate=True)


def _path(value: object) -> bool:
    return isinstance(value, str) and not limits.too_long(value.encode()) and not limits.is_unsafe_path(value.encode())


def _named_content(value: object, name: str, content: str, pattern: re.Pattern[str]) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get(name), str) or not pattern.match(value[name]) or value[name] in (".", ".."):
        return False
    try:
        content_of(value.get(content, 0))
    except (binascii.Error, ValueError, TypeError):
        return False
    return True


def _on_claim(value: object) -> bool:
    found = value if isinstance(value, dict) else {}
    claim, path = found.get("claim"), found.get("path")
    return isinstance(claim, str) and CLAIM.match(claim) is not None and (path == "" or _path(path))


def _flow_files(value: object) -> bool:
    """Return whether these are files in base64 of an allowed size. Raises ApiError for a name that leads elsewhere."""
    if not isinstance(value, dict):
        return False
    flow_folder.check_names(value)
    try:
        return sum(len(content_of(content)) for content in value.values()) <= limits.FLOW_BYTES
    except (binascii.Error, ValueError, TypeError):
        return False


def _guest(value: object) -> bool:
    asked = value.get("requirements") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(value.get("environment"), str) or not isinstance(asked, (dict, type(None))):
        return False
    text, path, shown = ((asked or {"text": "", "shown": ""}).get(name) for name in ("text", "path", "shown"))
    return isinstance(text, str) and isinstance(shown, str) and (path is None or _path(path))


def _text(value: object) -> bool:
    return isinstance(value, str)


def _texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _texts_of_nodes(value: object) -> bool:
    return isinstance(value, dict) and all(_texts(one) for one in value.values())


def _members(value: object) -> bool:
    return isinstance(value, dict)


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_NUMBER


_MEMBERS: dict[str, tuple[Callable[[object], bool], str]] = {
    "data": (_path, "the path of a file in the flow folder"),
    "dataFile": (lambda value: _named_content(value, "name", "content", FILE), "a file's name and content, in base64"),
    "earlier": (lambda value: _named_content(value, "name", "archive", NAME), "an earlier run's name and archive, in base64"),
    "resume": (lambda value: _named_content(value, "name", "archive", NAME), "an earlier run's name and archive, in base64"),
    "dataClaim": (_on_claim, "a claim's name and the path of a file there"),
    "earlierClaim": (_on_claim, "a claim's name and the folder of an earlier run there"),
    "resumeClaim": (_on_claim, "a claim's name and the folder of an earlier run there"),
    "outputsClaim": (_on_claim, "a claim's name and a folder there"),
    "again": (lambda value: isinstance(value, bool), "true or false"),
    "variant": (_text, "a text"),
    "environmentVariables": (_texts, "texts by name"),
    "connections": (_texts_of_nodes, "texts by node and name"),
    "init": (_members, "an object"),
    "environmentFile": (_path, "the path of a file in the flow folder"),
    "initFile": (_path, "the path of a file in the flow folder"),
    "displayName": (_text, "a text"),
    "tags": (_texts, "texts by name"),
    "guest": (_guest, "an environment's name and its requirements"),
    "files": (_flow_files, f"files by name, in base64, of at most {limits.FLOW_BYTES:,} bytes"),
    "concurrency": (_count, "a number of lines"),
    "lineSeconds": (_count, "a number of seconds"),
}
