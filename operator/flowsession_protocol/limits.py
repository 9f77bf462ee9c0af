"""How much one side sends and the other takes: what the sender keeps to, and what the receiver refuses or cuts."""

FLOW_BYTES = 8 * 1024 * 1024
"""Bytes of all files of a flow folder together."""

FLOW_FILES = 10_000
"""Files of a flow folder, with all that it includes."""

ARCHIVE_FILES = 3_000
"""Files, folders and links of a source's archive. Reading as many takes up to 70 ms of processor (measured)."""

ARCHIVE_BYTES = 1_000_000
"""Bytes of a packed archive, of a source or of edits: it must fit in a ConfigMap (1 MiB)."""

NAME_BYTES = 255
"""Bytes of a file's name, as file systems have it."""

PATH_BYTES = 1024

OUTSIDE_MODULES = 100
"""Modules of a flow's source outside of its folder that a session is told of."""

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
"""Problems of the flow in the agent's state; all that are listed come by `POST /v1/validate`."""

PROBLEM = 500
"""Characters of a problem, and of why a flow was not checked."""

PROBLEM_PLACE = 200
"""Characters of a problem's file and node."""

REQUIRING = 20
"""Packages that are named as requiring another one."""

EDITED_IN_STATE = 50
"""Edited files that the state names."""

EDITED = 500
"""Edited files that the answer with their archive names."""

KEPT = 20
"""Files, named in the state, that hold an edit which a push moved aside."""

FINGERPRINT_DIGITS = 32
"""Hexadecimal digits of the SHA-256 in the fingerprint of a file: its size in bytes, a colon, and these."""

FINGERPRINTS = 2_000
"""Edited files that are told with the fingerprint of what they were edited from."""


RUN_ERRORS = 10
"""Failed lines of a run that its state names, and warnings."""

RUN_METRICS = 100
"""Metrics of a run."""

RUN_OUTPUT_BYTES = 64 * 1024 * 1024
"""Bytes of a run's outputs before they are packed."""

RUN_LOG_TAIL = 2_000
"""Bytes of the end of a failed run's log in its state."""

RUN_MAPPING = 100
"""Inputs that a run's column mapping names."""


def too_long(path: bytes) -> bool:
    """Whether a path has more bytes than file systems take, in all or in one of its parts."""
    return len(path) > PATH_BYTES or max(map(len, path.split(b"/"))) > NAME_BYTES


def leads_elsewhere(path: bytes) -> bool:
    """Whether a path is anything but a plain way down: relative, without `.`, `..` and empty parts."""
    return b"\0" in path or any(part in (b"", b".", b"..") for part in path.split(b"/"))
