"""Starts `kubectl flow` from its one file, which is unpacked once into the user's cache, where Python caches compiled modules too.

Every Python that may be called python3 must be able to parse this, so that an old one can report that it is too old.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import os
import sys

DIGEST = ""
"""Hash of all that is in the file, filled in by the build."""

NEEDED = (3, 11)
NEWEST = 20
"""The newest minor version of Python to look for."""


def main():
    """Run the program, or its completion if kubectl calls it by that name. Use a newer Python if this one is too old."""
    if sys.version_info[:2] < NEEDED:
        with_newer_python()
    archive = os.path.dirname(os.path.abspath(__file__))
    sys.path[0] = unpacked(archive)
    if os.path.basename(sys.argv[0]).startswith("kubectl_complete-"):
        from flowsession_cli.complete import main as run
    else:
        from flowsession_cli.__main__ import main as run
    run()


def with_newer_python():
    """Become a newer Python that is on the PATH. Exits with a message if none is found."""
    import subprocess
    from shutil import which

    for minor in range(NEWEST, NEEDED[1] - 1, -1):
        python = which("python3.%d" % minor)
        if python and subprocess.call([python, "-c", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0:
            os.execv(python, [python] + sys.argv)
    sys.stderr.write("kubectl flow needs Python 3.11 or newer, and python3 is %d.%d: install one, as python3.12\n" % sys.version_info[:2])
    sys.exit(1)


def unpacked(archive):
    """Return the folder with the unpacked modules, or the file itself, which is slower, if the cache can't be written."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    parent = os.path.join(cache, "kubectl-flow")
    folder = os.path.join(parent, DIGEST)
    if os.path.isdir(folder):
        return folder
    import shutil
    import tempfile
    import zipfile

    coming = ""
    try:
        os.makedirs(parent, mode=0o700, exist_ok=True)
        coming = tempfile.mkdtemp(dir=parent)
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(coming)
        os.rename(coming, folder)
    except OSError:  # no space, no permission, or a concurrent call was faster
        shutil.rmtree(coming, ignore_errors=True)
    return folder if os.path.isdir(folder) else archive


if __name__ == "__main__":
    main()
