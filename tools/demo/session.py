"""One ComputeSession from outside, as a person with kubectl sees it."""

import time
from dataclasses import dataclass

from demo.kubectl import Kubectl, Object, print_indented
from localcluster.say import CannotContinue

KIND = "computesession"
_LOOK_EVERY = 0.25


class SessionFailed(CannotContinue):
    """A session did not work as intended. Its own message is printed with this."""


@dataclass(frozen=True)
class Session:
    """A ComputeSession by name, in kubectl's namespace."""

    kubectl: Kubectl
    name: str

    def get(self) -> Object | None:
        """Return the object as it is now, or None once it is deleted."""
        return self.kubectl.get(KIND, self.name)

    def ready(self) -> Object:
        """Return the object. Raises SessionFailed if it is not Ready."""
        session = self.get() or {}
        found = condition(session, "Ready")
        if found.get("status") != "True":
            raise SessionFailed(f"the session {self.name} should be Ready: {found.get('reason')}: {found.get('message')}")
        return session

    def wait_for_packages(self, *, seconds: float) -> str:
        """Return the name of the ConfigMap that lists the packages. It may appear a moment after Ready. Raises SessionFailed."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            packages = ((self.get() or {}).get("status") or {}).get("packages")
            if packages:
                return str(packages["configMapName"])
            time.sleep(_LOOK_EVERY)
        raise SessionFailed(f"the session's packages were not listed within {seconds:.0f} s.")

    def print_conditions(self) -> None:
        """Print its conditions, for when something went wrong."""
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
    """Return the condition of that type, or {} if it is missing."""
    found: Object = next((entry for entry in thing.get("status", {}).get("conditions", []) if entry["type"] == kind), {})
    return found
