"""Reads an agent's answer about a source into a view, with every text and the archive limited to a harmless size."""

import re
from typing import Any

from flowsession.api.source import SourceWarning
from flowsession.cluster.agent.answers import size_of, text, word
from flowsession.model.agent_views import SourceAnswer
from flowsession_protocol.limits import ARCHIVE_BYTES, WARNING, WARNINGS

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def source(document: dict[str, Any]) -> SourceAnswer:
    """Return the result of reading the source; a malformed answer counts as a failure."""
    state = document.get("state")
    if state == "Running":
        return SourceAnswer()
    if state != "Done":
        return SourceAnswer(state="Failed", code=text(document.get("code"), 40), message=word(document.get("message"), 1500))
    commit, archive = document.get("commit", ""), document.get("archive")
    if not isinstance(commit, str) or (commit and not _COMMIT.fullmatch(commit)):
        return SourceAnswer(state="Failed", code="InternalError", message="the agent that read it named no commit")
    known = SourceAnswer(
        state="Done", revision=word(document.get("revision"), 255), commit=commit, warnings=_warnings(document.get("warnings"))
    )
    if document.get("unchanged") is True and commit:
        return SourceAnswer(state="Done", revision=known.revision, commit=commit, unchanged=True)
    size = size_of(archive)
    if not isinstance(archive, str) or not 0 < size <= ARCHIVE_BYTES:
        message = f"the agent that read it sent an archive of {size:,} bytes; at most {ARCHIVE_BYTES:,} can be kept"
        return SourceAnswer(state="Failed", code="TooLarge", message=message)
    return SourceAnswer(state="Done", revision=known.revision, commit=commit, archive=archive, warnings=known.warnings)


def _warnings(value: object) -> tuple[SourceWarning, ...]:
    items = [item for item in value[:WARNINGS] if isinstance(item, dict)] if isinstance(value, list) else []
    return tuple(
        SourceWarning(
            file=word(item.get("file"), 250),
            code=re.sub(r"\W", "", text(item.get("code"), 40)) or "Other",
            message=word(item.get("message"), WARNING),
        )
        for item in items
    )
