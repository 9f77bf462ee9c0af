"""Advises what to do when a connection's endpoint refuses a flow's call, or doesn't respond: the connection, the status, the way out.

Prompt flow passes on only the text of a failed call, which is parsed here: that of OpenAI's client, which prompt flow's llm nodes, prompty
and most tools use, and of requests and httpx.
"""

from __future__ import annotations

import calendar
import re
import time

from flowsession_agent.connections import mounted
from flowsession_agent.connections.identity import ROLE
from flowsession_protocol.connection_kinds import MEID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping

    from flowsession_agent.connections.mounted import Mounted

_STATUS = re.compile(r"Error code: (\d{3})\b|\b(\d{3}) (?:Client|Server) Error: |(?:Client|Server) error '(\d{3}) ")
_UNREACHABLE = re.compile(r"\b(APIConnectionError|ConnectError|NewConnectionError)\b")
_SILENT = re.compile(r"\b(APITimeoutError|ReadTimeout|ConnectTimeout)\b")
_RETRY_AFTER = re.compile(r"Retry-After=([0-9.]+)")
_WAIT = re.compile(
    r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) ([+-])(\d\d)(\d\d) [^\[\n]*\[[^\s\[]{1,200} in line (\d{1,9}) [^\n]*?"
    r" Back off (\d{1,7}(?:\.\d+)?) seconds for retry",
    re.MULTILINE,
)
_NO_TOKEN = re.compile(r"\b(ClientAuthenticationError|CredentialUnavailableError|DefaultAzureCredential failed)\b")
_NODE = re.compile(r"\bNode (\S+) in line \d+ failed|Execution failure in '([^']+)'|\[([^\s\[]{1,200}) in line \d+ ")
_IN_USE = "which is in use within two minutes, without a restart"
_STATUSES = {401: "it does not take the key", 403: "the key may not do this", 404: "it knows no such address, model or deployment"}
LARGEST = 256 * 1024
"""Characters of a flow's file that are read."""
LEAST_WAIT = 10.0
"""Seconds that a wait for an endpoint must take to be reported."""


def advice(
    words: str,
    flow: str,
    environ: Mapping[str, str],
    *,
    log: str = "",
    node: str = "",
    connections: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """Return the sentence about a failed model call that `words` report; empty if they report none. It holds no values.

    `flow`: the flow's file; `node`: the one that failed, if known; `log`: what was logged until then; `connections`: those that nodes are
    given in place of the flow's own.
    """
    found = int(_last(_STATUS, words) or 0)
    if found < 400 and not any(kind.search(words) for kind in (_UNREACHABLE, _SILENT, _NO_TOKEN)):
        return ""
    connection = _connection(flow, node or _last(_NODE, f"{log}\n{words}"), mounted.listed(environ), connections or {})
    name, secret = _names(connection)
    keyless = connection is not None and any(MEID.encode() in content for content in connection.keys().values())
    if found < 400 and _NO_TOKEN.search(words):
        return f"{name} authenticates as the session, whose identity gets no token: `flow check` says why"
    if found >= 400:
        return f"{name}: its endpoint answers {found}{_why(found, log or words, secret, keyless=keyless)}"
    if _SILENT.search(words):
        return f"{name}: its endpoint does not answer: test again later, or correct the address in {secret}, {_IN_USE}"
    return f"{name}: its endpoint can't be reached: correct the address in {secret}, {_IN_USE}, or let sessions reach it"


def wait(log: str, flow: str, environ: Mapping[str, str], *, now: float, connections: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """Return the sentence about lines of a run that are waiting to call an endpoint again; empty if none waits for long.

    `log`: the end of the run's log; `now`: seconds since 1970.
    """
    late: dict[int, float] = {}
    for found in _WAIT.finditer(log):
        stamp, sign, hours, minutes, number, seconds = found.groups()
        line, ahead = int(number), int(f"{sign}1") * (3600 * int(hours) + 60 * int(minutes))
        late[line] = _moment(stamp) - ahead + float(seconds)
        if float(seconds) < LEAST_WAIT or late[line] <= now or f"-Line number({line}) " in log[found.end() :]:
            del late[line]
    if not late:
        return ""
    first = min(late, key=lambda line: late[line])
    words = of_line(log, first)
    name, _ = _names(_connection(flow, _last(_NODE, words), mounted.listed(environ), connections or {}))
    status = _last(_STATUS, words)
    answers = f"its endpoint answers {status}" if status else "its endpoint refuses the call"
    clock = time.strftime("%H:%M:%S", time.gmtime(late[first]))
    lines = f"line {first} asks again" if len(late) == 1 else f"{len(late)} lines wait, and line {first} asks again first,"
    return f"{name}: {answers}: {lines} at {clock} UTC"


def of_line(log: str, line: object) -> str:
    """Return what a run's log says about the nodes in a line of data."""
    return "\n".join(text for text in log.splitlines() if f" in line {line} " in text)


def _last(pattern: re.Pattern[str], words: str) -> str:
    """Return the pattern's last match, by whichever group matched; empty without a match."""
    found = pattern.findall(words)
    return next(filter(None, found[-1])) if found else ""


def _moment(stamp: str) -> float:
    """Return a log's time, taken as UTC, in seconds since 1970; 0 if it is invalid."""
    try:
        return calendar.timegm(time.strptime(stamp, "%Y-%m-%d %H:%M:%S"))
    except ValueError:
        return 0.0


def silence(flow: str, environ: Mapping[str, str], connections: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """Return the sentence about the endpoint that a flow may have waited for when it timed out; empty if none is known."""
    connection = _connection(flow, "", mounted.listed(environ), connections or {})
    if connection is None:
        return ""
    name, secret = _names(connection)
    return f"if it waited for {name}, whose endpoint is slow or silent: correct the address in {secret}, {_IN_USE}"


def _names(connection: Mounted | None) -> tuple[str, str]:
    return (f"connection {connection.name!r}", f"Secret {connection.secret!r}") if connection else ("a connection", "its Secret")


def _why(status: int, words: str, secret: str, *, keyless: bool) -> str:
    if status in (401, 403) and keyless:
        return f", it does not let the session's identity in: grant that {ROLE}"
    if status in (401, 403):
        return f", {_STATUSES[status]}: correct that in {secret}, {_IN_USE}"
    if status == 404:
        return f", {_STATUSES[status]}: correct the model or deployment in the flow, or the address in {secret}"
    if status == 429:
        times = _RETRY_AFTER.findall(words)
        when = f"in {float(times[-1]):.0f} s (Retry-After)" if times else "later"
        return f", it takes no more calls for now: test again {when}, or raise its quota"
    if status >= 500:
        return ", a fault of its own: test again later"
    return ": correct what the flow asks of it"


def _connection(flow: str, node: str, listed: list[Mounted], given: Mapping[str, Mapping[str, str]]) -> Mounted | None:
    """Return the connection that the node is given or names, or else the flow's; None if that is ambiguous."""
    names = {fields.get("connection") for of, fields in given.items() if node in ("", of)} - {None}
    if names:
        found = [one for one in listed if one.name in names]
        return found[0] if len(names) == len(found) == 1 else None
    try:
        with open(flow, encoding="utf-8-sig", errors="replace") as file:
            text = file.read(LARGEST)
    except OSError:
        text = ""
    for part in (_of_node(text, node), text):
        named = [one for one in listed if part and re.search(rf":\s*['\"]?{re.escape(one.name)}['\"]?\s*(?:[,}}#]|$)", part, re.MULTILINE)]
        if len(named) == 1:
            return named[0]
    return listed[0] if len(listed) == 1 and not named else None


def _of_node(text: str, node: str) -> str:
    """Return the part of a flow.dag.yaml with the node, found by its lines, since the agent has no YAML parser."""
    first = re.search(r"^nodes:[^\n]*\n([ ]*)- ", text, re.MULTILINE)
    parts = re.split(rf"^(?={first[1] if first else ''}- )", text, flags=re.MULTILINE)
    return next((part for part in parts if node and re.search(rf"\bname:\s*['\"]?{re.escape(node)}\b", part)), "")
