"""Limits on what operator and agent send each other: the sender keeps to them, and the receiver refuses or cuts what exceeds them."""

FLOW_BYTES = 8 * 1024 * 1024
"""Total bytes of a flow folder's files."""

FLOW_FILES = 10_000
"""Files of a flow folder, with its includes."""

ARCHIVE_FILES = 3_000
"""Files, folders and links of a source's archive. Reading that many takes up to 70 ms of CPU time (measured)."""

ARCHIVE_BYTES = 1_000_000
"""Bytes of a packed archive, of a source or of edits: it must fit in a ConfigMap (1 MiB)."""

NAME_BYTES = 255
"""Bytes of a file's name, as file systems have it."""

PATH_BYTES = 1024

OUTSIDE_MODULES = 100
"""Modules of a flow's source, outside the flow folder, that are sent to a session."""

REQUIREMENT_FILES = 50
"""Requirements files that include one another."""

FEED_TOKEN = 64 * 1024
"""Characters of the token for private feeds."""

TAIL = 4_000
"""Characters of the end of a tool's output."""

WARNINGS = 20
"""Warnings of an install, and of a source."""

WARNING = 500
"""Characters of a warning."""

PROBLEMS = 20
"""Problems of the flow in the agent's state; `POST /v1/validate` returns all that are listed."""

PROBLEM = 500
"""Characters of a problem, and of the reason for which a flow was not checked."""

PROBLEM_PLACE = 200
"""Characters of a problem's file and node."""

REQUIRING = 20
"""Packages listed as requiring another one."""

EDITED_IN_STATE = 50
"""Edited files named in the state."""

EDITED = 500
"""Edited files named in the response that contains their archive."""

KEPT = 20
"""Files named in the state that hold edits moved aside by a push."""

FINGERPRINT_DIGITS = 32
"""Hexadecimal digits of the SHA-256 in a file's fingerprint, which is the size in bytes, a colon, and these digits."""

FINGERPRINTS = 2_000
"""Edited files that are sent with the fingerprint of the pushed file that was edited."""


RUN_ERRORS = 10
"""Failed lines, and warnings, in a run's state."""

RUN_METRICS = 100
"""Metrics of a run."""

RUN_OUTPUT_BYTES = 64 * 1024 * 1024
"""Bytes of a run's outputs before they are packed."""

RUN_LOG_TAIL = 2_000
"""Bytes of the end of a failed run's log in its state."""

RUN_MAPPING = 100
"""Inputs in a run's column mapping."""


def too_long(path: bytes) -> bool:
    """Return whether a path, or one of its parts, has more bytes than file systems accept."""
    return len(path) > PATH_BYTES or max(map(len, path.split(b"/"))) > NAME_BYTES


def is_unsafe_path(path: bytes) -> bool:
    """Return whether a path is anything but a plain descent: relative, without `.`, `..` and empty parts."""
    return b"\0" in path or any(part in (b"", b".", b"..") for part in path.split(b"/"))
