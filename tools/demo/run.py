"""Watches one FlowRun from outside, as a person with kubectl would."""

import time
from dataclasses import dataclass

from demo.kubectl import Kubectl, Object
from demo.session import SessionFailed, condition

KIND = "flowrun"
_LOOK_EVERY = 0.5


@dataclass(frozen=True)
class Run:
    """A FlowRun by name, in kubectl's namespace."""

    kubectl: Kubectl
    name: str

    def wait_until_complete(self, *, seconds: float) -> Object:
        """Return the status once Complete. Prints each change of phase and progress. Raises SessionFailed with the run's message."""
        started = time.monotonic()
        told = ""
        while time.monotonic() < started + seconds:
            run = self.kubectl.get(KIND, self.name) or {}
            status: Object = run.get("status", {})
            now = f"{status.get('phase', ''):<12}{_words(run)}".rstrip()
            if now and now != told:
                told = now
                print(f"    {time.monotonic() - started:6.1f} s  {now}", flush=True)
            if condition(run, "Complete").get("status") == "True":
                return status
            if (failed := condition(run, "Failed")).get("status") == "True":
                raise SessionFailed(f"the run {self.name} failed: {failed.get('reason')}: {failed.get('message')}")
            time.sleep(_LOOK_EVERY)
        raise SessionFailed(f"the run {self.name} was not Complete after {seconds:.0f} s: {told}.")


def _words(run: Object) -> str:
    """Return the current message of its conditions: why it waits, where it runs, that it is done."""
    lines = run.get("status", {}).get("lines", {})
    counted = f" ({lines['completed']}/{lines['total']} lines)" if lines.get("total") else ""
    said = condition(run, "Complete").get("message", "")
    return f"{said}{counted}"
