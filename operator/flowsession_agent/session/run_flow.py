"""Runs in the session's Python, not in the agent's: one flow, once, by prompt flow's own SDK.

`run_flow FLOW ORDER OUTPUT`: a flow's file, and the files with what to run and for the outputs, as JSON; flows print what they like on the
standard streams. The order has `inputs`, and perhaps the `node` to run alone or the `variant` to run with.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import sys

from flowsession_agent.session import traces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REFUSED = 3
"""Exit code for an input, node or variant that the flow hasn't got; the output file then says which."""


def main() -> None:
    """Run the flow; exits with 1 and prompt flow's own words when it fails."""
    flow, order_file, output_file = sys.argv[1:]
    with open(order_file, encoding="utf-8") as file:
        order = json.load(file)
    inputs, chosen = order["inputs"], {name: order[name] for name in ("node", "variant") if order.get(name)}
    if (inputs or chosen) and (refused := refusal(flow, inputs, **chosen)):
        _write(output_file, {"refused": refused})
        sys.exit(REFUSED)
    # Prompt flow imports 2,200 modules, 1.5 s of processor, and a fifth of it goes into looking for garbage that isn't there.
    gc.disable()
    try:
        import promptflow.client  # type: ignore[import-not-found,unused-ignore] # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "promptflow":
            raise
        if importlib.util.find_spec("promptflow") and importlib.util.find_spec("promptflow.core"):
            if chosen:
                sys.exit("promptflow-core alone runs whole flows only: for nodes and variants put `promptflow` into the requirements.")
            with traces.sent(os.path.dirname(output_file)):
                _write(output_file, run_by_core(flow, inputs))
            return
        sys.exit("prompt flow is not installed here: use the default image, or put `promptflow` into the requirements.")
    except OSError as error:
        from flowsession_agent.session import space

        if not space.is_short(error):
            raise
        where = space.full(error) or "the session"
        sys.exit(f"No space is left in {where}, so prompt flow can't start: delete what isn't needed there ({error}).")
    gc.freeze()
    gc.enable()
    with traces.sent(os.path.dirname(output_file)):
        _write(output_file, run(flow, inputs, **chosen))


def run(flow: str, inputs: dict[str, Any], **chosen: str) -> dict[str, Any]:
    """The outputs as `pf flow test` has them, by name; raises what the flow raises. Generators are run to their end."""
    from promptflow.client import PFClient

    outputs = PFClient().flows.test(flow=flow, inputs=inputs, allow_generator_output=False, stream_output=False, **chosen)
    fields = _fields(outputs)
    if fields is not None:
        return fields
    return outputs if isinstance(outputs, dict) else {"output": outputs}


def run_by_core(flow: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """The outputs by promptflow-core alone, which has no `pf flow test`; raises what the flow raises."""
    from promptflow.core import Flow  # type: ignore[import-not-found,unused-ignore]

    os.environ.setdefault("PF_DISABLE_TRACING", "true")
    outputs = Flow.load(flow)(**inputs)
    return dict(outputs) if isinstance(outputs, dict) else {"output": outputs}


def refusal(flow: str, inputs: dict[str, Any], **chosen: str) -> dict[str, str] | None:
    """Return `code` and `message` about what the flow hasn't got; None where it has all, or where that can't be told."""
    from flowsession_agent.session import flow_inputs

    return flow_inputs.refusal(flow, list(inputs), **chosen)


def _write(path: str, members: dict[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(members, file, default=_plain)


def _plain(value: Any) -> Any:
    """What JSON has no form for: a dataclass by its fields, what can be iterated once as a list, else as a text."""
    fields = _fields(value)
    if fields is not None:
        return fields
    if hasattr(value, "__next__"):
        return list(value)
    return str(value)


def _fields(value: Any) -> dict[str, Any] | None:
    """A dataclass' fields, as prompt flow stores them."""
    import dataclasses

    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return None
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
