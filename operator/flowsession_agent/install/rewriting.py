"""Rewrite requirements for the tools: expand variables, and drop versions of prompt flow's packages in favor of the image's."""

from __future__ import annotations

import contextlib
import errno
import os
import re

from flowsession_agent.install import kept, requirement_lines
from flowsession_agent.install.copies import Copies
from flowsession_agent.install.ends import InstallError
from flowsession_agent.install.failures import Failure
from flowsession_agent.session import flow_folder
from flowsession_protocol import requirements as lines
from flowsession_protocol.masking import masked
from flowsession_protocol.variables import SECRET_VARIABLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping, Match

    from flowsession_agent.install.base import Base
    from flowsession_agent.server.order import Requirements
    from flowsession_agent.settings import Home
    from flowsession_protocol.requirements import Line

VARIABLE = re.compile(rf"://[^/\s@]*@|{lines.VARIABLE.pattern}")
"""A variable, or a URL's login, in which both tools expand variables themselves and mask them in their output."""

UNSAFE = re.compile(r"[\r\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029#$\\]")
"""Characters with a meaning in a file that they lack in a value: pip expands variables after it handles comments and line ends."""


class Rewriting:
    """The files of one install as its tools read them: copies where something changed."""

    def __init__(self, requirements: Requirements, *, home: Home, environ: Mapping[str, str], base: Base) -> None:
        """Rewrite the requirements and the files that they include. `environ` is the tools'. Raises InstallError if a Secret's value would
        be exposed, OSError."""
        self._environ = environ
        self._secret = set(environ.get(SECRET_VARIABLES, "").split(","))
        self._base = base
        self._replaced: dict[str, str] = {}
        """Warnings about lines whose version was dropped, by distribution."""
        self.root = home.flow if requirements.path else home.root
        self._of_edited = ""  # a file with the order's text, next to the one that the session edited
        self._copies = Copies(self.root, self.text)
        try:
            original = self._placed(requirements, requirements.path or os.path.basename(home.requirements))
            self._places = {line.text: line.place for line in requirement_lines.read(original, root=self.root, shown=requirements.shown)}
            self.file = self._copied(original)
        except BaseException:
            self.close()
            raise
        self.lines = requirement_lines.read(self.file, root=self.root, shown=requirements.shown)

    @property
    def warnings(self) -> list[str]:
        """Warnings for people; they don't stop the install."""
        return list(self._replaced.values())

    @property
    def note(self) -> str:
        """The warnings, to append to a conflict's message, which lacks the dropped versions."""
        return "".join(f" {message.replace('was installed', 'was taken')}." for message in self.warnings)

    def close(self) -> None:
        """Delete the copies."""
        self._copies.remove()
        if self._of_edited:
            with contextlib.suppress(OSError):
                os.unlink(self._of_edited)

    def _placed(self, requirements: Requirements, name: str) -> str:
        """Return the path of a file with the order's text; write it if needed."""
        there = requirement_lines.text_at(os.path.join(self.root, name))
        if there is None or there.splitlines() != requirements.text.splitlines():
            if requirements.path:  # in the same folder, since it may include others; the session's own edit of the file stays
                folder, _, last = name.rpartition("/")
                name = os.path.join(folder, flow_folder.copy_name()(last))
                self._of_edited = os.path.join(self.root, name)
            flow_folder.put(self.root, name, lambda file: file.write(requirements.text.encode()))
        return os.path.join(self.root, name)

    def _copied(self, original: str) -> str:
        try:
            return self._copies.of(original)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
        # A claim that is read-only for the session: the tools get the file as it is, and report what they reject.
        self._copies.remove()
        self._replaced.clear()
        return original

    def text(self, text: str) -> str:
        """Return a file's text as the tools are to read it. Lines keep their numbers. Raises InstallError."""
        return kept.without_image_promptflow(requirement_lines.rewritten(text, self._line), self._base)

    def _line(self, line: Line) -> str:
        return self._without_version(self._expanded(line.text), line.text)

    def _expanded(self, text: str) -> str:
        def value(match: Match[str]) -> str:
            name = match.group(1)
            found = self._environ.get(name, "") if name else ""
            if not found:
                return match.group()
            if name in self._secret:
                raise InstallError(_shows_a_secret(name, self._place(text)))
            return match.group() if UNSAFE.search(found) else found

        return VARIABLE.sub(value, text) if "${" in text else text

    def _without_version(self, text: str, written: str) -> str:
        """Return the line without its version if the image has that part of prompt flow. A hashed line stays, and must match it."""
        name = requirement_lines.name_of(text)
        version = self._base.promptflow.get(name)
        if version is None or text.startswith("-") or "--hash" in text:
            return text
        body, options = lines.parts(text)
        found, extras = requirement_lines.NAME.match(body), ""
        short, wanted = (found.group(1), body[found.end(1) :].strip()) if found else (name, f"@ {body}")
        if wanted.startswith("["):
            extras, bracket, wanted = wanted.partition("]")
            extras, wanted = extras + bracket, wanted.strip()
        wanted, semicolon, marker = wanted.partition(" ;" if wanted.startswith("@") else ";")
        if not wanted.strip():
            return text
        message = f"the image has {name} {version} and keeps it"
        self._replaced[name] = f"{masked(written)[:100]!r}{self._place(written)} was installed without its version: {message}"
        return f"{short}{extras}{' ; ' + marker.strip() if semicolon else ''}{f' {options}' if options else ''}"

    def _place(self, text: str) -> str:
        place = self._places.get(text)
        return f" ({place})" if place else ""


def _shows_a_secret(name: str, place: str) -> Failure:
    why = "has its value from a Secret, and would be shown in messages and to the index"
    way_out = "use it as the user or password of an index URL only, or give it a plain value in the session's env"
    return Failure("InvalidRequirement", f"${{{name}}}{place} {why}: {way_out}.")
