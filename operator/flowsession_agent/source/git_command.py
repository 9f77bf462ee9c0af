"""Run git without the machine's and the user's configuration, under one deadline, and turn its failures into sentences."""

from __future__ import annotations

import os
import ssl
import tempfile

from flowsession_agent.session.job import Job
from flowsession_agent.source import failures
from flowsession_agent.source.credentials import Credentials
from flowsession_agent.source.errors import SourceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from flowsession_agent.session.children import Children
    from flowsession_agent.session.job import Outcome
    from flowsession_agent.settings import Home
    from flowsession_agent.source.order import SourceOrder

_SETTINGS = [
    *("core.hooksPath=/dev/null", "credential.helper=", "gc.auto=0", "maintenance.auto=false"),
    *("protocol.version=2", "http.lowSpeedLimit=100", "http.lowSpeedTime=30"),
]
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_DOING = {"ls-remote": "can't list", "fetch": "can't fetch"}


class Git:
    """git for one repository, stored in `folder` below `scratch`."""

    def __init__(self, order: SourceOrder, *, credentials: str, scratch: str, home: Home, children: Children) -> None:
        assert order.git is not None, "that is what it asks for"
        self.url = order.git.url
        self.scratch = scratch
        self.folder = os.path.join(scratch, "repository")
        self._seconds = order.seconds
        self._credentials = Credentials(credentials)
        environ = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": home.home,
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "http:https:ssh",
            **order.environment,
            **self._credentials.environment(order.git, scratch=scratch),
        }
        bundle = order.ca_bundle + self._credentials.ca_bundle()
        if bundle:
            environ["GIT_SSL_CAINFO"] = self._certificates(bundle)
        self._job = Job(children, environ=environ, cwd=scratch, seconds=order.seconds)

    def must(self, *arguments: str, inside: bool = True) -> str:
        """Return the command's output. Raises SourceError if it fails."""
        outcome = self.run(*arguments, inside=inside)
        if outcome.exit_code:
            raise self.failed(arguments[0], outcome)
        return outcome.stdout

    def run(self, *arguments: str, inside: bool = True, stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None) -> Outcome:
        """Run a command and return its outcome. Raises SourceError if git is missing or the time is over."""
        options = [word for setting in _SETTINGS for word in ("-c", setting)]
        where = ["-C", self.folder] if inside else []
        try:
            outcome = self._job.run(["git", *options, *where, *arguments], stdin=stdin, stdout=stdout)
        except OSError as error:
            message = f"git can't be started ({error.strerror}): the runtime image needs git and openssh-client"
            raise SourceError("GitMissing", message) from error
        if outcome.timed_out:
            message = f"reading {self.url} took more than {self._seconds:.0f} s; narrow path, or use a persistentVolumeClaim"
            raise SourceError("Timeout", message)
        return outcome

    def failed(self, doing: str, outcome: Outcome) -> SourceError:
        """Return the error for a failed command."""
        message = _DOING.get(doing, f"git can't {doing} of")
        return failures.of_git(f"{message} {self.url}", outcome.stderr, self._credentials.masked(outcome.stderr))

    def file(self, data: bytes = b"") -> IO[bytes]:
        """Return an unnamed file that holds `data`, for a command's input or output."""
        file = tempfile.TemporaryFile(dir=self.scratch)  # noqa: SIM115 - whoever asked closes it
        file.write(data)
        file.seek(0)
        return file

    def _certificates(self, more: str) -> str:
        """Return a file with these certificates and the image's: git takes one file, and then trusts nothing else."""
        known = ssl.get_default_verify_paths().cafile or _CERTIFICATES
        path = os.path.join(self.scratch, "ca.pem")
        with open(path, "w", encoding="utf-8") as file:
            if os.path.exists(known):
                with open(known, encoding="utf-8", errors="replace") as own:
                    file.write(own.read() + "\n")
            file.write(more)
        return path
