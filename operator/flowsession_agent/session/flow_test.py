"""Run the session's flow once, or one node or one round of a chat, as `pf flow test` would, with the session's packages."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time

from flowsession_agent.errors import ApiError, bad_request
from flowsession_agent.session.runner import new_job
from flowsession_protocol import flow_files, limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from flowsession_agent.connections.store import Connections
    from flowsession_agent.session.activity import Activity
    from flowsession_agent.session.children import Children
    from flowsession_agent.session.job import Job, Outcome
    from flowsession_agent.session.runner import Key, Runners
    from flowsession_agent.session.trace_log import TraceLog
    from flowsession_agent.settings import Home

AT_ONCE = 4
SECONDS = 600
OUTPUT_LIMIT = 1024 * 1024


class Tests:
    """Runs tests, at most four at a time, each in its own process, which may have been started in advance."""

    def __init__(
        self, *, home: Home, activity: Activity, children: Children, connections: Connections, traces: TraceLog, runners: Runners
    ) -> None:
        self._home = home
        self._connections = connections
        self._traces = traces
        self._runners = runners
        self._activity = activity
        self._children = children
        self._slots = threading.Semaphore(AT_ONCE)

    def run(
        self,
        order: dict[str, Any],
        *,
        gone: Callable[[], bool] = lambda: False,
        send_part: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> dict[str, Any]:
        """Return `outputs` and `seconds` of one run of what `read_order` returned, and `chat` of a round of a chat.

        The test ends once its caller is `gone`. `send_part` receives what the flow streams, if the order asks for that.
        Raises ApiError: Retired, NoFlow, UnknownInput, UnknownNode, UnknownVariant, NoChatFlow, FlowFailed, Canceled, Ending, TooManyTests.
        """
        with self._activity.work("api test"):
            flow = find_flow(self._home.flow)
            if not self._slots.acquire(blocking=False):
                raise ApiError(429, "TooManyTests", f"{AT_ONCE} tests are running already: try again when one has ended.")
            try:
                return self._run(flow, order, gone, send_part)
            except OSError as error:
                raise _failed(_not_started(error), "") from error
            finally:
                self._slots.release()

    def _run(
        self, flow: str, order: dict[str, Any], gone: Callable[[], bool], send_part: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        import shutil
        import tempfile

        from flowsession_agent.session.streamed import Streamed

        self._home.make()
        key = self._connections.ready()
        folder = tempfile.mkdtemp(prefix="test-", dir=self._home.tmp)
        fifo = os.path.join(folder, "stream")
        try:
            with Streamed(fifo, self._children, send_part) if order.get("stream") else contextlib.nullcontext():
                return self._outcome(flow, folder, {**order, "stream": fifo if order.get("stream") else ""}, key, gone)
        finally:
            self._traces.look(folder)
            shutil.rmtree(folder, ignore_errors=True)

    def _outcome(self, flow: str, folder: str, order: dict[str, Any], key: Key, gone: Callable[[], bool]) -> dict[str, Any]:
        from flowsession_agent.session import cgroup
        from flowsession_agent.session.patience import Patience
        from flowsession_agent.session.run_flow import REFUSED

        given, taken = os.path.join(folder, "order.json"), os.path.join(folder, "outputs.json")
        with open(given, "w", encoding="utf-8") as file:
            json.dump(order, file)
        started = time.monotonic()
        killed_before = cgroup.killed_for_memory()
        patience = Patience(gone, seconds=SECONDS)
        anew = "chat" in order and order["chat"]["message"] is None
        patience.job = self._begin([flow, given, taken], key, patience, anew=anew)
        outcome = patience.job.finish()
        seconds = round(time.monotonic() - started, 2)
        self._give_up_with_the_pod()  # prompt flow reports an interrupted flow as a success without outputs
        if patience.retry_too_late:
            raise _failed(
                _advised(f"The flow would have waited longer than a test may take, which is {SECONDS} s.", outcome, flow), outcome.stderr
            )
        if outcome.stopped:
            raise ApiError(409, "Canceled", "The test was canceled: its caller has closed the connection.")
        if outcome.timed_out:
            raise _failed(_advised(f"The flow ran longer than {SECONDS} s.", outcome, flow), outcome.stderr)
        if outcome.signal_number:
            raise _failed(_killed(outcome.signal_number, for_memory=cgroup.killed_for_memory() > killed_before), outcome.stderr)
        if outcome.exit_code == REFUSED and (refused := _refused(taken)):
            raise refused
        if outcome.exit_code != 0:
            words = last_words(outcome.stderr) or f"The flow ended with exit code {outcome.exit_code}."
            raise _failed(_advised(words, outcome, flow), outcome.stderr)
        # A chat's answer repeats the history that it was given, which doesn't count.
        return {**_answer(taken, outcome.stderr, most=OUTPUT_LIMIT + os.path.getsize(given)), "seconds": seconds}

    def _begin(self, arguments: list[str], key: Key, gone: Callable[[], bool], *, anew: bool) -> Job:
        """Return the job in which a test has begun. `anew`: don't use the process that has prompt flow imported, which it doesn't need."""
        from flowsession_agent.scripts import RUN_FLOW

        job = new_job(key, self._home.flow, self._children)
        if anew or not self._runners.lend(job, "flowsession_agent.session.run_flow", arguments, key=key):
            self._give_up_with_the_pod()
            job.begin([key[0], "-c", RUN_FLOW, *arguments])
        job.allow(SECONDS, canceled=gone)
        return job

    def _give_up_with_the_pod(self) -> None:
        if self._children.ending:
            raise ApiError(
                503, "Ending", "The session's pod ends, and the flow was ended with it: test it again when the session is Ready."
            )


def read_order(members: Any) -> dict[str, Any]:
    """Return what to test from a request's body. Raises ApiError with 400.

    It has `inputs` by name, `node` and `variant`, whether to `stream`, and optionally `chat` with `message` and `history` of one round.
    Without a `message` nothing is run: the request asks whether the flow can chat.
    """
    found = members if isinstance(members, dict) else {"inputs": None}
    inputs, node, variant, stream = found.get("inputs", {}), found.get("node", ""), found.get("variant", ""), found.get("stream", False)
    if not isinstance(inputs, dict):
        raise bad_request("inputs must be an object: the flow's inputs by name.")
    if not (isinstance(node, str) and isinstance(variant, str) and isinstance(stream, bool)):
        raise bad_request("node and variant must be strings, stream true or false.")
    order = {"inputs": inputs, "node": node, "variant": variant, "stream": stream}
    if found.get("chat") is None:
        return order
    chat = found["chat"]
    message, history = (chat.get("message"), chat.get("history")) if isinstance(chat, dict) else (None, None)
    if not isinstance(message, (str, type(None))) or not isinstance(history, (list, type(None))) or node:
        raise bad_request("chat must be an object with message, a string or null, and history, a list or null; and goes without node.")
    return {**order, "chat": {"message": message, "history": history}}


def find_flow(folder: str) -> str:
    """Return the path of the flow's file in the flow folder. Raises ApiError with 404 NoFlow."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    for name in flow_files.candidates(name for name in names if os.path.isfile(os.path.join(folder, name))):
        return os.path.join(folder, name)  # the first of several, as for prompt flow; an environment with several is refused
    raise ApiError(
        404, "NoFlow", "There is no flow in this session: the flow folder holds none of flow.dag.yaml, flow.flex.yaml or one .prompty."
    )


def last_words(stderr: str) -> str:
    """Return the message of an exception that ended a Python process: the traceback's last line that isn't part of a list of causes."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [
        number
        for number, line in enumerate(lines)
        if line.partition(":")[0].endswith(("Error", "Exception")) and " " not in line.partition(":")[0]
    ]
    if not errors:
        return (lines[-1] if lines else "")[:1000]
    # Some of prompt flow's own messages have their cause on the next line.
    cause = lines[errors[-1] + 1 : errors[-1] + 2] if lines[errors[-1]].endswith(":") else []
    return " ".join([lines[errors[-1]], *cause])[:1000]


def _answer(path: str, stderr: str, *, most: int) -> dict[str, Any]:
    """Return the `outputs` that a run wrote, and `chat` of a round of a chat."""
    try:
        if os.path.getsize(path) > most:
            raise _failed("The flow's outputs are larger than 1 MiB: write large results to a file instead.", stderr)
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        return {name: found[name] for name in ("outputs", "chat") if name in found or name == "outputs"}
    except (OSError, ValueError, KeyError, TypeError):
        raise _failed("The flow ended without outputs.", stderr) from None


def _refused(path: str) -> ApiError | None:
    """Return the refusal that a run wrote instead of beginning; None if the flow's own code exited with that code."""
    try:
        with open(path, encoding="utf-8") as file:
            refused = json.load(file)["refused"]
        return ApiError(422, str(refused["code"]), str(refused["message"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _killed(number: int, *, for_memory: bool) -> str:
    import signal

    if for_memory:
        return "The flow's process was killed: the session ran out of memory. Choose a larger size, or let the flow hold less at once."
    name = signal.Signals(number).name if number in set(signal.Signals) else "unknown"
    return f"The flow's process was killed by signal {number} ({name}): its own code, or a process of this session, sent it."


def _not_started(error: OSError) -> str:
    import errno

    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"No space is left in the session{where}, so the flow can't run: delete what isn't needed, or ask for more storage."
    return f"The flow can't be run: {error.strerror}{where}."


def _advised(words: str, outcome: Outcome, flow: str) -> str:
    """Return the message of a failure, preceded by what to do if the endpoint of a connection caused it."""
    from flowsession_agent.connections import refusals

    waited = outcome.timed_out or outcome.stopped  # for what its log ends with, if that is a call of a model
    message = refusals.advice(outcome.stdout[-limits.TAIL :] if waited else words, flow, os.environ, log=outcome.stdout)
    return f"{message[0].upper()}{message[1:]}. {words}" if message else words


def _failed(message: str, stderr: str) -> ApiError:
    return ApiError(422, "FlowFailed", message, stderrTail=stderr[-limits.TAIL :])
