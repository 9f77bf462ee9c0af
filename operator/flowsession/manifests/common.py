"""What the objects that the operator makes have in common: whose they are, and pods that restricted Pod Security lets in."""

from dataclasses import dataclass
from typing import Any

from flowsession.api import API_VERSION


@dataclass(frozen=True)
class Where:
    """The environment that an object is for."""

    namespace: str
    environment: str
    uid: str
    """Empty: the environment is not known, and owns nothing."""


def owner(kind: str, name: str, uid: str) -> dict[str, Any]:
    """An owner of our kinds: garbage collection deletes with it what names it."""
    return {"apiVersion": API_VERSION, "kind": kind, "name": name, "uid": uid}


def controller(kind: str, name: str, uid: str) -> dict[str, Any]:
    """The one owner that manages the object, which does not keep it from being deleted."""
    return owner(kind, name, uid) | {"controller": True, "blockOwnerDeletion": False}


def restricted(run_as: int, *, mounts: bool = False) -> dict[str, Any]:
    """Of a pod's spec: no token, no variables of the namespace's services, and restricted Pod Security as that user and group.

    What `mounts` volumes that it writes to gets them as that group's.
    """
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": run_as,
            "runAsGroup": run_as,
            **({"fsGroup": run_as} if mounts else {}),
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def restricted_container(*, read_only: bool = False) -> dict[str, Any]:
    """The securityContext of each container of such a pod; `read_only`: it writes to volumes alone."""
    context: dict[str, Any] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return context | ({"readOnlyRootFilesystem": True} if read_only else {})
