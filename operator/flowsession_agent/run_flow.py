"""Runs in the session's Python, not in the agent's: one flow, once, by prompt flow's own SDK.

`run_flow FLOW INPUTS OUTPUT`: a flow's file or folder, and the files with the inputs and for the outputs as JSON; flows print what they
like on the standard streams.
"""

from __future__ import annotations

import gc
import json
import sys


def main() -> None:
    """Run the flow; exits with 1 and prompt flow's own words when it fails."""
    flow, inputs_file, output_file = sys.argv[1:]
    # Prompt flow imports 2,200 modules, 1.5 s of processor, and a fifth of it goes into looking for garbage that isn't there.
    gc.disable()
    try:
        from promptflow.client import PFClient  # type: ignore[import-not-found,unused-ignore]
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "promptflow":
            raise
        sys.exit("prompt flow is not installed here: use the default image, or put `promptflow` into the requirements.")
    gc.freeze()
    gc.enable()
    with open(inputs_file, encoding="utf-8") as file:
        inputs = json.load(file)
    outputs = PFClient().test(flow=flow, inputs=inputs)
    if not isinstance(outputs, (dict, str, int, float, list, bool, type(None))):
        outputs = list(outputs)  # a streaming flow
    with open(output_file, "w", encoding="utf-8") as file:
        json.dump(outputs if isinstance(outputs, dict) else {"output": outputs}, file, default=str)
