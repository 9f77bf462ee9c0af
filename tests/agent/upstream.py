"""Resolves flow folders by prompt flow's own code; run by the Python of an image, one JSON request a line, one answer a line.

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
    """What prompt flow makes of it: `pf flow build` resolves includes and environment in this order."""
    with tempfile.TemporaryDirectory() as name:
        root = (
            Path(name) / "1" / "2" / "3" / "4" / "source"
        )  # so deep that no way out of it leads to /tmp itself: all of it would be copied
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
    """Answers until the input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prompt flow prints is no answer
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
