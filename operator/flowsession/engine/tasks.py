"""Background tasks that run as long as the operator: each end is logged, and the task is started again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from flowsession import metrics

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds until a task that died is started again: FIRST_PAUSE, doubled with each death up to LONGEST_PAUSE."""
STEADY_SECONDS = 600.0
"""Seconds that a task has to run for its next pause to be FIRST_PAUSE again."""

log = logging.getLogger(__name__)
T = TypeVar("T")


class Tasks:
    """Restarts tasks that die, after a pause. A task that can't even be restarted is `dead` and makes /healthz fail."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def dead(self) -> list[str]:
        """Return the names of tasks that have ended for good."""
        return sorted(name for name, task in self._tasks.items() if task.done())

    def start(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` until `close`, and again whenever it ends."""
        self._tasks[name] = asyncio.get_running_loop().create_task(self._keep(name, work), name=name)

    async def close(self) -> None:
        """Cancel every task without waiting for its work, as after a kill."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        clock, pause = asyncio.get_running_loop().time, FIRST_PAUSE
        while True:
            started = clock()
            try:
                await work()
                log.error("background task ended", extra={"task": name})
            except Exception:
                log.exception("background task died", extra={"task": name})
            metrics.task_deaths.labels(name.partition("-")[0]).inc()
            pause = FIRST_PAUSE if clock() - started >= STEADY_SECONDS else pause
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)


class OneEach(Generic[T]):
    """At most one task per name, with what it is about; a new one replaces the previous one."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[T, asyncio.Task[None]]] = {}

    def about(self, name: str) -> T | None:
        """Return what the running task is about, or None without one."""
        known = self._tasks.get(name)
        return known[0] if known else None

    def start(self, name: str, about: T, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`; a running task of that name is canceled."""
        if name in self._tasks:
            self._tasks[name][1].cancel()
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[name] = (about, task)
        task.add_done_callback(lambda ended: self._ended(name, ended))

    def drop(self, name: str) -> None:
        """Forget a task that has nothing left to do, before it ends, so that another one may start at once."""
        self._tasks.pop(name, None)

    async def close(self) -> None:
        """Cancel every task, and wait until all have ended."""
        tasks = [task for _, task in self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        if name in self._tasks and self._tasks[name][1] is task:
            del self._tasks[name]
