"""Short builders for VM sizes, nodes and quotas."""

from fractions import Fraction
from typing import Any

from flowsession.api.quantity import parse_all
from flowsession.api.size import VMSizeSpec
from flowsession.model.sizes import Offer, Pool, QuotaView, Taint
from flowsession.reconcile.size import quota
from flowsession.reconcile.size.choice import canonical
from flowsession.reconcile.size.offer import offer as make_offer
from flowsession.settings import SizeSettings

NOTHING_RESERVED = SizeSettings(daemonset_requests={})
D2, D4 = "Standard_D2s_v5", "Standard_D4s_v5"


def spec(azure_name: str = D2, **fields: Any) -> VMSizeSpec:
    """Return a VMSize's spec, by wire names: 2 processors and 8 GiB."""
    return VMSizeSpec.model_validate({"azureName": azure_name, "capacity": {"cpu": "2", "memory": "8Gi"}, **fields})


def pool(labels: dict[str, str] | None = None, *, nodes: int = 1, taints: tuple[Taint, ...] = (), **allocatable: str) -> Pool:
    """Return nodes with this allocatable: cpu="1900m", memory="6Gi"; extended resources by `gpus`."""
    if gpus := allocatable.pop("gpus", ""):
        allocatable["nvidia.com/gpu"] = gpus
    return Pool(labels or {}, taints, parse_all(allocatable or {"cpu": "1900m", "memory": "6Gi"}), nodes)


def offer(azure_name: str = D2, *pools: Pool, settings: SizeSettings = NOTHING_RESERVED, **fields: Any) -> Offer:
    """Return what a session would get of that size."""
    return make_offer(canonical(azure_name), spec(azure_name, **fields), pools, settings)


def view(name: str = "team", *, used: dict[str, str] | None = None, scopes: Any = (), expressions: Any = (), **hard: str) -> QuotaView:
    """Return a quota. In the keywords __ stands for a dot and ___ for a slash (requests__cpu, count___pods)."""
    names = {key.replace("___", "/").replace("__", "."): amount for key, amount in hard.items()}
    selector = {"matchExpressions": list(expressions)} if expressions else None
    return quota.read(
        {
            "metadata": {"name": name},
            "spec": {"hard": names, "scopes": list(scopes), "scopeSelector": selector},
            "status": {"hard": names, "used": used or {}},
        }
    )


def amounts(**named: str) -> dict[str, Fraction]:
    return parse_all(named)
