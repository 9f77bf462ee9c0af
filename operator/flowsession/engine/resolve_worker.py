"""The process that parses foreign content: it has no credentials to lose, little memory, and little CPU time for each job.

It reads length-prefixed pickles from standard input, first the settings, then jobs, and writes an answer to each job to standard output.
"""

import logging
import os
import pickle
import resource
import signal
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from flowsession.api.environment import FlowEnvironmentSpec
from flowsession.flow.packed import PackedFolder
from flowsession.images.image import ImageInUse
from flowsession.logs import configure as configure_logs
from flowsession.model.resolved import Resolved, Unresolved
from flowsession.reconcile.environment import resolve
from flowsession.reconcile.environment.last_reading import LastReading
from flowsession.reconcile.environment.sources import ConfigMapView
from flowsession.settings import Settings

CPU_SECONDS = 2.0
"""CPU seconds for one job. The worst input within the limits on archives, files and lines takes a tenth of that."""

MEMORY = 512 * 1024 * 1024
"""Limit on private memory, in bytes."""

Answer = Resolved | Unresolved | None

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One state of an environment, to be resolved."""

    spec: FlowEnvironmentSpec
    config_maps: Mapping[str, ConfigMapView]
    last_reading: LastReading | None
    image: ImageInUse

    @property
    def foreign(self) -> bool:
        """Return whether there is anything to parse."""
        spec = self.spec
        return spec.source is not None or spec.requirements_text is not None or spec.installer.ca_bundle_config_map_name is not None


def answer(job: Job, settings: Settings) -> Answer:
    """Return what the job resolves to. An unexpected error becomes Unresolved, so that it affects only this environment."""
    try:
        found = resolve.resolve(job.spec, job.config_maps, settings, job.last_reading, job.image)
        if isinstance(found, Resolved) and found.files is not None:
            # Unpacked, the files may be a thousand times larger, for each environment; they are needed whole only while they are sent.
            found = replace(found, files=PackedFolder.of(found.files, {}))
        return found
    except Exception as error:
        log.exception("an environment's content can't be read")
        message = f"the operator fails at what this environment holds ({type(error).__name__}: {error})"
        return Unresolved("Unreadable", f"{message[:500]}; its log has more: correct the flow folder or the requirements, and report it")


def main() -> None:
    """Serve jobs until standard input ends."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C goes to the whole process group; the operator ends this process
    configure_logs("info")
    jobs, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    settings = _read(jobs)
    while (job := _read(jobs)) is not None:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # SIGPROF ends the process, whatever it is busy with
        found = pickle.dumps(answer(job, settings))
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(struct.pack(">Q", len(found)) + found)
        answers.flush()


def _read(stream: BinaryIO) -> Any:
    head = stream.read(8)
    return pickle.loads(stream.read(*struct.unpack(">Q", head))) if len(head) == 8 else None  # noqa: S301 - the operator's own


if __name__ == "__main__":
    main()
    os._exit(0)  # nothing to clean up, and nothing waits
