"""Runs in the session's Python, not in the agent's: patches to prompt flow's batch engine by which a FlowRun differs from `pf run create`.

Each part is for prompt flow 1.18.5. It leaves a version alone that lacks what it patches.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib
import queue
import signal
import threading
import time
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

LOOKS = {
    "promptflow.batch._batch_engine": "asyncio",
    "promptflow.executor._line_execution_process_pool": "asyncio",
    "promptflow.executor._process_manager": "time",
}
"""For each module of prompt flow, the module whose `sleep` it uses to wait (1.18.5)."""

SHARE = 0.05
SHORTEST_SECONDS = 0.02
EMPTY_SECONDS = 0.1
"""Seconds without a line to take after which the queue of lines counts as empty."""
NEXT_PROCESS_SECONDS = 5.0
"""Seconds that the next process may take to begin. It may end at once too."""


def poll_sooner() -> None:
    """Make the engine poll sooner from now on.

    It polls once a second whether the processes for the lines are ready, whether all lines are done, and whether the task that waits for
    that is done: together two to three seconds of a run that takes one. Here each pause is a twentieth of the time that the run has taken,
    so a short run's end is noticed at once, and a long run is polled at the old rate.
    """
    began = time.monotonic()

    def pause(seconds: float) -> float:
        return min(seconds, max(SHORTEST_SECONDS, SHARE * (time.monotonic() - began)))

    for name, used in LOOKS.items():
        with contextlib.suppress(ImportError):
            module = importlib.import_module(name)
            if isinstance(original := getattr(module, used, None), ModuleType):
                setattr(module, used, _like(original, pause))


def stop_at_interrupt() -> threading.Event:
    """Make the first SIGINT from now on stop prompt flow's batch engine: it begins no more lines and keeps completed ones.

    Returns an event that is set then. The engine itself listens for SIGINT only in the main thread, but PFClient runs it in another one:
    a KeyboardInterrupt here would wait for that thread, and so for all lines.
    """
    stopped = threading.Event()
    try:
        from promptflow.batch import BatchEngine  # type: ignore[import-not-found,unused-ignore]
        from promptflow.executor._line_execution_process_pool import (  # type: ignore[import-not-found,unused-ignore]
            LineExecutionProcessPool,
        )

        run_lines, close, _ = BatchEngine.run, LineExecutionProcessPool.close, BatchEngine.cancel
    except (ImportError, AttributeError):
        return stopped
    engines: list[Any] = []

    def noted(self: Any, *arguments: Any, **named: Any) -> Any:
        engines.append(self)
        return run_lines(self, *arguments, **named)

    def emptied(self: Any) -> None:
        with contextlib.suppress(queue.Empty, AttributeError):
            while stopped.is_set():
                self._task_queue.get(timeout=EMPTY_SECONDS)
        close(self)

    def interrupt(_number: int, _frame: Any) -> None:
        if stopped.is_set() or not engines:
            raise KeyboardInterrupt
        stopped.set()
        for engine in engines:
            engine.cancel()

    BatchEngine.run, LineExecutionProcessPool.close = noted, emptied
    signal.signal(signal.SIGINT, interrupt)
    return stopped


def complete_records() -> None:
    """Fill in members of prompt flow's records of lines and nodes. Without them writing a record fails, and with it the run (1.18.5).

    A line whose inputs prompt flow refuses gets the line's number as inputs, where prompt flow looks for it. A node whose tool called
    `sys.exit` gets the present time as its end: the end of the line's process is an error of that line alone.
    """
    try:
        from promptflow._sdk.operations._local_storage_operations import (  # type: ignore[import-not-found,unused-ignore]
            LocalStorageOperations,
        )
    except ImportError:
        return
    for name, complete in (("persist_flow_run", _with_inputs), ("persist_node_run", _with_end)):
        if (persist := getattr(LocalStorageOperations, name, None)) is not None:
            setattr(LocalStorageOperations, name, _completed(persist, complete))


def _completed(persist: Callable[..., None], complete: Callable[[Any], None]) -> Callable[..., None]:
    def persist_completed(self: Any, run_info: Any) -> None:
        complete(run_info)
        persist(self, run_info)

    return persist_completed


def _with_inputs(run_info: Any) -> None:
    if run_info.inputs is None:
        run_info.inputs = {"line_number": run_info.index}


def _with_end(run_info: Any) -> None:
    if run_info.end_time is None:
        run_info.end_time = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)  # as prompt flow's own


def await_next_process() -> None:
    """Have prompt flow begin the line after one whose process has ended in the next process, not in the ended one.

    It orders another process, but sends the next line to the process that it knows, which may still be the ended one. That line was
    reported as crashed too, and so was the one after it (1.18.5).
    """
    try:
        from promptflow.executor._process_manager import (  # type: ignore[import-not-found,unused-ignore]
            AbstractProcessManager,
        )

        known, is_alive = AbstractProcessManager.get_process_info, AbstractProcessManager.is_process_alive
    except (ImportError, AttributeError):
        return

    def alive(self: Any, index: int) -> Any:
        until = time.monotonic() + NEXT_PROCESS_SECONDS
        found = known(self, index)
        while not is_alive(self, found[1]) and time.monotonic() < until:
            time.sleep(SHORTEST_SECONDS)
            found = known(self, index)
        return found

    AbstractProcessManager.get_process_info = alive


def _like(original: ModuleType, pause: Callable[[float], float]) -> ModuleType:
    """Return a copy of the module whose `sleep` lasts `pause(seconds)`."""
    sleep: Callable[..., Any] = original.sleep
    made = ModuleType(original.__name__)
    made.__dict__.update(vars(original))
    made.__dict__["sleep"] = lambda seconds, *rest: sleep(pause(seconds), *rest)
    return made
