"""Make `agent.pyz`, the agent as one file for images that lack it: `python -m flowsession_agent.build OUT`.

The bytes depend only on the modules' text, so a hash of the file identifies a version of the agent.
"""

from __future__ import annotations

import os
import sys
import zipfile

START = '''"""The agent in one file: starts it in a pod, or acts as the command `flow`."""
import sys

if sys.version_info < (3, 9):
    sys.stderr.write("The agent needs Python 3.9 or newer; this is %d.%d.\\n" % sys.version_info[:2])
    sys.exit(64)
from flowsession_agent.__main__ import main

sys.exit(main())
'''
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip can hold


def build(target: str) -> None:
    """Write the archive to `target`."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    members = {"__main__.py": START.encode()}
    for package in ("flowsession_agent", "flowsession_protocol"):
        for folder, _, names in os.walk(os.path.join(root, package)):
            for name in names:
                path = os.path.join(folder, name)
                if name.endswith(".py") and name != "build.py":
                    with open(path, "rb") as file:
                        members[os.path.relpath(path, root)] = file.read()
    with zipfile.ZipFile(target, "w") as archive:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, members[name])


if __name__ == "__main__":
    build(sys.argv[1])
