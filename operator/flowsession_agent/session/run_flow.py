"""Runs in the session's Python, not in the agent's: one flow, once, by prompt flow's own SDK.

`run_flow FLOW ORDER OUTPUT`: the flow's file, and JSON files with the order and for the outputs, since flows print what they like on the
standard streams. The order has `inputs` and optionally the `node` to run alone or the `variant` to run with, `chat` for one round of a chat
(without a message, it is only checked whether the flow can chat), and `stream`, a FIFO for streamed output.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import os
import sys

from flowsession_agent.errors import ApiError
from flowsession_agent.session import quick_exit, traces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator

    from flowsession_agent.session.chat import Chat

REFUSED = 3
"""Exit code for an input, node or variant that the flow lacks, or a chat without a chat flow. The output file then has the reason."""


def main() -> None:
    """Run the flow. Exits with 1 and prompt flow's own message if it fails."""
    flow, order_file, output_file = sys.argv[1:]
    with open(order_file, encoding="utf-8") as file:
        order = json.load(file)
    try:
        chat = _chat(flow, order)
        _refuse(flow, order)
    except ApiError as error:
        _write(output_file, {"refused": {"code": error.code, "message": error.message}})
        sys.exit(REFUSED)
    if chat and order["chat"]["message"] is None:
        _write(output_file, {"outputs": {}})
        return
    # Prompt flow imports 2,200 modules in 1.5 s of CPU time. The garbage collector takes a fifth of that and finds nothing.
    gc.disable()
    try:
        import promptflow.client  # type: ignore[import-not-found,unused-ignore] # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "promptflow":
            raise
        if importlib.util.find_spec("promptflow") and importlib.util.find_spec("promptflow.core"):
            if order.get("node") or order.get("variant"):
                sys.exit("promptflow-core alone runs whole flows only: for nodes and variants put `promptflow` into the requirements.")
            with traces.sent(os.path.dirname(output_file)):
                _write_outputs(output_file, run_by_core(flow, order["inputs"], stream=order.get("stream", "")), chat)
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
    known = set(sys.modules)
    chosen = {name: order[name] for name in ("node", "variant", "init", "stream") if order.get(name)}
    with traces.sent(os.path.dirname(output_file)):
        _write_outputs(output_file, run(flow, order["inputs"], **chosen), chat)
    quick_exit.leave(known)


def _chat(flow: str, order: dict[str, Any]) -> Chat | None:
    """Complete the order of a chat's round. Raises ApiError with 422 NoChatFlow."""
    if "chat" not in order:
        return None
    from flowsession_agent.session.chat import Chat

    chat = Chat(flow, order["chat"]["message"], order["chat"]["history"], given=order["inputs"])
    order["inputs"].update(chat.inputs)
    order["init"] = chat.init
    return chat


def _refuse(flow: str, order: dict[str, Any]) -> None:
    """Raise ApiError with 422 for an input, node or variant that the flow is known to lack."""
    chosen = {name: order[name] for name in ("node", "variant") if order.get(name)}
    if order["inputs"] or chosen:
        from flowsession_agent.session import flow_inputs

        refused = flow_inputs.refusal(flow, list(order["inputs"]), **chosen)
        if refused:
            raise ApiError(422, refused["code"], refused["message"])


def run(flow: str, inputs: dict[str, Any], *, stream: str = "", **chosen: Any) -> dict[str, Any]:
    """Return the outputs by name, as `pf flow test` has them. Generators are run to their end. Raises what the flow raises."""
    from promptflow.client import PFClient

    with parsing_once(), streaming(stream) if stream else contextlib.nullcontext():
        outputs = PFClient().flows.test(flow=flow, inputs=inputs, allow_generator_output=False, stream_output=bool(stream), **chosen)
    fields = _fields(outputs)
    if fields is not None:
        return fields
    return outputs if isinstance(outputs, dict) else {"output": outputs}


def run_by_core(flow: str, inputs: dict[str, Any], *, stream: str = "") -> dict[str, Any]:
    """Return the outputs by promptflow-core alone, which has no `pf flow test`. Raises what the flow raises.

    Core returns generators whether or not streaming was requested.
    """
    os.environ.setdefault("PF_DISABLE_TRACING", "true")
    _expect_no_store()
    with _pieces(stream) if stream else contextlib.nullcontext(_joined) as whole:
        outputs = _called(flow, inputs)
        return _wholes(outputs if isinstance(outputs, dict) else {"output": outputs}, whole)


def _called(flow: str, inputs: dict[str, Any]) -> Any:
    from promptflow.core import Flow  # type: ignore[import-not-found,unused-ignore]

    from flowsession_agent.session import flow_inputs

    if flow.endswith(".prompty") or "entry" not in flow_inputs.declared(flow):
        outputs = Flow.load(flow)(**inputs)
        return dict(outputs) if isinstance(outputs, dict) else outputs
    # Core refuses these with "Please call entry directly for flex flow". Its executor calls them with the inputs' types and defaults.
    from pathlib import Path

    from promptflow.connections import ConnectionProvider  # type: ignore[import-not-found,unused-ignore]
    from promptflow.executor.flow_executor import FlowExecutor  # type: ignore[import-not-found,unused-ignore]

    executor = FlowExecutor.create(Path(flow), ConnectionProvider.get_instance(), Path(flow).parent)
    outputs = executor.exec_line(inputs, allow_generator_output=True).output
    fields = _fields(outputs)
    return outputs if fields is None else fields


def _expect_no_store() -> None:
    """If the session has no connections, give core an empty provider: it would require the store that comes with `promptflow`."""
    from flowsession_agent.connections.store import VARIABLE

    if not os.environ.get(VARIABLE) and not os.environ.get("PF_CONNECTION_PROVIDER"):
        from promptflow.connections import ConnectionProvider
        from promptflow.core._connection_provider._dict_connection_provider import (  # type: ignore[import-not-found,unused-ignore]
            DictConnectionProvider,
        )

        ConnectionProvider._instance = DictConnectionProvider({})


@contextlib.contextmanager
def parsing_once() -> Iterator[None]:
    """Have prompt flow parse a YAML text once in the block: for one test it parses the flow's file nine times, half of the test's time.

    Files are read each time, so a changed one is parsed again. Every caller gets its own copy, which it may change.
    """
    import copy

    try:
        from promptflow._utils import yaml_utils  # type: ignore[import-not-found,unused-ignore]

        parser = yaml_utils.YAML
    except (ImportError, AttributeError):  # another version of prompt flow
        yield
        return
    parsed: dict[str, Any] = {}

    def load(self: Any, stream: Any) -> Any:
        text = stream if isinstance(stream, str) else stream.read()
        if text not in parsed:
            try:
                parsed[text] = parser.load(self, text)
            except Exception:
                if isinstance(stream, str):
                    raise
                stream.seek(0)
                return parser.load(self, stream)  # so that the error names the file
        return copy.deepcopy(parsed[text])

    yaml_utils.YAML = type("YAML", (parser,), {"load": load})
    try:
        yield
    finally:
        yaml_utils.YAML = parser


@contextlib.contextmanager
def streaming(path: str) -> Iterator[None]:
    """Write what flows stream to the FIFO at `path` piece by piece, and take the whole as their output.

    It happens where `pf flow test --interactive` does it: within the test, whose folders and connections still exist.
    """
    from promptflow._sdk._orchestrator import TestSubmitter  # type: ignore[import-not-found,unused-ignore]

    run_flow = TestSubmitter.flow_test
    with _pieces(path) as pieces:

        def flow_test(self: Any, **arguments: Any) -> Any:
            result = run_flow(self, **{**arguments, "allow_generator_output": True})
            if isinstance(result.output, dict):
                result.output = _wholes(result.output, pieces)
            elif hasattr(result.output, "__next__"):
                result.output = pieces(result.output)
            return result

        TestSubmitter.flow_test = flow_test
        try:
            yield
        finally:
            TestSubmitter.flow_test = run_flow


@contextlib.contextmanager
def _pieces(path: str) -> Iterator[Callable[[Iterator[Any]], str]]:
    """Yield a function that runs a generator, writes each piece to the FIFO at `path` as a line `{"text"}`, and returns the whole."""
    with open(path, "w", encoding="utf-8") as fifo:

        def whole(output: Iterator[Any]) -> str:
            pieces = []
            for piece in output:
                pieces.append(str(piece))
                print(json.dumps({"text": pieces[-1]}), file=fifo, flush=True)
            return "".join(pieces)

        yield whole


def _joined(output: Iterator[Any]) -> str:
    return "".join(map(str, output))


def _wholes(outputs: dict[str, Any], whole: Callable[[Iterator[Any]], str]) -> dict[str, Any]:
    return {name: whole(value) if hasattr(value, "__next__") else value for name, value in outputs.items()}


def _write_outputs(path: str, outputs: dict[str, Any], chat: Chat | None) -> None:
    if chat is None:
        _write(path, {"outputs": outputs})
        return
    whole = json.loads(json.dumps(outputs, default=_plain))
    _write(path, {"outputs": whole, "chat": chat.answer(whole)})


def _write(path: str, members: dict[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(members, file, default=_plain)


def _plain(value: Any) -> Any:
    """Convert what JSON has no form for: a dataclass to its fields, an iterator to a list, anything else to a string."""
    fields = _fields(value)
    if fields is not None:
        return fields
    if hasattr(value, "__next__"):
        return list(value)
    return str(value)


def _fields(value: Any) -> dict[str, Any] | None:
    """Return a dataclass's fields, as prompt flow stores them; None for any other value."""
    import dataclasses

    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return None
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
