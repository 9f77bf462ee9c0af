"""Files that are either whole or absent, even if the process is killed while writing."""

import os
import secrets
from pathlib import Path


def write(path: Path, text: str | bytes, *, mode: int = 0o644) -> None:
    """Write the whole file by rename, so that readers never see half of it. Do nothing if it holds this text already."""
    content = text.encode() if isinstance(text, str) else text
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    unfinished.replace(path)
