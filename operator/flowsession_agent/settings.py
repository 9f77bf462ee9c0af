"""The agent's settings, from the pod's environment variables, and the paths of its files."""

from __future__ import annotations

import os

from flowsession_agent.errors import StartError
from flowsession_protocol import PORT, variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping

DEFAULT_GRACE = 30.0


class Home:
    """The paths below `$FLOWSESSION_HOME`, as docs/agent-protocol.md lists them."""

    def __init__(self, root: str, *, in_place: str = "", claims: str = "") -> None:
        """`in_place`: the flow folder on a mounted claim, to which `flow` then links, or empty. `claims`: the folder of other claims."""
        self.root = root
        self.claims = claims
        self._in_place = in_place
        self.flow = os.path.join(root, "flow")
        self.venv = os.path.join(root, "venv")
        self.venvs = os.path.join(root, "venvs")
        self.home = os.path.join(root, "home")
        self.tmp = os.path.join(root, "tmp")
        self.cache = os.path.join(root, "cache")
        self.socket = os.path.join(root, "agent.sock")
        self.record = os.path.join(root, "environment.json")
        self.outside_modules = os.path.join(root, "outside-modules.json")
        self.edits = os.path.join(root, "edits.tar.gz")
        self.pushed = os.path.join(root, "pushed.bin")
        self.store_copy = os.path.join(root, "pf.sqlite")
        self.requirements = os.path.join(root, "requirements.txt")
        self.runs = os.path.join(root, "runs")

    @property
    def linked(self) -> str:
        """The name of the folder below `venvs` that `venv` links to; empty if there is no link."""
        try:
            return os.path.basename(os.readlink(self.venv))
        except OSError:
            return ""

    def keep(self) -> None:
        """Recreate the flow folder if someone removed it: commands start there, and would fail without it."""
        if not os.path.isdir(self.flow):
            self.make()

    def _remove_runtime_folder(self) -> None:
        """Remove the folder that the container runtime created as root for commands to start in: this user must own the flow folder."""
        made = os.path.isdir(self.flow) and not os.path.islink(self.flow)
        if made and (self._in_place or not os.access(self.flow, os.W_OK | os.X_OK)):
            os.rmdir(self.flow)

    def make(self) -> None:
        """Create the folders. Raises StartError if they can't be written, or if the claim lacks its flow folder."""
        if self._in_place and not os.path.isdir(self._in_place):
            raise StartError(f"The claim has no flow folder any more ({self._in_place}): correct path and flowPath of the environment.")
        try:
            self._remove_runtime_folder()
            if self._in_place and not os.path.lexists(self.flow):
                os.makedirs(self.root, exist_ok=True)
                os.symlink(self._in_place, self.flow)
            for folder in (self.flow, self.venvs, self.home, self.tmp, self.cache):
                os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise StartError(
                f"Can't write to {self.root} ({error.strerror}): FLOWSESSION_HOME must name a folder that uid {os.getuid()} may write, "
                "give the pod an emptyDir there."
            ) from error


class Settings:
    """Everything the agent was started with."""

    def __init__(
        self, *, home: Home, pod_uid: str, public_keys: str, port: int, resolver: bool, credentials: str, source: str, grace: float
    ) -> None:
        self.home = home
        self.pod_uid = pod_uid
        self.public_keys = public_keys
        self.port = port
        self.resolver = resolver
        self.credentials = credentials
        self.source = source
        self.grace_seconds = grace


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings in `environ`. Raises StartError naming the variable that is missing or wrong."""
    for name in (variables.HOME, variables.POD_UID, variables.PUBLIC_KEYS):
        if not environ.get(name):
            raise StartError(f"The environment variable {name} is not set: the agent is started by the pod that the operator makes.")
    port = environ.get("FLOWSESSION_PORT") or str(PORT)
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise StartError(f"FLOWSESSION_PORT is {port!r}, not a port number.")
    grace = environ.get(variables.GRACE_SECONDS, "")
    return Settings(
        home=Home(
            os.path.abspath(environ[variables.HOME]),
            in_place=environ.get(variables.FLOW, ""),
            claims=environ.get(variables.CLAIMS, ""),
        ),
        pod_uid=environ[variables.POD_UID],
        public_keys=environ[variables.PUBLIC_KEYS],
        port=int(port),
        resolver=environ.get(variables.RESOLVER) == "1",
        credentials=environ.get(variables.CREDENTIALS, ""),
        source=os.path.realpath(environ.get("FLOWSESSION_SOURCE") or "/source"),
        grace=float(grace) if grace.isascii() and grace.isdigit() and len(grace) < 10 else DEFAULT_GRACE,
    )
