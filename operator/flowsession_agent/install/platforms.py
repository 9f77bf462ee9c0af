"""Explain why a package index has nothing that fits: wheels only for other systems or Pythons, or versions on a separate index."""

from __future__ import annotations

import re

from flowsession_agent.install.conflicts import names_in
from flowsession_protocol.requirements import normalise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowsession_agent.install.requirement_lines import Line

MARKERS = {
    "Windows": "sys_platform == 'win32'",
    "macOS": "sys_platform == 'darwin'",
    "Windows and macOS": "sys_platform != 'linux'",
}
ONLY_FOR = {
    "Windows": (
        *("pywin32", "pywin32-ctypes", "pypiwin32", "pywinpty", "pywinauto", "winkerberos", "winshell", "windows-curses", "wmi"),
        *("pyreadline", "tensorflow-intel"),
    ),
    "macOS": ("tensorflow-macos", "tensorflow-metal"),
}
"""Distributions that `pip freeze` lists on other systems, and that can't be installed on Linux or are useless there."""

FAMILIES = {"Windows": ("winrt-",), "macOS": ("pyobjc",)}
"""Prefixes of the names of more such distributions."""

HINT = re.compile(r"hint: Wheels are available for `([^`\n]{1,200})` \(v?([^)\n]{1,100})\) on the following platforms?: ([^\n]{1,1000})")
ABIS = re.compile(r"we only found wheels for `([^`\n]{1,200})` \(v?([^)\n]{1,100})\) with the following[^\n:]{0,40}: ([^\n]{1,1000})")
LOCAL = re.compile(r"(?:cu\d+|cpu|rocm[\d.]+|xpu)$")


MOST_SHOWN = 5


def system_of(name: str) -> str:
    """Return the only system that a distribution is known to be for; empty if none is known."""
    for system, names in ONLY_FOR.items():
        if name in names or name.startswith(FAMILIES[system]):
            return system
    return ""


def other_system(text: str, lines: list[Line]) -> str:
    """Return why wheels are only for other systems, by uv's hint or by the known packages in the lines; empty if neither shows that."""
    for name, version, tags in HINT.findall(text):
        systems = {"Windows" if tag.startswith("win") else "macOS" if tag.startswith("macosx") else "" for tag in re.findall(r"\w+", tags)}
        if systems and "" not in systems:
            return _sentence(normalise(name), f"{name} {version}", " and ".join(sorted(systems)), lines, text)
    named = names_in(text)
    for line in lines:
        if line.name in named and system_of(line.name):
            return _sentence(line.name, line.text, system_of(line.name), lines, text)
    return ""


def of_system(name: str, what: str, lines: list[Line]) -> str:
    """Return the same sentence for a distribution that is known to be for one system, and that a tool calls `what`."""
    return _sentence(normalise(name), what, system_of(normalise(name)), lines, "")


def other_python(text: str) -> str:
    """Return `NAME VERSION has no wheel for this Python, only for TAGS, and no source ...` if uv's output says so; else empty."""
    found = ABIS.search(text)
    if found is None:
        return ""
    name, version, tags = found.groups()
    return f"{name} {version} has no wheel for this Python, only for {tags.replace('`', '')[:80]}, and no source to build it from"


def local_version(wanted: str, lines: list[Line]) -> str:
    """Return where versions such as 2.1.2+cu118 come from; empty if `wanted` is of another kind, or a line names the index."""
    name, plus, local = wanted.partition("+")
    if not plus:
        return ""
    shown = f"+{local[:40]}"
    if not LOCAL.match(local) or not normalise(name).startswith(("torch", "triton", "xformers", "fbgemm")):
        return f"versions with {shown} are not on the usual index: name the index that has it by --extra-index-url, or leave {shown} out"
    index = f"https://download.pytorch.org/whl/{local}"
    if any(index in line.text for line in lines):
        return ""
    return f"versions with {shown} are on an index of their own: add the line --extra-index-url {index}, or leave {shown} out"


def _sentence(name: str, what: str, system: str, lines: list[Line], text: str) -> str:
    own = [line for line in lines if line.name == name]
    if own:
        alike = [line for line in lines if line.name and system_of(line.name) == system and "sys_platform" not in line.text]
        own = list(dict.fromkeys([*own, *alike]))[:MOST_SHOWN]
    named = names_in(text)
    bringing = own or [line for line in lines if line.name in named][:1]
    listed = ", ".join(f"{line.text[:60]} ({line.place})" for line in bringing)
    subject = listed if own else f"{what}, which {listed} needs," if bringing else what
    where = "each of these lines" if len(bringing) > 1 else "that line" if bringing else "the line that needs it"
    verb = "are" if len(own) > 1 else "is"
    return f'{subject} {verb} for {system} only, and sessions run on Linux: remove {where}, or add "; {MARKERS[system]}" to it'
