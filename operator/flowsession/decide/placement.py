"""What a VM size means for a pod: its share of a node, which nodes, and beside whom."""

from collections.abc import Mapping
from typing import Any

from flowsession.api import GROUP
from flowsession.api.size import UserIsolation
from flowsession.decide.pod import MARKS, USER_LABEL
from flowsession.decide.quantity import texts
from flowsession.decide.sizes import Offer

SIZE_LABEL = f"{GROUP}/vm-size"


def placed(manifest: Mapping[str, Any], offer: Offer | None) -> dict[str, Any]:
    """The pod's manifest with what its size asks for; without a size as it is, but for the marks."""
    pod = dict(manifest)
    meta, spec = dict(pod["metadata"]), dict(pod["spec"])
    meta["annotations"] = {**MARKS, **meta["annotations"]}
    if offer is not None:
        meta["labels"] = {**meta["labels"], SIZE_LABEL: offer.spec.azure_name}
        (container,) = spec["containers"]
        spec["containers"] = [{**container, "resources": {"requests": texts(offer.requests), "limits": texts(offer.limits)}}]
        spec |= _where(offer, meta["labels"][USER_LABEL])
    return {**pod, "metadata": meta, "spec": spec}


def _where(offer: Offer, user: str) -> dict[str, Any]:
    size = offer.spec
    where: dict[str, Any] = {
        "nodeSelector": dict(size.node_selector or {}),
        "tolerations": [toleration.to_wire() for toleration in size.tolerations or ()],
    }
    if size.priority_class_name:
        where["priorityClassName"] = size.priority_class_name
    if size.user_isolation is UserIsolation.NODE:
        where["affinity"] = _isolation(user)
    return where


def _isolation(user: str) -> dict[str, Any]:
    """Never beside another user's session, and rather beside one's own.

    Without a namespaceSelector both would end at the namespace. Pods without the label, such as daemonsets', don't count.
    """
    everywhere = {"namespaceSelector": {}, "topologyKey": "kubernetes.io/hostname"}
    others = {
        "labelSelector": {"matchExpressions": [{"key": USER_LABEL, "operator": "Exists"}]},
        "mismatchLabelKeys": [USER_LABEL],
        **everywhere,
    }
    own = {"labelSelector": {"matchLabels": {USER_LABEL: user}}, **everywhere}
    return {
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [others]},
        "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": own}]},
    }
