"""A run's plan in the making."""

from collections.abc import Sequence

from flowsession.api.run import RunPhase
from flowsession.model import stalled, times
from flowsession.model.draft import Draft
from flowsession.model.run_views import RunAnswer
from flowsession.reconcile.run.snapshot import RunSnapshot


class RunDraft(Draft):
    """The draft of a FlowRun."""

    KIND = "FlowRun"
    PROBLEMS = ("Complete",)
    NO_PROBLEM = frozenset(
        {
            *("Preparing", "Running", "EndpointBusy", "RunsAhead", "SessionNotReady", "RunUnfinished", "KeepingOutputs", "Resumed"),
            *("Resolving", "Canceled"),
        }
    )

    def __init__(self, snapshot: RunSnapshot, now: float) -> None:
        super().__init__(snapshot, now, {})
        self.snapshot = snapshot

    def goes_on(self, phase: RunPhase, reason: str, message: str) -> None:
        """Record that the run is not over: its phase, and why it is not complete."""
        self.put("phase", phase.value)
        self.set_condition("Complete", False, reason, message)
        self.set_condition("Reconciling", True, reason, message)

    def warn(self, warnings: Sequence[str]) -> None:
        """Add warnings to those in the status, without duplicates."""
        self.put("warnings", list(dict.fromkeys([*(self.status.get("warnings") or ()), *warnings])) or None)

    def count(self, answer: RunAnswer, *, final: bool = False) -> None:
        """Add the agent's warnings and take over its counts. Counts never decrease, but lines run again no longer count as failed."""
        self.warn(answer.warnings)
        before = self.before.get("lines") or {}
        lines = {name: max(int(before.get(name) or 0), int(getattr(answer, name))) for name in ("total", "completed", "failed")}
        lines["failed"] = answer.failed if final else min(lines["failed"], max(answer.failed, lines["total"] - lines["completed"]))
        failed = f", {lines['failed']} failed" if lines["failed"] else ""
        self.put("lines", lines)
        self.put("progress", f"{lines['completed'] + lines['failed']}/{lines['total']}{failed}")

    def end(self, phase: RunPhase, reason: str, message: str) -> None:
        """Record the final end of the run."""
        self.put("phase", phase.value)
        self.put("completedAt", times.stamp(self.now))
        if (started := times.parse(self.status.get("startedAt"))) is not None:
            self.put("duration", f"{max(0.0, self.now - started):.0f}s")
        completed = phase == RunPhase.COMPLETED
        self.set_condition("Complete", completed, reason, message)
        self.set_condition("Reconciling", False, reason, "")
        if completed:
            self.event(warning=False, reason="Completed", message=message)
        else:
            self.set_condition("Failed", True, reason, message)
        if phase == RunPhase.FAILED:
            self.set_condition(stalled.CONDITION, True, reason, message)
            if reason in self.NO_PROBLEM:  # RunUnfinished: no problem while the run waits for another
                self.event(warning=True, reason=reason, message=message)
