"""The layers: one folder per install below venvs/, and the link `venv` to the one in use.

Created by hand instead of by the `venv` module: this takes 1 ms instead of 50, and works in images that lack `venv` or `ensurepip`
(Debian's Python without python3-venv).
"""

from __future__ import annotations

import os
import shutil

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowsession_agent.install.base import Base
    from flowsession_agent.settings import Home

SHEBANG_LIMIT = 127  # bytes; older Linux kernels read no more of the first line
IMAGES_OWN = ("flow", "uv", "uvx")  # scripts that don't use the session's packages


class Layer:
    """One folder below venvs/."""

    def __init__(self, home: Home, name: str, library: str) -> None:
        self.name = name
        self.path = os.path.join(home.venvs, name)
        self.python = os.path.join(self.path, "bin", "python")
        self.site = os.path.join(self.path, "lib", library, "site-packages")

    def count(self) -> int:
        """Return the number of distributions in the layer."""
        return sum(entry.endswith(".dist-info") for entry in os.listdir(self.site))


def make(home: Home, base: Base) -> Layer:
    """Create an empty layer that sees the packages of `base`. Raises OSError if the disk is full."""
    os.makedirs(home.venvs, exist_ok=True)
    numbers = [int(name) for name in os.listdir(home.venvs) if name.isdigit()]
    layer = Layer(home, str(max(numbers, default=0) + 1), base.library)
    os.makedirs(layer.site)
    os.mkdir(os.path.join(layer.path, "bin"))
    os.symlink("lib", os.path.join(layer.path, "lib64"))
    os.symlink(base.python, layer.python)
    for alias in ("python3", os.path.basename(base.library)):
        os.symlink("python", os.path.join(layer.path, "bin", alias))
    with open(os.path.join(layer.path, "pyvenv.cfg"), "w", encoding="utf-8") as file:
        file.write(f"home = {os.path.dirname(base.python)}\n")
        file.write(f"include-system-site-packages = {'true' if base.system_sites else 'false'}\nversion = {base.version}\n")
    if base.venv_sites:  # by default a venv on a venv sees only the interpreter's packages
        with open(os.path.join(layer.site, "_flowsession_image.pth"), "w", encoding="utf-8") as file:
            file.writelines(f"import site; site.addsitedir({site!r})\n" for site in base.venv_sites)
    return layer


def add_scripts(layer: Layer, base: Base) -> None:
    """Copy the image's console scripts (`pf`, `pip`, ...) for the layer: the originals start a Python that doesn't see the layer."""
    for name in os.listdir(base.scripts):
        source, target = os.path.join(base.scripts, name), os.path.join(layer.path, "bin", name)
        if name in IMAGES_OWN or os.path.lexists(target) or not os.path.isfile(source):
            continue
        try:
            with open(source, "rb") as script:
                first = script.readline(SHEBANG_LIMIT + 1)
                words = first[2:].split()
                if not first.startswith(b"#!") or len(words) != 1 or not _is_python_of(words[0].decode(), base):
                    continue
                content = f"#!{layer.python}\n".encode() + script.read()
            with open(target, "wb") as file:
                file.write(content)
            os.chmod(target, 0o755)  # noqa: S103 - as every installer writes them
        except (OSError, UnicodeDecodeError):  # the session can't run an unreadable script either
            continue


def switch(home: Home, layer: Layer) -> None:
    """Make `layer` the one in use, atomically."""
    temporary = f"{home.venv}.{os.urandom(4).hex()}"
    os.symlink(os.path.join("venvs", layer.name), temporary)
    os.replace(temporary, home.venv)


def remove(layer: Layer) -> None:
    """Remove a layer that failed."""
    shutil.rmtree(layer.path, ignore_errors=True)


def remove_unused(home: Home) -> None:
    """Remove every layer but the one in use and those that a process still uses, which are checked again at the next install."""
    try:
        current = os.path.basename(os.readlink(home.venv))
    except OSError:
        current = ""
    for name in os.listdir(home.venvs):
        path = os.path.join(home.venvs, name)
        if name != current and not _in_use(path):
            shutil.rmtree(path, ignore_errors=True)


def _in_use(path: str) -> bool:
    wanted = os.fsencode(path) + b"/"
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for kind in ("cmdline", "environ", "maps"):
            try:
                with open(f"/proc/{pid}/{kind}", "rb") as file:
                    if wanted in file.read():
                        return True
            except OSError:
                continue
    return False


def _is_python_of(interpreter: str, base: Base) -> bool:
    return os.path.dirname(interpreter) == base.scripts and os.path.basename(interpreter).startswith("python")
