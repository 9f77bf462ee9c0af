"""The agent's state, with a version that grows with every change and callers that wait for the next one."""

from __future__ import annotations

import os
import threading
import time

from flowsession_agent.check.result import Result
from flowsession_protocol import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Mapping

    from flowsession_protocol import messages


class Install:
    """The last install, running or finished."""

    def __init__(self, *, state: str = "None", packages_revision: str = "", tool: str = "") -> None:
        self.state = state
        self.packages_revision = packages_revision
        self.tool = tool
        self.exit_code = 0
        self.started_at = time.monotonic()
        self.seconds: float | None = None if state == "Running" else 0.0
        self.changed = 0
        self.code = ""
        self.message = ""
        self.stdout_tail = ""
        self.stderr_tail = ""
        self.warnings: list[str] = []

    def members(self) -> messages.Install:
        """Return the object under `install` in the protocol."""
        seconds = time.monotonic() - self.started_at if self.seconds is None else self.seconds
        return {
            "state": self.state,
            "packagesRevision": self.packages_revision,
            "tool": self.tool,
            "exitCode": self.exit_code,
            "seconds": round(seconds, 2),
            "changed": self.changed,
            "code": self.code,
            "message": self.message,
            "stdoutTail": self.stdout_tail[-limits.TAIL :],
            "stderrTail": self.stderr_tail[-limits.TAIL :],
            "warnings": [warning[: limits.WARNING] for warning in self.warnings[: limits.WARNINGS]],
        }

    @classmethod
    def remembered(cls, members: Mapping[str, Any]) -> Install:
        """Return the install that an earlier start of the agent recorded by `members()`. Raises KeyError, TypeError or ValueError."""
        install = cls(state=str(members["state"]), packages_revision=str(members["packagesRevision"]), tool=str(members["tool"]))
        install.exit_code, install.changed = int(members["exitCode"]), int(members["changed"])
        install.seconds = float(members["seconds"])
        install.warnings = [str(warning) for warning in members["warnings"]]
        return install


class State:
    """Revisions, install and retirement under one lock."""

    def __init__(self) -> None:
        self.boot_id = os.urandom(8).hex()
        self.packages_revision = ""
        self.flow_revision = ""
        self.install = Install()
        self.check = Result()
        self.retired = False
        self.packages_count = 0
        self._version = 1
        self._changed = threading.Condition(threading.RLock())

    def change(self, edit: Callable[[], None]) -> None:
        """Apply `edit` and wake all callers that wait for a newer version."""
        with self._changed:
            edit()
            self._version += 1
            self._changed.notify_all()

    def wait_for_newer(self, than: int, *, seconds: float) -> None:
        """Wait until the version is greater than `than`, but at most `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self._version > than, timeout=seconds)

    def wait_for_check(self, *, seconds: float) -> Result:
        """Wait until no check is outstanding, but at most `seconds`. Return the last one's result, whose state may be `Running`."""
        with self._changed:
            self._changed.wait_for(lambda: self.check.state == "Done", timeout=seconds)
            return self.check

    def whole(self, pod_uid: str, *, about: messages.About, activity: messages.Activity, edits: messages.Edits) -> messages.State:
        """Return the protocol's state. The arguments are the parts that are computed for each response."""
        with self._changed:
            return {
                "podUID": pod_uid,
                "agent": about,
                "bootID": self.boot_id,
                "version": self._version,
                "environment": {"packagesRevision": self.packages_revision, "flowRevision": self.flow_revision},
                "install": self.install.members(),
                "check": self.check.members(),
                "packages": {"count": self.packages_count},
                "retired": self.retired,
                "activity": activity,
                "edits": edits,
            }
