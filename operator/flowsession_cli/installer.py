"""What an installer says while it runs in a session, line by line, by `flow packages --follow` there."""

import subprocess
import sys
import threading
from collections.abc import Callable

from flowsession_cli import render
from flowsession_cli.cluster import Cluster, Object
from flowsession_cli.errors import CliError

_TAIL_LINES = 8
"""Lines of a failed installer's end that are shown."""

_LAST_WORDS_SECONDS = 1.0


class Installer:
    """Follows the install of one pod at a time. Where that can't be done, for want of a right or with an older agent, it says nothing."""

    def __init__(self, cluster: Cluster, tell: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._tell = tell
        self._pod = ""
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def look(self, session: Object) -> None:
        """Begin to follow where an install is under way, and let the last words come where it is over."""
        pod = session.get("status", {}).get("podName", "")
        if not is_under_way(session):
            self._end()
        elif pod and pod != self._pod:
            self._end()
            self._pod = pod
            self._begin(pod)

    def close(self) -> None:
        """Stop to follow."""
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
            self._tell(line.rstrip())

    def _end(self) -> None:
        """Let it end by itself, which it does with the install, but not for long."""
        process, thread, self._process, self._pod = self._process, self._thread, None, ""
        if process is None or thread is None:
            return
        thread.join(_LAST_WORDS_SECONDS)
        process.kill()
        process.wait()


def refuse_failed(session: Object) -> None:
    """Raises CliError if the last install failed. A live picture has left nothing of its last words, so they come before that."""
    found, install = render.condition(session, "PackagesInstalled"), session["status"].get("install") or {}
    if found.get("status") != "False" or is_under_way(session):
        return
    lines = [line for line in str(install.get("stderrTail") or install.get("stdoutTail") or "").splitlines() if line.strip()]
    for line in lines[-_TAIL_LINES:] if render.is_terminal(sys.stdout) else []:
        print(f"  {line}", file=sys.stderr)
    raise CliError(f"{session['metadata']['name']} keeps the packages that it has: {found.get('message')} ({found.get('reason')})")


def is_under_way(session: Object) -> bool:
    """Whether packages are being installed."""
    return (
        render.condition(session, "PackagesInstalled").get("reason") == "Installing"
        or session.get("status", {}).get("phase") == "Installing"
    )
