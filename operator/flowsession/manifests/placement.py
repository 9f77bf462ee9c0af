"""What a VM size means for a pod: its share of a node, the nodes that it may be on, and its affinity."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from flowsession.api import GROUP
from flowsession.api.environment import MinimumCompute
from flowsession.api.quantity import Amounts, parse, texts
from flowsession.api.size import UserIsolation
from flowsession.manifests.session_pod import AUTOSCALER_ANNOTATIONS, USER_LABEL
from flowsession.model.sizes import Offer

SIZE_LABEL = f"{GROUP}/vm-size"
TERMS = f"{GROUP}/vm-size-terms"


def placed(manifest: Mapping[str, Any], offer: Offer | None, minimum: MinimumCompute | None = None) -> dict[str, Any]:
    """Return the pod's manifest with its size and the annotations for autoscalers. Without a size, the environment's minimum applies."""
    pod = dict(manifest)
    meta, spec = dict(pod["metadata"]), dict(pod["spec"])
    meta["annotations"] = {**AUTOSCALER_ANNOTATIONS, **meta["annotations"]}
    (container,) = spec["containers"]
    if offer is not None:
        meta["labels"] = {**meta["labels"], SIZE_LABEL: offer.spec.azure_name}
        meta["annotations"] = {**meta["annotations"], TERMS: terms(offer)}
        spec["containers"] = [{**container, "resources": {"requests": texts(offer.requests), "limits": texts(offer.limits)}}]
        spec |= where(offer, meta["labels"][USER_LABEL])
    elif minimum is not None:
        spec["containers"] = [{**container, "resources": _at_least(container["resources"], minimum)}]
    return {**pod, "metadata": meta, "spec": spec}


def terms(offer: Offer) -> str:
    """Return the hash of everything that the size determines in a pod: if it changes, a new pod would differ."""
    return digest(offer, offer.requests, offer.limits)


def digest(offer: Offer, requests: Amounts, limits: Amounts) -> str:
    """Return the hash of a size's placement and of a pod's requests and limits."""
    meant = [where(offer, user=""), texts(requests), texts(limits)]
    return hashlib.sha256(json.dumps(meant, sort_keys=True).encode()).hexdigest()[:10]


def _at_least(resources: Mapping[str, Mapping[str, str]], minimum: MinimumCompute) -> dict[str, dict[str, str]]:
    """Return the resources with requests at least at the minimum, and limits at least at those requests."""
    requests, limits = dict(resources["requests"]), dict(resources["limits"])
    for name, amount in minimum.to_wire().items():
        if parse(amount) > parse(requests.get(name, "0")):
            requests[name] = amount
        if name in limits and parse(limits[name]) < parse(amount):
            limits[name] = amount
    return {"requests": requests, "limits": limits}


def where(offer: Offer, user: str) -> dict[str, Any]:
    """Return the part of a pod's spec that selects its nodes, with its affinity."""
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
    """Return the affinity of a user's sessions: never on a node with another user's, preferably on one with their own.

    With the empty namespaceSelector, both apply across all namespaces. Pods without the label, such as daemonsets', don't count.
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
