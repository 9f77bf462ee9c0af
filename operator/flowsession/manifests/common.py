"""What the operator's objects have in common: their owners, and the security settings of pods."""

from dataclasses import dataclass
from typing import Any

from flowsession.api import API_VERSION


@dataclass(frozen=True)
class Where:
    """The environment that an object is for."""

    namespace: str
    environment: str
    uid: str
    """Empty: unknown; the object has no owner then."""


def owner(kind: str, name: str, uid: str) -> dict[str, Any]:
    """Return an owner reference to an object of this API: garbage collection deletes the dependent with it."""
    return {"apiVersion": API_VERSION, "kind": kind, "name": name, "uid": uid}


def controller(kind: str, name: str, uid: str) -> dict[str, Any]:
    """Return the owner reference to the object's controller, whose deletion the object does not block."""
    return owner(kind, name, uid) | {"controller": True, "blockOwnerDeletion": False}


def restricted(run_as: int, *, mounts: bool = False) -> dict[str, Any]:
    """Return the part of a pod's spec for restricted Pod Security, as that user and group: no token, no variables of services.

    `mounts`: the pod writes to volumes, which become that group's.
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
    """Return the securityContext for a container of such a pod; `read_only`: it writes to volumes only."""
    context: dict[str, Any] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return context | ({"readOnlyRootFilesystem": True} if read_only else {})
