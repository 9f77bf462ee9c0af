"""Extract why requirements conflict from the output of uv and pip, in whole sentences."""

from __future__ import annotations

import re

from flowsession_protocol.requirements import normalise

LONGEST = 700
"""Maximum characters of the reasons in a message."""

START = re.compile(r"\bBecause ")
END = re.compile(r"\n[^\S\n]*\n|\nhint")
SENTENCE = re.compile(r"(?<=\.)\s(?=[A-Z])")
"""The space between two sentences; a version's dot has none after it."""

INDENTED = "    "
"""The start of a line in pip's list of causes."""


def reasons(text: str) -> str:
    """Return the reasons in one line, without a period at the end; empty if the tool gave none."""
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
    """Return the normalized names of all distributions that a text may mention."""
    return {normalise(word.rstrip("._-")) for word in re.findall(r"[A-Za-z0-9][\w.-]*", text)}


def _fitting(parts: list[str], between: str) -> str:
    """Return as many leading parts as fit, and the last one, which has the conclusion."""
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
