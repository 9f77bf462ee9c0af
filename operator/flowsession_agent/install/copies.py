"""Rewritten copies of requirements files for the installer. The originals stay as they are."""

from __future__ import annotations

import os

from flowsession_agent.install import requirement_lines
from flowsession_agent.session import flow_folder
from flowsession_protocol.limits import REQUIREMENT_FILES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from flowsession_protocol.requirements import Line


class Copies:
    """The copies of one install, in the folders of their originals, since paths in the files are relative."""

    def __init__(self, root: str, rewrite: Callable[[str], str]) -> None:
        self._root = os.path.abspath(root)
        self._rewrite = rewrite  # a file's text
        self._name = flow_folder.copy_name()
        self._made: dict[str, str] = {}  # original -> its copy, or itself if nothing had to be changed

    def of(self, path: str) -> str:
        """Return the file to install from in place of `path`. Raises OSError if a copy can't be written."""
        path = os.path.abspath(path)
        if path in self._made or len(self._made) >= REQUIREMENT_FILES:
            return self._made.get(path, path)
        self._made[path] = path  # for files that include each other
        name = os.path.relpath(path, self._root)
        if name.startswith(os.pardir) or not flow_folder.is_inside(self._root, name):
            return path
        text = requirement_lines.text_at(path)
        if text is None:
            return path  # the tool reports it
        changed = requirement_lines.rewritten(self._rewrite(text), lambda line: self._line(path, line))
        if changed != text:
            folder, last = os.path.split(name)
            copy = os.path.join(folder, self._name(last))
            flow_folder.put(self._root, copy, lambda file: file.write(changed.encode()))
            self._made[path] = os.path.join(self._root, copy)
        return self._made[path]

    def remove(self) -> None:
        """Delete the copies."""
        for path, copy in self._made.items():
            if copy != path and os.path.lexists(copy):
                os.unlink(copy)

    def _line(self, path: str, line: Line) -> str:
        """Return the line with an included file replaced by its copy. pip reads one file from such a line, and nothing else."""
        for option in ("--requirement", "--constraint") if not line.body else ():
            for target in line.values(option)[:1]:
                included = self._included(path, target)
                before, _, after = line.text.rpartition(target)
                return line.text if included == target else f"{before}{included}{after}"
        return line.text

    def _included(self, path: str, target: str) -> str:
        """Return what the file at `path` is to include in place of `target`."""
        if "://" in target:
            return target
        inner = os.path.abspath(os.path.join(os.path.dirname(path), target))
        copy = self.of(inner)
        return target if copy == inner else os.path.relpath(copy, os.path.dirname(path))
