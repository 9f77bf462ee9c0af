"""A build context's content hash, which decides whether an image must be rebuilt."""

import fnmatch
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_NEVER = (".git", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".venv", ".localcluster")
"""Never worth a rebuild, even if the Dockerfile's author forgot to ignore them."""


def content_tag(dockerfile: Path, context: Path, build_args: Mapping[str, str]) -> str:
    """Return 12 hex digits over the Dockerfile, the build arguments and every file that the build could copy."""
    digest = hashlib.sha256()
    digest.update(repr((dockerfile.read_bytes(), sorted(build_args.items()))).encode())
    patterns = ignore_patterns(dockerfile, context)
    for path in _files(context, patterns):
        digest.update(path.relative_to(context).as_posix().encode())
        if path.is_symlink():
            digest.update(f"->{path.readlink()}".encode())
        else:
            executable = bool(path.stat().st_mode & 0o100)
            digest.update(f"{executable}{hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()[:12]


def ignore_patterns(dockerfile: Path, context: Path) -> list[str]:
    """Return the lines of the ignore file that Docker and buildah would use, in order. Later ones win."""
    for candidate in (Path(f"{dockerfile}.dockerignore"), context / ".containerignore", context / ".dockerignore"):
        if candidate.is_file():
            lines = (line.strip() for line in candidate.read_text().splitlines())
            return [line for line in lines if line and not line.startswith("#")]
    return []


def ignored(path: str, patterns: Sequence[str]) -> bool:
    """Return whether a path relative to the context is ignored. The last pattern that matches it or a folder above it decides."""
    verdict = False
    for pattern in patterns:
        keep = pattern.startswith("!")
        if _matches(path, pattern.removeprefix("!").strip().strip("/")):
            verdict = not keep
    return verdict


def _matches(path: str, pattern: str) -> bool:
    expression = re.compile(_translate(pattern))
    parts = path.split("/")
    return any(expression.fullmatch("/".join(parts[:depth])) for depth in range(1, len(parts) + 1))


def _translate(pattern: str) -> str:
    """Translate by Docker's rules: `*` stays within a folder, `**` doesn't."""
    parts = []
    for part in pattern.split("/"):
        if part == "**":
            parts.append("(?:[^/]+/)*")
        else:
            parts.append(fnmatch.translate(part)[4:-3].replace(".*", "[^/]*") + "/")
    return "".join(parts).rstrip("/") if parts[-1] != "(?:[^/]+/)*" else "".join(parts[:-1]) + ".*"


def _files(context: Path, patterns: Sequence[str]) -> Iterator[Path]:
    """Yield the files and links of the context that are not ignored, in a stable order."""
    for folder, folders, names in os.walk(context):
        # An ignored folder may hold files that a later `!` includes again, so only names in _NEVER are not descended into.
        folders[:] = sorted(name for name in folders if name not in _NEVER)
        linked = [name for name in folders if Path(folder, name).is_symlink()]
        for name in sorted([*names, *linked]):
            path = Path(folder, name)
            if not ignored(path.relative_to(context).as_posix(), patterns) and (path.is_symlink() or path.is_file()):
                yield path
