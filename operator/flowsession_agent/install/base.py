"""The image's own Python, whose packages are below the session's layer."""

from __future__ import annotations

import json
import os
import shutil
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flowsession_agent.session.job import Job

# Names come from the folders of installed distributions: reading their metadata would cost a second on a large image.
PROBE = """
import importlib.util, json, os, site, sys
config, system_sites = os.path.join(sys.prefix, "pyvenv.cfg"), "true"
in_venv = os.path.exists(config)
if in_venv:
    settings = dict(map(str.strip, line.partition("=")[::2]) for line in open(config, encoding="utf-8"))
    system_sites = settings.get("include-system-site-packages", "false").lower()
names, sites = {}, []
library = os.path.dirname(os.__file__)
for folder in sys.path:
    if os.path.isdir(folder) and folder not in (library, os.path.join(library, "lib-dynload")):
        sites.append(folder)
    for entry in (os.listdir(folder) if os.path.isdir(folder) else ()):
        name, dash, version = entry.rpartition(".")[0].partition("-")
        if dash and entry.endswith((".dist-info", ".egg-info")):
            names.setdefault(name.lower().replace("_", "-").replace(".", "-"), version.partition("-")[0])
print(json.dumps({
    "version": sys.version_info[:3], "library": os.path.basename(library),
    "python": os.path.realpath(sys.executable) if in_venv else sys.executable,
    "venvSites": site.getsitepackages() if in_venv else [], "systemSites": system_sites == "true",
    "scripts": os.path.dirname(sys.executable), "pip": importlib.util.find_spec("pip") is not None, "names": names, "sites": sites,
}))
"""


class Base:
    """The facts about the image's Python that a layer needs."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.version = ".".join(map(str, found["version"]))
        self.library: str = found["library"]
        self.python: str = found["python"]  # if the image's Python is a venv, the interpreter behind it
        self.sites: list[str] = found["sites"]  # the folders of its distributions, in the order of sys.path
        self.venv_sites: list[str] = found["venvSites"]  # the image's site-packages, if its Python is a venv
        self.system_sites: bool = found["systemSites"]
        self.scripts: str = found["scripts"]
        self.has_pip: bool = found["pip"]
        self.names: dict[str, str] = found["names"]  # normalized names and versions of its distributions

    @property
    def promptflow(self) -> dict[str, str]:
        """The versions of the image's prompt flow packages. A session never replaces them: the image is built around them."""
        return {name: version for name, version in self.names.items() if name == "promptflow" or name.startswith("promptflow-")}


def probe(job: Job) -> Base:
    """Return the facts about the image's Python. Raises OSError or ValueError if it can't report them."""
    outcome = job.run([sys.executable, "-I", "-c", PROBE])
    return Base(json.loads(outcome.stdout))


def find_uv() -> str:
    """Return the path of the image's uv; empty if it has none."""
    own = os.path.join(os.path.dirname(sys.executable), "uv")
    return own if os.access(own, os.X_OK) else shutil.which("uv") or ""
