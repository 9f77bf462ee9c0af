"""Other owners of an object: Argo CD, Flux or Helm revert changes of what they have written, and an environment has an owner."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flowsession_cli.cluster import FIELD_MANAGER, Cluster, Object
from flowsession_cli.errors import CliError
from flowsession_cli.failures import MANAGERS


def refuse(cluster: Cluster, kind: str, name: str, fields: Iterable[str]) -> None:
    """Raise CliError if a program that would revert the change has written one of these fields of the spec."""
    entries = cluster.managed_fields(kind, name)
    for field in fields:
        for entry in entries:
            manager = str(entry.get("manager", ""))
            if manager in MANAGERS and f"f:{field}" in _spec(entry):
                message = f"spec.{field} of {name} belongs to {MANAGERS[manager]} ({manager}), which would set it back"
                raise CliError(f"{message}: change it where that is managed")


def ours(cluster: Cluster, kind: str, name: str, field: str) -> bool:
    """Return whether this program was the last to write that field of the spec."""
    return any(entry.get("manager") == FIELD_MANAGER and f"f:{field}" in _spec(entry) for entry in cluster.managed_fields(kind, name))


def other(environment: Object, user: Callable[[], str]) -> str:
    """Return an environment's owner for people, or an empty string if that is the caller or nobody. `user` returns the caller."""
    owner = environment["spec"].get("owner")
    return (owner or "the platform") if owner is not None and owner != user() else ""


def keeper(cluster: Cluster, kind: str, name: str) -> str:
    """Return the program that would recreate an object once it is deleted, such as Argo CD, or an empty string if none is known."""
    return next(
        (MANAGERS[manager] for entry in cluster.managed_fields(kind, name) if (manager := str(entry.get("manager"))) in MANAGERS), ""
    )


def _spec(entry: Object) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (entry.get("fieldsV1") or {}).get("f:spec") or {}
    return found
