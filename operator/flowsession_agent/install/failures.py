"""Read from a tool's output why it failed: a code for programs, and a sentence that names the requirement, its place and the way out."""

from __future__ import annotations

import errno
import re

from flowsession_agent.install import conflicts, platforms
from flowsession_protocol.masking import masked
from flowsession_protocol.requirements import VARIABLE, normalise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Match

    from flowsession_agent.install.requirement_lines import Line

UNREACHABLE = (
    r"Failed to establish a new connection|NewConnectionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|SSLError|Max retries exceeded"
    r"|Temporary failure in name resolution|Name or service not known|CERTIFICATE_VERIFY_FAILED|[Ii]nvalid peer certificate|dns error"
    r"|tcp connect error|Connection refused|error sending request|Network is unreachable|operation timed out|Connection reset by peer"
    r"|HTTP error (?:401|403|407|5\d\d)|(?:401|403|407|50\d) (?:Client|Server) Error"
    r"|HTTP status (?:client|server) error \((?:401|403|407|5\d\d)"
)
REASON = re.compile(
    r"(Connection refused|Name or service not known|Temporary failure in name resolution|certificate verify failed[^\n'\"]{0,80}"
    r"|invalid peer certificate[^\n]{0,80}|Network is unreachable|No route to host|timed out|Connection reset by peer"
    r"|(?:40[137]|50\d) [A-Z][A-Za-z ]+)",
    re.IGNORECASE,
)
COMPILER = re.compile(
    r"command '?\S*(?:gcc|cc|g\+\+|clang)'? failed: No such file|unable to execute '?\S*(?:gcc|cc|g\+\+)|command '\S*(?:gcc|cc)' failed"
    r"|No such file or directory: '\S*(?:gcc|cc|g\+\+)'|Unknown compiler|[Cc]an't find (?:Rust|a C) compiler"
    r"|CMake must be installed|no acceptable C compiler|linker `cc` not found",
)
NO_WHEEL = (
    "it has no wheel for this Python and needs a compiler, which the image lacks: choose a version with a wheel, or another base image"
)
LONGEST_WHAT = 500
PLACE = re.compile(r"(?<!\S)(\S+):(\d+):\d+$", re.MULTILINE)
ERROR = re.compile(r"^[^\S\n]*((?:[A-Z]\w*)?(?:Error|error)\b.{0,200})$", re.MULTILINE)
NO_SPACE = "There is no space left for the packages: give the session more ephemeral storage, or require less."
NO_MEMORY = "The install ran out of memory: choose a larger size, or versions that needn't be built."
URL = re.compile(r"https?://[^\s/'\")]+[^\s'\")]*")


class Failure:
    """Why an install failed."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message


def _short(line: str) -> str:
    """Return a line, quoted and cut for a message. Passwords are masked before the cut, which might remove the @ that marks them."""
    return repr(masked(line)[:100])


def classify(text: str, lines: list[Line], *, promptflow: dict[str, str], only_binary: bool) -> Failure:
    """Return the failure that a tool's output describes."""
    for pattern, explain in PATTERNS:
        match = re.search(pattern, text)
        if match:
            return explain(_Case(text, match, lines, promptflow, only_binary))
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip() and not line.startswith("[notice]")), "no output")
    return Failure("Other", f"The installer failed: {masked(last)[:300]}")


def no_memory() -> Failure:
    """Return the failure for an install that ran out of memory."""
    return Failure("OutOfMemory", NO_MEMORY)


def of_system(error: OSError) -> Failure:
    """Return the failure for the agent's own error in writing a file or starting a command."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure("NoSpace", NO_SPACE)
    if error.errno == errno.ENOMEM:
        return no_memory()
    return Failure("Other", f"The install failed: {error.strerror} ({error.filename}).")


class _Case:
    """A tool's output, the match that classified it, and what was requested."""

    def __init__(self, text: str, match: Match[str], lines: list[Line], promptflow: dict[str, str], only_binary: bool) -> None:
        self.text = text
        self.match = match
        self.lines = lines
        self.promptflow = promptflow
        self.only_binary = only_binary

    @property
    def what(self) -> str:
        """The requirement, file or option that the pattern captured."""
        return next((group for group in self.match.groups() if group), "")[:LONGEST_WHAT].strip(" .,'\"`()")

    def place(self, requirement: str) -> str:
        """Return ` (line 3 of requirements.txt)`; empty if no line names the requirement."""
        name = normalise(re.split(r"[\s\[=<>!~;@,]", requirement.strip())[0])
        return next((f" ({line.place})" for line in self.lines if line.name and line.name == name), "")


def _not_understood(shown: str, line: Line | None, tool: str) -> Failure:
    unset = VARIABLE.search(line.text) if line else None
    way_out = f"set {unset.group(1)} in the session's env" if unset else "write NAME, NAME==VERSION or NAME @ URL"
    return Failure("InvalidRequirement", f"{shown} is not a requirement that {tool} understands: {way_out}.")


def _invalid_line(case: _Case) -> Failure:
    number = re.search(r"\(from line (\d+) of (\S+?)\)", case.text)
    what = case.what
    line = next(
        (line for line in case.lines if (number and line.first == int(number.group(1))) or (not number and line.text == what)), None
    )
    shown = f"{_short(line.text)} ({line.place})" if line else (_short(what) if what else "A line")
    return _not_understood(shown, line, "pip")


def _unparsed_by_uv(case: _Case) -> Failure:
    place = PLACE.search(case.text)
    lines = [line for line in case.lines if line.text in case.text or (place and line.first == int(place.group(2)))]
    shown = f"{_short(lines[-1].text)} ({lines[-1].place})" if lines else "A line of the requirements"
    return _not_understood(shown, lines[-1] if lines else None, "uv")


def _missing_file(case: _Case) -> Failure:
    what = case.what
    line = next((line for line in case.lines if what.rpartition("/")[2] in line.text), None)
    where = f" ({line.place})" if line else ""
    name = line.text.split()[-1] if line else what
    return Failure("InvalidRequirement", f"{name!r}{where} is not in the flow folder: add the file or remove the line.")


def _unhashed(_: _Case) -> Failure:
    return Failure(
        "InvalidRequirement", "Some requirements have a hash and others none: give every one, and all they need, a version and a hash."
    )


def _newest(wanted: str, text: str) -> str:
    """Return the newest version that pip found; empty if none."""
    for line in text.splitlines():
        versions = line.partition("(from versions: ")[2].partition(")")[0]
        if versions not in ("", "none") and f"requirement {wanted} " in line:
            return versions.rpartition(",")[2].strip()
    return ""


def _no_match(case: _Case) -> Failure:
    wanted = case.what.partition(" (from")[0].strip()
    if VARIABLE.search(wanted):
        line = next((line for line in case.lines if wanted in line.text), None)
        return _not_understood(f"{_short(wanted)}{case.place(wanted)}", line, "pip")
    name = re.split(r"[\s\[=<>!~;@,]", wanted)[0]
    required = re.search(rf"(?:require|depends on) ({re.escape(name)}[=<>!~][^\s]*[^\s,.])", case.text)
    wanted = required.group(1) if required else wanted
    newest = _newest(wanted, case.text)
    elsewhere = platforms.local_version(wanted, case.lines)
    if platforms.system_of(normalise(name)):
        return Failure("NoMatchingDistribution", f"{masked(platforms.of_system(name, wanted, case.lines))}.")
    if elsewhere:
        hint = f"{elsewhere}."
    elif newest:
        hint = f"no such version; the newest is {newest}."
    elif re.search(rf"no version of {re.escape(name)}\b|only .{{0,40}}{re.escape(name)}\S* (?:is|are) available", case.text):
        hint = "no such version."
    elif "no usable wheels" in case.text or case.only_binary:
        hint = "it has no wheel for this Python, and building is off (installer.onlyBinary)."
    else:
        hint = "no such package there; check the name, and that it is for this Python."
    return Failure("NoMatchingDistribution", f"The package index has no {wanted}{case.place(wanted)}: {hint}")


def _needs_other_python(case: _Case) -> Failure:
    what, needs = case.match.group("what"), case.match.group("needs")
    return Failure(
        "NoMatchingDistribution", f"{what}{case.place(what)} needs another Python ({needs}): choose another version, or another base image."
    )


def _conflict(case: _Case) -> Failure:
    for name, version in case.promptflow.items():
        line = next((line for line in case.lines if line.name == name), None)
        if line and re.search(rf"\b{re.escape(name)}==", case.text.lower().replace("_", "-")) and "==" in line.text:
            return Failure(
                "ConflictingRequirements",
                f"{_short(line.text)} ({line.place}) conflicts with the image, which is built around {name} {version}: remove its version.",
            )
    reasons = conflicts.reasons(case.text) or "see the tails"
    names = conflicts.names_in(reasons)
    where = list(dict.fromkeys(line.place for line in case.lines if line.name in names))
    places = f" ({', '.join(where[:4])}{', ...' if len(where) > 4 else ''})" if where else ""
    return Failure("ConflictingRequirements", f"The requirements contradict each other{places}: {reasons}. Loosen one of them.")


def _other_wheels(case: _Case) -> Failure:
    """Return the failure for wheels that don't fit here. If they are only a part of uv's proof, it is a conflict of requirements."""
    message = platforms.other_system(case.text, case.lines)
    if message:
        return Failure("NoMatchingDistribution", f"{masked(message)}.")
    message = platforms.other_python(case.text)
    if message:
        what = f"{message}{case.place(message.partition(' ')[0])}"
        return Failure("NoMatchingDistribution", f"{what}: choose another version, or another base image.")
    return _conflict(case)


def _build(case: _Case) -> Failure:
    what = case.what or "A package"
    name = normalise(re.split(r"[=@ ]", what)[0])
    if platforms.system_of(name):
        return Failure("BuildFailed", f"{masked(platforms.of_system(name, what, case.lines))}.")
    if COMPILER.search(case.text):
        why = NO_WHEEL
    else:
        error = [line for line in ERROR.findall(case.text) if not line.startswith(("error: subprocess", "error: metadata"))]
        why = f"its build failed ({error[-1].strip() if error else 'see the tails'}): choose a version with a wheel for this Python"
    return Failure("BuildFailed", f"{what}{case.place(what)} can't be built: {why}.")


def _hash(case: _Case) -> Failure:
    found = re.search(r"Hash mismatch for `([^`]+)`", case.text) or re.search(r"REQUIREMENTS FILE[^\n]{0,300}\n\s+(\S+)", case.text)
    what = found.group(1) if found else "A package"
    return Failure(
        "HashMismatch", f"{what}{case.place(what)} is not what its hash says: the index has another file, or the hash is out of date."
    )


def _unreachable(case: _Case) -> Failure:
    urls = [url for url in URL.findall(case.text) if "pypa.io" not in url]
    index = re.sub(r"^(https?://)(?:[^/@]*@)?([^/]+).*$", r"\1\2", urls[0]) if urls else "The package index"
    reason = REASON.search(case.text)
    why = f" ({reason.group(1).strip()})" if reason else ""
    return Failure(
        "IndexUnreachable", f"{index} can't be reached{why}: check the network, installer.indexURL, the proxy variables and the CA bundle."
    )


def _no_space(_: _Case) -> Failure:
    return Failure("NoSpace", NO_SPACE)


def _no_memory(_: _Case) -> Failure:
    return no_memory()


PATTERNS: tuple[tuple[str, Callable[[_Case], Failure]], ...] = (
    (r"No space left on device|os error 28|Disk quota exceeded|os error 122", _no_space),
    (r"MemoryError|Cannot allocate memory|os error 12\)", _no_memory),
    (r"DO NOT MATCH THE HASHES|Hash mismatch for", _hash),
    (
        r"[Hh]ashes are required in --require-hashes|all requirements must have (?:a hash|their versions pinned)"
        r"|must have a hash, but none",
        _unhashed,
    ),
    (r"Could not open requirements file: .{0,200}?: '([^'\n]+)'|failed to read from file `([^`]+)`", _missing_file),
    (r"Invalid requirement: '?([^\n']+)'?|error: no such option: (\S+)|not a valid editable requirement", _invalid_line),
    (r"Couldn't parse requirement|Error parsing included file|Unexpected '.', expected|Failed to parse", _unparsed_by_uv),
    (r"ResolutionImpossible|these package versions have conflicting dependencies", _conflict),
    (
        r"Failed to build `([^`]+)`|Failed building (?:editable for|wheel for) (\S+)|Failed to build '?([\w.-]+)"
        r"|metadata-generation-failed()|legacy-install-failure\s[^╰]{0,300}╰─> (\S+)",
        _build,
    ),
    (r"Package '(?P<what>[^']+)' requires a different Python: (?P<needs>[^\n]+)", _needs_other_python),
    (r"Because (?:there (?:is|are) no versions? of|only) (\S+)", _no_match),
    (r"Because (\S+) (?:was|were) not found in", _no_match),
    (r"Because (\S+) has no usable wheels", _no_match),
    (r"has no wheels with a matching", _other_wheels),
    (r"No solution found when resolving", _conflict),
    (UNREACHABLE, _unreachable),
    (r"No matching distribution found for ([^\n]+)", _no_match),
)
