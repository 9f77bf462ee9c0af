"""The datagrams with which an agent announces news: a pod's uid and one word."""

from __future__ import annotations

import re

WAITING, ENDING, KILLED, CHECKED = "waiting", "ending", "killed", "checked"
"""Edits are unsaved; edits are unsaved and the container is being stopped; a process was killed for lack of memory; the flow was checked
again."""

LARGEST = 128
"""Maximum bytes of a datagram."""

FORM = re.compile(rb"flowsession-edits 1 ([A-Za-z0-9-]{1,64}) (waiting|ending|killed|checked)\n")


def message(pod_uid: str, word: str) -> bytes:
    """Return the datagram with a pod's uid and a word."""
    return f"flowsession-edits 1 {pod_uid} {word}\n".encode()


def read(data: bytes) -> tuple[str, str] | None:
    """Return the pod's uid and the word, or None if the data is no such datagram."""
    match = FORM.fullmatch(data) if len(data) <= LARGEST else None
    return (match[1].decode(), match[2].decode()) if match else None
