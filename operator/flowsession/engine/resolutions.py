"""Resolves environments. Foreign content is parsed in a separate process, so that it can harm only its own environment."""

import asyncio
import contextlib
import logging
import pickle
import signal
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from flowsession.engine.resolve_worker import CPU_SECONDS, Answer, Job, answer
from flowsession.engine.store.keys import Name
from flowsession.engine.store.objects import EnvironmentEntry
from flowsession.flow.packed import Blob, PackedFolder
from flowsession.model.resolved import Resolved, Unresolved
from flowsession.reconcile.environment.sources import ConfigMapView
from flowsession.settings import Settings

WORKER = (sys.executable, "-P", "-m", "flowsession.engine.resolve_worker")

WALL_SECONDS = 60.0
"""Timeout of an answer, in seconds, for a node that is short of CPU; after it the worker counts as stuck."""

END_SECONDS = 5.0
"""Seconds that a worker whose output has ended may take to end itself; a busy node needs some of them."""

TRIES = 2
"""Attempts per job: a worker may be killed for reasons other than its job, such as the node's memory."""

log = logging.getLogger(__name__)


@dataclass
class _Known:
    depends_on: object
    job: Job
    found: Answer = None


class Resolutions:
    """Not thread-safe. This class resolves at once and in this process; its subclass uses a worker process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.changed: Callable[[Name], None] = lambda _: None
        """Called with the name of an environment whose resolution has arrived."""
        self._known: dict[Name, _Known] = {}
        self._blobs: WeakValueDictionary[bytes, Blob] = WeakValueDictionary()
        """File contents by digest, kept while a resolution uses them: environments share them."""

    def of(self, key: Name, entry: EnvironmentEntry, views: Mapping[str, ConfigMapView]) -> Answer:
        """Return what the environment resolves to; None until it is known."""
        files = tuple((name, view.files) for name, view in views.items())
        depends_on = (entry.meta.uid, entry.meta.generation, entry.last_reading, entry.image, files)
        known = self._known.get(key)
        if known is None or known.depends_on != depends_on:
            known = self._known[key] = _Known(depends_on, Job(entry.spec, views, entry.last_reading, entry.image))
            self._begin(key, known)
        return known.found

    def forget(self, key: Name) -> None:
        """Drop an environment that is gone."""
        self._known.pop(key, None)

    async def serve_forever(self) -> None:
        """Wait forever: this class has no queued jobs."""
        await asyncio.Event().wait()

    def _begin(self, key: Name, known: _Known) -> None:  # noqa: ARG002 - the heir's needs it
        known.found = self._shared(answer(known.job, self._settings))

    def _shared(self, found: Answer) -> Answer:
        if isinstance(found, Resolved) and isinstance(found.files, PackedFolder):
            return replace(found, files=found.files.sharing(self._blobs))
        return found


class WorkerResolutions(Resolutions):
    """Resolves in one worker, one job at a time. The worker dies if a job takes CPU_SECONDS of CPU time or too much memory."""

    def __init__(self, settings: Settings, *, command: Sequence[str] = WORKER) -> None:
        super().__init__(settings)
        self._command = command
        self._waiting: dict[Name, _Known] = {}
        self._wake = asyncio.Event()
        self._worker: asyncio.subprocess.Process | None = None

    async def serve_forever(self) -> None:
        """Resolve queued jobs, forever; the worker starts before the first job."""
        try:
            while True:
                await self._ready()
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    key = next(iter(self._waiting))
                    known = self._waiting.pop(key)
                    known.found = self._shared(await self._ask(key, known.job))
                    if self._known.get(key) is known:
                        self.changed(key)
        finally:
            self._kill()

    def _begin(self, key: Name, known: _Known) -> None:
        if not known.job.foreign:
            super()._begin(key, known)
            return
        self._waiting[key] = known
        self._wake.set()

    async def _ready(self) -> asyncio.subprocess.Process:
        if self._worker is None or self._worker.returncode is not None:
            pipe = asyncio.subprocess.PIPE
            self._worker = await asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe)
            await _write(self._worker, pickle.dumps(self._settings))
        return self._worker

    async def _ask(self, key: Name, job: Job) -> Answer:
        where = f"{key[0]}/{key[1]}"
        for _ in range(TRIES):
            worker = await self._ready()
            try:
                async with asyncio.timeout(WALL_SECONDS):
                    await _write(worker, pickle.dumps(job))
                    found: Answer = pickle.loads(await _read(worker))  # noqa: S301 - from our own code in a process of ours
                    return found
            except (OSError, EOFError, asyncio.IncompleteReadError, TimeoutError) as error:
                code = await self._end(worker)
                log.error("the worker has died of an environment", extra={"key": where, "code": code, "error": repr(error)})
                if code == -signal.SIGPROF:
                    message = f"what this environment holds takes more than {CPU_SECONDS:.0f} s of processor to read"
                    return Unresolved("Unreadable", f"{message}: correct the flow folder or the requirements, or make them smaller")
        message = "the operator's parser dies of what this environment holds; its log has more"
        return Unresolved("Unreadable", f"{message}: correct the flow folder or the requirements, and report it")

    async def _end(self, worker: asyncio.subprocess.Process) -> int:
        """Return the exit status of a worker that gave no answer.

        It is killed only if it does not end by itself. Killing a process that has just ended loses its status to asyncio:
        `Popen.send_signal` polls first, which reaps it, and asyncio's own wait then reports 255.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                return await worker.wait()
        self._kill()
        return await worker.wait()

    def _kill(self) -> None:
        if self._worker is not None and self._worker.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._worker.kill()


async def _write(worker: asyncio.subprocess.Process, data: bytes) -> None:
    assert worker.stdin is not None
    worker.stdin.write(struct.pack(">Q", len(data)) + data)
    await worker.stdin.drain()


async def _read(worker: asyncio.subprocess.Process) -> bytes:
    assert worker.stdout is not None
    (length,) = struct.unpack(">Q", await worker.stdout.readexactly(8))
    return await worker.stdout.readexactly(length)
