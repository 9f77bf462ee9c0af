"""The datagrams by which an agent says that there is news: a pod's uid and one word."""

from __future__ import annotations

import re

WAITING, ENDING, KILLED, CHECKED = "waiting", "ending", "killed", "checked"
"""Edits wait to be saved; so they do, and the container is being stopped; a process was killed for memory; the flow was checked again."""

LARGEST = 128
"""Bytes."""

FORM = re.compile(rb"flowsession-edits 1 ([A-Za-z0-9-]{1,64}) (waiting|ending|killed|checked)\n")


def message(pod_uid: str, word: str) -> bytes:
    """The datagram of a pod."""
    return f"flowsession-edits 1 {pod_uid} {word}\n".encode()


def read(data: bytes) -> tuple[str, str] | None:
    """The pod's uid and the word; None for what is no such datagram."""
    match = FORM.fullmatch(data) if len(data) <= LARGEST else None
    return (match[1].decode(), match[2].decode()) if match else None
