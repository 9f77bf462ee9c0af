"""Follow an installer's output in a session, line by line, through `flow packages --follow` in the pod."""

import subprocess
import sys
import threading
from collections.abc import Callable

from flowsession_cli import render
from flowsession_cli.cluster import Cluster, Object
from flowsession_cli.errors import CliError

_TAIL_LINES = 8
"""Last lines shown of a failed installer's output."""

_LAST_WORDS_SECONDS = 1.0


class Installer:
    """Follows the install of one pod at a time. Shows nothing if a right is missing or the agent is too old."""

    def __init__(self, cluster: Cluster, tell: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._print = tell
        self._pod = ""
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def look(self, session: Object) -> None:
        """Start to follow if an install is running. If it has ended, let its last lines arrive."""
        pod = session.get("status", {}).get("podName", "")
        if not is_installing(session):
            self._end()
        elif pod and pod != self._pod:
            self._end()
            self._pod = pod
            self._begin(pod)

    def close(self) -> None:
        """Stop following."""
        if self._process is not None:
            self._process.kill()
        self._end()

    def _begin(self, pod: str) -> None:
        words = self._cluster.inside(pod, "flow", "packages", "--follow")
        try:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except FileNotFoundError:
            return
        self._thread = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._thread.start()

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout
        for line in process.stdout:
            self._print(line.rstrip())

    def _end(self) -> None:
        """Let the process end, which it does with the install, but kill it after a short wait."""
        process, thread, self._process, self._pod = self._process, self._thread, None, ""
        if process is None or thread is None:
            return
        thread.join(_LAST_WORDS_SECONDS)
        process.kill()
        process.wait()


def refuse_failed(session: Object) -> None:
    """Raise CliError if the last install failed. In a terminal, print its last lines first, since the live picture leaves none behind."""
    found, install = render.condition(session, "PackagesInstalled"), session["status"].get("install") or {}
    if found.get("status") != "False" or is_installing(session):
        return
    lines = [line for line in str(install.get("stderrTail") or install.get("stdoutTail") or "").splitlines() if line.strip()]
    for line in lines[-_TAIL_LINES:] if render.is_terminal(sys.stdout) else []:
        print(f"  {line}", file=sys.stderr)
    raise CliError(f"{session['metadata']['name']} keeps the packages that it has: {found.get('message')} ({found.get('reason')})")


def is_installing(session: Object) -> bool:
    """Return whether packages are being installed."""
    return (
        render.condition(session, "PackagesInstalled").get("reason") == "Installing"
        or session.get("status", {}).get("phase") == "Installing"
    )
