"""`kubectl flow` as one file: its own modules, and the libraries of the extra `cli` that it imports, as installed here."""

import hashlib
import io
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

LIBRARIES = ("click", "pathspec", "pyyaml", "rich")
"""Without pygments and markdown-it-py, which rich needs for source text and Markdown: the program prints neither."""

OWN = ("flowsession/__init__.py", "flowsession/api/__init__.py", "flowsession/api/quantity.py", "flowsession_cli", "flowsession_protocol")
SHEBANG = b"#!/usr/bin/env python3\n"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest time that a zip can hold, so that the bytes depend on the modules alone."""


def build(operator: Path) -> bytes:
    """Return the file's bytes, which are the same for the same modules. `operator` is the folder with this project's packages."""
    members = {**_own(operator), **{name: text for library in LIBRARIES for name, text in _library(distribution(library)).items()}}
    digest = hashlib.sha256()
    for name, text in sorted(members.items()):
        digest.update(f"{name}\0{len(text)}\0".encode() + text)
    start = Path(__file__).with_name("start.py").read_text()
    members["__main__.py"] = start.replace('DIGEST = ""', f'DIGEST = "{digest.hexdigest()[:16]}"').encode()
    buffer = io.BytesIO(SHEBANG)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, members[name])
    return buffer.getvalue()


def _own(operator: Path) -> dict[str, bytes]:
    files = [path for part in OWN for path in ([operator / part] if part.endswith(".py") else sorted((operator / part).rglob("*.py")))]
    return {path.relative_to(operator).as_posix(): path.read_bytes() for path in files}


def _library(library: Distribution) -> dict[str, bytes]:
    """Return its Python modules and its license."""
    found = {}
    for file in library.files or ():
        path, name = Path(str(library.locate_file(file))), file.as_posix()
        if name.endswith(".py") and not name.startswith(("..", "_yaml")):
            found[name] = path.read_bytes()
        elif file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING")):
            found[f"licenses/{library.metadata['Name']}/{file.name}"] = path.read_bytes()
    return found
