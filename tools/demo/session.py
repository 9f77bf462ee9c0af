"""Watches one ComputeSession from outside, as a person with kubectl would, and tells what happens to it."""

import time
from dataclasses import dataclass

from demo.kubectl import Kubectl, Object, print_indented
from localcluster.say import CannotContinue

KIND = "computesession"
_LOOK_EVERY = 0.25
_SILENCE_SECONDS = 5


class SessionFailed(CannotContinue):
    """The session did not do what it is for; its own words are printed with this."""


@dataclass(frozen=True)
class Session:
    """A ComputeSession by name, in kubectl's namespace."""

    kubectl: Kubectl
    name: str

    def get(self) -> Object | None:
        """The object as it is now; None once it is deleted."""
        return self.kubectl.get(KIND, self.name)

    def wait_until_ready(self, *, seconds: float) -> Object:
        """The object, Ready. Prints each stage of the start and each change of the phase as they come. Raises SessionFailed."""
        told: set[str] = set()
        deadline = time.monotonic() + seconds
        started = time.monotonic()

        def tell(key: str, text: str) -> None:
            if key not in told:
                told.add(key)
                print(f"    {time.monotonic() - started:6.1f} s  {text}", flush=True)

        while time.monotonic() < deadline:
            session = self.get()
            if session is None:
                raise SessionFailed(f"ComputeSession {self.name} is gone before it was Ready.")
            status = session.get("status", {})
            ready = condition(session, "Ready")
            for stage in status.get("stages", []):
                if stage.get("seconds") is not None:
                    tell(f"stage {stage['name']} {stage['startedAt']}", f"  {stage['name']:<18}took {stage['seconds']:.1f} s")
            if not status and time.monotonic() - started > _SILENCE_SECONDS:
                tell("silence", "the operator has not looked at it yet")
            if status.get("phase"):
                tell(f"phase {status['phase']}", f"{status['phase']:<20}{ready.get('message', '')}")
            if ready.get("status") == "True":
                return session
            if status.get("phase") == "Failed":
                raise SessionFailed(f"the session failed: {ready.get('reason')}: {ready.get('message')}")
            time.sleep(_LOOK_EVERY)
        raise SessionFailed(f"the session was not Ready after {seconds:.0f} s.")

    def wait_for_packages(self, *, seconds: float) -> str:
        """Name of the ConfigMap that lists them; it may come a moment after Ready. Raises SessionFailed."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            packages = ((self.get() or {}).get("status") or {}).get("packages")
            if packages:
                return str(packages["configMapName"])
            time.sleep(_LOOK_EVERY)
        raise SessionFailed(f"the session's packages were not listed within {seconds:.0f} s.")

    def tell_conditions(self) -> None:
        """Prints its conditions, for when something went wrong."""
        try:
            session = self.get()
        except CannotContinue as obstacle:
            print(f"    {obstacle}", flush=True)
            return
        if session is None:
            print("    the session does not exist", flush=True)
            return
        rows = [
            f"{entry['type']:<22}{entry['status']:<9}{entry.get('reason', ''):<24}{entry.get('message', '')}"
            for entry in session.get("status", {}).get("conditions", [])
        ]
        print_indented("\n".join(rows) or "it has no conditions yet: the operator has not looked at it")


def condition(thing: Object, kind: str) -> Object:
    """The condition of that type; {} where there is none."""
    found: Object = next((entry for entry in thing.get("status", {}).get("conditions", []) if entry["type"] == kind), {})
    return found
