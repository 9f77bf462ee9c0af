"""Resolve flow folders with prompt flow's own code. Runs in the Python of an image, reads a JSON request and writes an answer per line.

Request: {"archive": base64 of a .tar.gz, "flow": "folder in it"}. Answer: what `resolve` returns, or {"error"}.
"""

import base64
import io
import json
import logging
import os
import sys
import tarfile
import tempfile
from pathlib import Path

from promptflow._sdk._utilities import general_utils
from promptflow._sdk.operations._flow_operations import FlowOperations
from promptflow._utils.flow_utils import is_flex_flow, resolve_flow_path


class Warnings(logging.Handler):
    """Counts the warnings about duplicates."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def emit(self, record):
        self.count += "Found duplicate file" in record.getMessage()


def resolve(request, warnings):
    """Return what prompt flow resolves it to, includes first and then the environment, as `pf flow build` does."""
    with tempfile.TemporaryDirectory() as name:
        root = (
            Path(name) / "1" / "2" / "3" / "4" / "source"
        )  # deep enough that no path out of it leads to /tmp itself, which would be copied as a whole
        root.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(request["archive"]))) as packed:
            packed.extractall(root)
        folder, file = resolve_flow_path(root / request["flow"], allow_prompty_dir=True)
        with FlowOperations._resolve_additional_includes(folder / file) as merged:
            environment = FlowOperations._build_environment_config(None, merged)
            named = environment.get("python_requirements_txt")
            kind = "prompty" if merged.suffix == ".prompty" else "flex" if is_flex_flow(flow_path=merged) else "dag"
            base = merged.parent
            files = {}
            for here, _, names in os.walk(base, followlinks=True):
                for one in names:
                    path = Path(here) / one
                    files[str(path.relative_to(base))] = base64.b64encode(path.read_bytes()).decode()
            lines = (base / named).read_text(encoding="utf-8").splitlines() if named else None
            return {
                "files": files,
                "requirements": named,
                "lines": lines,
                "image": environment.get("image"),
                "kind": kind,
                "file": merged.name,
                "duplicates": warnings.count,
            }


def main():
    """Answer requests until the input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps what prompt flow prints out of the answers
    warnings = Warnings()
    general_utils.logger.addHandler(warnings)
    for line in sys.stdin:
        warnings.count = 0
        try:
            answer = resolve(json.loads(line), warnings)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=out, flush=True)


main()
