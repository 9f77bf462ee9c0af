"""Environment variables for prompt flow in a session: its own home, and no telemetry, tracing service or version check."""

from __future__ import annotations

import os

from flowsession_protocol.variables import PUBLIC_KEYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping

    from flowsession_agent.settings import Home

SILENT = "telemetry:\n  enabled: false\ntrace:\n  destination: none\ncli:\n  installation_id: 00000000-0000-5000-8000-000000000000\n"
"""The installation ID is used by telemetry alone. Without it prompt flow would add its own, and the file would count as an edit."""
CHECKED_FOR_EVER = '{"last_check_time": "2999-01-01 00:00:00.000000", "last_hint_time": "2999-01-01 00:00:00.000000"}'
SETTINGS = {"pf.yaml": SILENT, "pf_version_check.json": CHECKED_FOR_EVER}
"""Files below prompt flow's home that the agent writes, and their content."""


def environ(inherited: Mapping[str, str], *, home: Home, scripts: str) -> dict[str, str]:
    """Return the environment variables for a run whose Python is in `scripts`, after writing prompt flow's settings if missing."""
    promptflow = os.path.join(home.home, ".promptflow")
    os.makedirs(promptflow, exist_ok=True)
    for name, content in SETTINGS.items():
        path = os.path.join(promptflow, name)
        if not os.path.exists(path):
            temporary = f"{path}.{os.urandom(6).hex()}.tmp"  # a unique name: tests run concurrently
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(content)
            os.replace(temporary, path)  # atomically: a partial file would count as an edit of the session's home
    found = {name: value for name, value in inherited.items() if name != PUBLIC_KEYS}
    found.update(
        HOME=home.home,
        TMPDIR=home.tmp,
        PF_HOME_DIRECTORY=promptflow,
        APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED="true",
        APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL="true",
        PATH=os.pathsep.join([scripts, inherited.get("PATH", os.defpath)]),
    )
    return found
