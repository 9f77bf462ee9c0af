"""kubectl, helm and kind: the person's own if present, else built from Go modules into the cache."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from localcluster import binaries, paths
from localcluster.say import CannotContinue, progress
from localcluster.shell import run

KIND_VERSION = "v0.33.0"


def kubectl() -> Path:
    """Return its path. Raises CannotContinue if it can be neither found nor built."""
    module = binaries.KUBERNETES
    return _own("kubectl") or _built(replace(module, programs={"kubectl": module.programs["kubectl"]}), "kubectl")


def helm() -> Path:
    """Return its path. Raises CannotContinue if it can be neither found nor built."""
    return _own("helm") or _built(binaries.HELM, "helm")


def kind() -> Path:
    """Return its path. Raises CannotContinue if it can be neither found nor built."""
    found = _own("kind")
    if found:
        return found
    folder = paths.cache("bin", f"kind-{KIND_VERSION}")
    if not (folder / "kind").exists():
        if shutil.which("go") is None:
            raise CannotContinue(
                "Docker is here, but neither kind nor Go to build it; install kind (https://kind.sigs.k8s.io) and run this again."
            )
        progress(f"building kind {KIND_VERSION}")
        run("go", "install", f"sigs.k8s.io/kind@{KIND_VERSION}", env={"GOBIN": str(folder), "GOFLAGS": "-buildvcs=false"})
    return folder / "kind"


def kubectl_flow() -> Path:
    """Return the checkout's own `kubectl flow`. Raises CannotContinue if it isn't installed."""
    program = paths.CHECKOUT / ".venv" / "bin" / "kubectl-flow"
    if not program.exists():
        raise CannotContinue(f"{program} is not there; `make demo` installs it and goes on.")
    return program


def _own(program: str) -> Path | None:
    found = shutil.which(program, path=os.environ.get("PATH"))
    return Path(found) if found else None


def _built(module: binaries.Module, program: str) -> Path:
    binaries.build(module)
    return module.binary(program)
