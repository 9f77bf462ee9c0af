"""Read why requirements contradict each other in the words of uv and pip, whole sentences at a time."""

from __future__ import annotations

import re

from flowsession_protocol.requirements import normalise

LONGEST = 700
"""Characters of a proof in a message."""

START = re.compile(r"\bBecause ")
END = re.compile(r"\n[^\S\n]*\n|\nhint")
SENTENCE = re.compile(r"(?<=\.)\s(?=[A-Z])")
"""Between two sentences: a version's dot has no space behind it."""

INDENTED = "    "
"""What a line of pip's cause begins with."""


def reasons(text: str) -> str:
    """Return the reasons in one line, without a full stop at its end; empty where the tool gave none."""
    _, caused, rest = text.partition("The conflict is caused by:\n")
    if caused:
        causes = [line.strip() for line in rest.split("\n\n", 1)[0].split("\n") if line.startswith(INDENTED)]
        return _fitting(causes, "; ").rstrip(". ")
    start = START.search(text)
    if start is None:
        return ""
    end = END.search(text, start.end())
    proof = " ".join(text[start.start() : end.start() if end else len(text)].split())
    return _fitting(SENTENCE.split(proof), " ").rstrip(". ")


def names_in(text: str) -> set[str]:
    """Return the distributions that may be named in a text, normalised."""
    return {normalise(word.rstrip("._-")) for word in re.findall(r"[A-Za-z0-9][\w.-]*", text)}


def _fitting(parts: list[str], between: str) -> str:
    """As many parts from the start as fit, and the last one, which says what it comes to."""
    joined = between.join(parts)
    if len(joined) <= LONGEST:
        return joined
    last, kept, length = parts[-1], list[str](), 0
    for part in parts[:-1]:
        length += len(part) + len(between)
        if length + len(last) > LONGEST:
            break
        kept.append(part)
    shown = between.join([*kept, "...", last] if len(parts) > 1 else [last])
    return shown if len(shown) <= LONGEST else shown[:LONGEST].rpartition(" ")[0] + " ..."
