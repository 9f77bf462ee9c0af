"""Names in the .tar.gz that `flow edits --pack` writes and `kubectl flow edits pull` reads."""

INDEX = "edits.json"
"""Its first member: `edits` (path, kind `file`, `link` or `deleted`, executable, and as `pushed` the fingerprint of what it was made on),
`leftOut`, `more`, `problem` and `hasFlow`."""

FILES = "files/"
"""Before the path of an edited file."""

PUSHED = "pushed/"
"""Before the path of what an edited file was made on, where that was kept."""
