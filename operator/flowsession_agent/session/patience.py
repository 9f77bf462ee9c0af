"""End a test early if its caller is gone, or if its flow waits for an endpoint for longer than the test may take."""

from __future__ import annotations

import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from flowsession_agent.session.job import Job

_PAUSE = re.compile(r"^.*\bBack off ([0-9.]{1,20}) seconds for retry", re.MULTILINE)
"""How prompt flow's tools log a wait, each line with its own timestamp (promptflow.tools.common.handle_openai_error, 1.6.1)."""
READ_BYTES = 4096


class Patience:
    """Called while a test runs to decide whether to end it. `retry_too_late` once its flow's next retry would be after its deadline."""

    def __init__(self, gone: Callable[[], bool], *, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._gone = gone
        self._clock = clock
        self._until = clock() + seconds
        self._reported = ""
        self.job: Job | None = None
        self.retry_too_late = False

    def __call__(self) -> bool:
        """Return whether to end the test."""
        if self.job is not None and not self.retry_too_late:
            self.look(self.job.printed(READ_BYTES))
        return self.retry_too_late or self._gone()

    def look(self, printed: str) -> None:
        """Take in the end of what the flow has printed so far."""
        pauses = list(_PAUSE.finditer(printed))
        if pauses and pauses[-1][0] != self._reported:
            self._reported = pauses[-1][0]
            self.retry_too_late = self._clock() + float(pauses[-1][1]) > self._until
