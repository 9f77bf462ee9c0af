"""Decides which edits of a flow folder are not saved: files with names that secrets have, and what the folder's own ignore file names.

The ignore file is `.amlignore`, else `.gitignore`, at the top of the folder, by git's rules (https://git-scm.com/docs/gitignore). Pushed
files are saved whatever it says, as git goes on tracking tracked ones.
"""

from __future__ import annotations

import os
import re
import stat

from flowsession_protocol import flow_files

IGNORE_FILES = (".amlignore", ".gitignore")
"""The first one present counts, as in Azure Machine Learning."""
LARGEST = 64 * 1024
MOST_RULES = 200
LONGEST_RULE = 200
MOST_STEPS = 1_000_000
"""Limit of comparisons in one scan of the folder. An ignore file that needs more is not followed, so that scans stay fast."""

SECRET_NAMES = frozenset(
    [
        ".env",
        ".netrc",
        "_netrc",
        ".pypirc",
        ".npmrc",
        ".git-credentials",
        ".htpasswd",
        ".pgpass",
        ".dockerconfigjson",
        "id_rsa",
        "id_dsa",
        "id_ecdsa",
        "id_ed25519",
        "secrets.toml",
        "secrets.yaml",
        "secrets.yml",
        "secrets.json",
    ]
)
SECRET_ENDINGS = (".pem", ".key", ".pfx", ".p12", ".jks", ".keystore", ".kdbx", ".ppk")
SECRET_FOLDERS = frozenset((".ssh", ".aws", ".azure", ".gnupg", ".kube"))
TEMPLATES = (".example", ".sample", ".template", ".dist")
"""Endings of files that are meant to be seen, such as `.env.example`."""
_KEPT = re.compile(rf"{re.escape(flow_files.MOVED_ASIDE)}\d{{0,9}}$")


def looks_secret(path: str) -> bool:
    """Return whether a file's path, relative to its root, is one that secrets have."""
    *folders, name = path.lower().split("/")
    name = _KEPT.sub("", name)
    if any(folder in SECRET_FOLDERS for folder in folders):
        return True
    if name.startswith(".env."):
        return not name.endswith(TEMPLATES)
    return name in SECRET_NAMES or name.endswith(SECRET_ENDINGS)


class Rule:
    """One line of an ignore file."""

    def __init__(self, line: str) -> None:
        self.negates = line.startswith("!")
        body = line[1:] if self.negates else line
        body = body[1:] if body.startswith(("\\#", "\\!")) else body
        self.only_folders = body.endswith("/")
        body = body[:-1] if self.only_folders else body  # one slash, as git does: a rule with two matches nothing
        self._anchored = "/" in body
        parts = body.removeprefix("/").split("/")
        self._parts = [None if part == "**" else Glob(part) for part in parts]

    def fits(self, parts: list[str], *, folder: bool, count: list[int]) -> bool:
        """Return whether the rule matches this very path. Comparisons are added to `count`."""
        if self.only_folders and not folder:
            return False
        if not self._anchored:
            last = self._parts[0]
            return last is None or last.fits(parts[-1], count)
        return self._fits_all(parts, count)

    def _fits_all(self, parts: list[str], count: list[int]) -> bool:
        """Match part by part. `**` matches any number of parts, and at least one at the end."""
        at = mine = 0
        back_mine, back_at = -1, 0
        while at < len(parts):
            more = mine < len(self._parts)
            rule = self._parts[mine] if more else None
            if more and rule is None:
                if mine == len(self._parts) - 1:
                    return True
                back_mine, back_at = mine, at
                mine += 1
            elif rule is not None and rule.fits(parts[at], count):
                at, mine = at + 1, mine + 1
            elif back_mine >= 0:
                back_at += 1
                at, mine = back_at, back_mine + 1
            else:
                return False
        return mine == len(self._parts)


class Glob:
    """A pattern for one part of a path: `*`, `?`, `[a-z]` and `\\`."""

    def __init__(self, pattern: str) -> None:
        self._tokens: list[str | tuple[bool, list[tuple[str, str]]] | None] = []
        self._stars: list[bool] = []
        at = 0
        while at < len(pattern):
            letter = pattern[at]
            at += 1
            if letter == "*":
                self._add(None, star=True)
            elif letter == "?":
                self._add(None, star=False)
            elif letter == "[" and (end := _end_of_class(pattern, at)) > 0:
                self._add(_class_of(pattern[at:end]), star=False)
                at = end + 1
            else:
                if letter == "\\" and at < len(pattern):
                    letter, at = pattern[at], at + 1
                self._add(letter, star=False)

    def fits(self, name: str, count: list[int]) -> bool:
        """Return whether the pattern matches the name. Makes at most len(pattern) * len(name) comparisons."""
        at = mine = 0
        back_mine, back_at = -1, 0
        while at < len(name):
            count[0] += 1
            if mine < len(self._tokens) and self._stars[mine]:
                back_mine, back_at = mine, at
                mine += 1
            elif mine < len(self._tokens) and _matches(self._tokens[mine], name[at]):
                at, mine = at + 1, mine + 1
            elif back_mine >= 0:
                back_at += 1
                at, mine = back_at, back_mine + 1
            else:
                return False
        return all(self._stars[mine:])

    def _add(self, token: str | tuple[bool, list[tuple[str, str]]] | None, *, star: bool) -> None:
        self._tokens.append(token)
        self._stars.append(star)


class Ignore:
    """The ignore file of one folder, read again when it changes. `name` is empty while the folder has none."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._signature: tuple[str, int, int, int] | None = None
        self._rules: list[Rule] = []
        self._known: dict[tuple[str, bool], bool] = {}
        self._count = [0]
        self.name = ""
        self.problem = ""

    def begin(self) -> None:
        """Begin a scan of the folder: read the ignore file again if it has changed."""
        found = self._found()
        signature = found and (found[0], found[1].st_size, found[1].st_mtime_ns, found[1].st_ino)
        self._count[0] = 0
        if signature == self._signature:
            return
        self._signature = signature
        self._known = {}
        self.problem = ""
        self._rules, self.name = (self._read(found[0]), found[0]) if found else ([], "")

    def names(self, path: str, *, folder: bool) -> bool:
        """Return whether the ignore file matches the path or a folder above it."""
        if not self._rules:
            return False
        key = (path, folder)
        known = self._known.get(key)
        if known is None:
            above = path.rpartition("/")[0]
            known = self._known[key] = (above != "" and self.names(above, folder=True)) or self._last_word(path, folder=folder)
        return known

    def _last_word(self, path: str, *, folder: bool) -> bool:
        parts = path.split("/")
        for rule in reversed(self._rules):
            if self._count[0] > MOST_STEPS:
                self.problem = f"{self.name} needs too many comparisons, so it is not followed: nothing is left out for it."
                self._rules, self._known = [], {}
                return False
            if rule.fits(parts, folder=folder, count=self._count):
                return not rule.negates
        return False

    def _found(self) -> tuple[str, os.stat_result] | None:
        for name in IGNORE_FILES:
            try:
                found = os.lstat(os.path.join(self._root, name))
            except OSError:
                continue
            if stat.S_ISREG(found.st_mode):
                return name, found
        return None

    def _read(self, name: str) -> list[Rule]:
        try:
            with open(os.path.join(self._root, name), encoding="utf-8", errors="surrogateescape") as file:
                text = file.read(LARGEST)
        except OSError:
            return []
        lines = [_without_end(line) for line in text.lstrip("\ufeff").splitlines()]
        lines = [line for line in lines if line.strip("/!") and not line.startswith("#")]
        if len(lines) > MOST_RULES or any(len(line) > LONGEST_RULE for line in lines):
            self.problem = f"{name} has more than {MOST_RULES} rules, or one longer than {LONGEST_RULE}: the rest is not followed."
        return [Rule(line) for line in lines[:MOST_RULES] if len(line) <= LONGEST_RULE]


def _without_end(line: str) -> str:
    """Return the line without trailing spaces, except one after a backslash."""
    stripped = line.rstrip(" \t\r")
    return f"{stripped} " if stripped.endswith("\\") and len(stripped) < len(line) else stripped


def _end_of_class(pattern: str, at: int) -> int:
    """Return the position of the `]` that closes the class begun before `at`, or -1."""
    first = at + 1 if pattern[at : at + 1] in ("!", "^") else at
    return pattern.find("]", first + 1)


def _class_of(body: str) -> tuple[bool, list[tuple[str, str]]]:
    negated = body[:1] in ("!", "^")
    letters = body[1:] if negated else body
    ranges, at = [], 0
    while at < len(letters):
        if at + 2 < len(letters) and letters[at + 1] == "-":
            ranges.append((letters[at], letters[at + 2]))
            at += 3
        else:
            ranges.append((letters[at], letters[at]))
            at += 1
    return negated, ranges


def _matches(token: str | tuple[bool, list[tuple[str, str]]] | None, letter: str) -> bool:
    if token is None:
        return True
    if isinstance(token, str):
        return token == letter
    negated, ranges = token
    return any(low <= letter <= high for low, high in ranges) is not negated
