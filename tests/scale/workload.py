"""The thousand sessions: a hundred users, each with one session in each of ten namespaces, on two sizes. Also the namespaces' quotas."""

import random
from collections.abc import Sequence
from typing import Any

from scale.sizes import SIZES, Size

Object = dict[str, Any]

USERS = 100
NAMESPACES = tuple(f"team-{number}" for number in range(10))
SCOPED_SIZE = SIZES[1]
PLAIN, SCOPED, CPU, CROSSING = NAMESPACES[:4]
"""The namespaces with a quota: of pods, of one size's pods, of cores, of pods whose affinity crosses namespaces."""


def sessions(users: range = range(USERS)) -> list[Object]:
    """Return the sessions in an order that mixes users, sizes and namespaces, the same in every run."""
    found = [
        session(
            f"s{user:03d}",
            namespace=NAMESPACES[(user + number) % len(NAMESPACES)],
            user=f"user-{user:03d}@example.com",
            size=SIZES[(user + 3 * (number % 2)) % len(SIZES)],
        )
        for user in users
        for number in range(len(NAMESPACES))
    ]
    random.Random(5).shuffle(found)
    return found


def session(name: str, *, namespace: str, user: str, size: Size) -> Object:
    """Return a ComputeSession that names its size as Azure does."""
    return {
        "apiVersion": "flowsession.dev/v1alpha1",
        "kind": "ComputeSession",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "environmentRef": {"name": "env"},
            "user": user,
            "compute": {"vmSize": size.azure_name},
            "idle": {"action": "None"},
        },
    }


def environment(namespace: str) -> Object:
    """Return an environment with neither flow folder nor packages."""
    return {
        "apiVersion": "flowsession.dev/v1alpha1",
        "kind": "FlowEnvironment",
        "metadata": {"name": "env", "namespace": namespace},
        "spec": {},
    }


def quotas() -> Sequence[Object]:
    """Return quotas that each keep some of their namespace's hundred sessions out."""
    of_a_size = {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": [SCOPED_SIZE.name]}]}
    crossing = {"matchExpressions": [{"scopeName": "CrossNamespacePodAffinity", "operator": "Exists"}]}
    return (
        _quota(PLAIN, {"count/pods": "60"}),
        _quota(SCOPED, {"pods": "5"}, scopeSelector=of_a_size),
        _quota(CPU, {"requests.cpu": "150"}),
        _quota(CROSSING, {"pods": "50"}, scopeSelector=crossing),
    )


def _quota(namespace: str, hard: dict[str, str], **scope: Any) -> Object:
    meta = {"name": "quota", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard, **scope}}
