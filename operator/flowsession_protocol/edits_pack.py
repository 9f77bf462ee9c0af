"""Names in the .tar.gz that `flow edits --pack` writes and `kubectl flow edits pull` reads."""

INDEX = "edits.json"
"""Its first member: `edits` (path, kind `file`, `link` or `deleted`, executable, and as `pushed` the fingerprint of the pushed file that
was edited), `leftOut`, `more`, `problem` and `hasFlow`."""

FILES = "files/"
"""Prefix of the path of an edited file."""

PUSHED = "pushed/"
"""Prefix of the path of the pushed file that was edited, if it was kept."""
