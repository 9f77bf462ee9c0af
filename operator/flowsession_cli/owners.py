"""Whose an object is besides: what Argo CD, Flux or Helm has written they set back, and an environment has an owner."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flowsession_cli.cluster import FIELD_MANAGER, Cluster, Object
from flowsession_cli.errors import CliError
from flowsession_cli.failures import MANAGERS


def refuse(cluster: Cluster, kind: str, name: str, fields: Iterable[str]) -> None:
    """Raise CliError if a program that would set it back has written one of these fields of the spec."""
    entries = cluster.managed_fields(kind, name)
    for field in fields:
        for entry in entries:
            manager = str(entry.get("manager", ""))
            if manager in MANAGERS and f"f:{field}" in _spec(entry):
                message = f"spec.{field} of {name} belongs to {MANAGERS[manager]} ({manager}), which would set it back"
                raise CliError(f"{message}: change it where that is managed")


def ours(cluster: Cluster, kind: str, name: str, field: str) -> bool:
    """Whether this program was the last to write that field of the spec."""
    return any(entry.get("manager") == FIELD_MANAGER and f"f:{field}" in _spec(entry) for entry in cluster.managed_fields(kind, name))


def other(environment: Object, user: Callable[[], str]) -> str:
    """Whose an environment is that isn't the caller's, for people; empty for one of the caller's own, or nobody's. `user`: who calls."""
    owner = environment["spec"].get("owner")
    return (owner or "the platform") if owner is not None and owner != user() else ""


def keeper(cluster: Cluster, kind: str, name: str) -> str:
    """The program that makes an object anew once it is deleted, such as Argo CD; empty if none is known to."""
    return next(
        (MANAGERS[manager] for entry in cluster.managed_fields(kind, name) if (manager := str(entry.get("manager"))) in MANAGERS), ""
    )


def _spec(entry: Object) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (entry.get("fieldsV1") or {}).get("f:spec") or {}
    return found
