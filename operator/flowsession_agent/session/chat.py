"""One round of a chat with the session's flow: whether prompt flow calls it a chat flow, its inputs, and its growing history."""

from __future__ import annotations

import json
import os

from flowsession_agent.errors import ApiError, bad_request
from flowsession_agent.session import flow_inputs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HISTORY = "chat_history"
"""Name of the input that is the history if none is marked, as for prompt flow."""


class Chat:
    """Raises ApiError with 422 NoChatFlow unless prompt flow calls the flow a chat flow (is_executable_chat_flow in its source)."""

    def __init__(self, flow: str, message: str | None, history: list[Any] | None, *, given: dict[str, Any]) -> None:
        """Read the flow. In the first round `history` is None: then the one `given` among the inputs is used, or the flow's default."""
        try:
            declared = flow_inputs.declared(flow)
        except Exception as error:  # whatever is wrong with the file
            raise _no_chat(f"{os.path.basename(flow)} can't be read ({type(error).__name__})") from error
        inputs = _by_name(declared.get("inputs"))
        outputs = _by_name(declared.get("outputs"))
        self._message = message
        self._input = _only([name for name, declaration in inputs.items() if declaration.get("is_chat_input")], "input", "is_chat_input")
        marked = [name for name, output in outputs.items() if output.get("is_chat_output")]
        self._output = _only(marked, "output", "is_chat_output") if outputs else ""
        self._history_input = next((name for name, declaration in inputs.items() if declaration.get("is_chat_history")), "")
        if not self._history_input and HISTORY in inputs and inputs[HISTORY].get("is_chat_history") is not False:
            self._history_input = HISTORY
        if not self._history_input:
            raise _no_chat(f"it has no input for the history: add one named {HISTORY}, of type list")
        default = inputs[self._history_input].get("default")
        if history is None and self._history_input in given:
            history = _listed(self._history_input, given[self._history_input])
        self._history = history if history is not None else default if isinstance(default, list) else []
        self._in_roles = flow.endswith(".prompty") or "entry" in declared
        self.init = {"model": {"response": "first"}} if flow.endswith(".prompty") else None
        """Arguments for a prompty. In a chat, prompt flow asks it for the first choice only."""

    @property
    def inputs(self) -> dict[str, Any]:
        """Return the round's inputs."""
        return {self._input: self._message, self._history_input: self._history}

    def answer(self, outputs: Any) -> dict[str, Any]:
        """Return the round's `output`, and the `history` for the next round."""
        output = outputs
        if isinstance(outputs, dict):
            output = outputs[self._output] if self._output in outputs else outputs.get("output", outputs)
        if self._in_roles:
            turns: list[Any] = [{"role": "user", "content": self._message}, {"role": "assistant", "content": output}]
        else:
            turns = [{"inputs": {self._input: self._message}, "outputs": outputs}]
        return {"output": output, "history": [*self._history, *turns]}


def _listed(name: str, value: Any) -> list[Any]:
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise bad_request(f"The input {name} is the chat's history, and must be a list as JSON.")
    return found


def _by_name(value: Any) -> dict[str, dict[str, Any]]:
    members = value if isinstance(value, dict) else {}
    return {str(name): member if isinstance(member, dict) else {} for name, member in members.items()}


def _only(names: list[str], what: str, mark: str) -> str:
    if len(names) == 1:
        return names[0]
    found = f"{', '.join(names)} are marked so" if names else "none is"
    raise _no_chat(f"one {what} must be marked {mark}: true, and {found}")


def _no_chat(why: str) -> ApiError:
    return ApiError(422, "NoChatFlow", f"The flow is no chat flow: {why}.")
