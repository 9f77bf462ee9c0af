"""The anchor, which is the pod that holds a ComputeInstance's reservation, and the placement of sessions on the instance."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from flowsession.api import GROUP
from flowsession.api.quantity import Amounts, texts
from flowsession.manifests import placement
from flowsession.manifests.common import controller, restricted, restricted_container
from flowsession.manifests.session_pod import AUTOSCALER_ANNOTATIONS, INSTANCE_LABEL, MANAGED_BY, MANAGER, USER_LABEL, user_label
from flowsession.model.sizes import Offer, PodCost
from flowsession.model.views import InstanceView
from flowsession.settings import Settings

ANCHOR = "anchor"
"""Name of its container."""

_SHARED = ("cpu", "memory")
"""The reserved resources. Devices are not reserved: what the anchor holds, no session can use."""

_LEFT = Fraction(1, 1000)
"""Processors by which the request is lower than the limit, which makes the pod Burstable. The kubelet weights the cgroup of all Burstable
pods by the sum of their requests (setCPUCgroupConfig in pkg/kubelet/cm/qos_container_manager_linux.go), and the sessions on the instance,
which request nothing, are in that cgroup."""


@dataclass(frozen=True)
class AnchorPod:
    """The input for an anchor's manifest."""

    namespace: str
    instance: str
    uid: str
    """uid of the instance."""
    incarnation: int
    user: str
    offer: Offer
    settings: Settings


def name_of(instance: str, uid: str, incarnation: int) -> str:
    """Return the pod's name. One incarnation has one name, so a repeated POST creates nothing."""
    return f"{instance}-{ANCHOR}-{uid[:5]}-{incarnation}"


def reserved(offer: Offer) -> tuple[Amounts, Amounts]:
    """Return requests and limits of the anchor: all that a node of the size can give."""
    limits = {resource: offer.limits[resource] for resource in _SHARED}
    return {**limits, "cpu": limits["cpu"] - _LEFT}, limits


def cost_of(offer: Offer) -> PodCost:
    """Return what quotas count of the anchor."""
    requests, limits = reserved(offer)
    return PodCost(requests, limits, offer.spec.priority_class_name, across_namespaces=offer.cost.across_namespaces, of="an instance")


def manifest(wanted: AnchorPod) -> dict[str, Any]:
    """Return the anchor: restricted Pod Security, no token, no volume, one sleeping process, in the image that its node needs anyway."""
    user, offer = user_label(wanted.user), wanted.offer
    requests, limits = reserved(offer)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name_of(wanted.instance, wanted.uid, wanted.incarnation),
            "namespace": wanted.namespace,
            "labels": {
                MANAGED_BY: MANAGER,
                INSTANCE_LABEL: wanted.instance,
                USER_LABEL: user,
                placement.SIZE_LABEL: offer.spec.azure_name,
            },
            "annotations": {**AUTOSCALER_ANNOTATIONS, f"{GROUP}/user": wanted.user, placement.TERMS: terms(offer)},
            "ownerReferences": [controller("ComputeInstance", wanted.instance, wanted.uid)],
        },
        "spec": {
            **restricted(wanted.settings.session.run_as_user),
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 1,  # sleep as process 1 ignores SIGTERM
            "containers": [
                {
                    "name": ANCHOR,
                    "image": wanted.settings.runtime_image,
                    "imagePullPolicy": wanted.settings.image_pull_policy,
                    "command": ["sleep", "infinity"],
                    "resources": {"requests": texts(requests), "limits": texts(limits)},
                    "securityContext": restricted_container(read_only=True),
                }
            ],
            **placement.where(offer, user),
        },
    }


def terms(offer: Offer) -> str:
    """Return the hash of everything that the size determines in an anchor: if it changes, a new anchor would differ."""
    return placement.digest(offer, *reserved(offer))


def placed_on(manifest: Mapping[str, Any], instance: InstanceView, offer: Offer | None) -> dict[str, Any]:
    """Return a session's pod placed on the instance's node: it requests nothing, and may use all that the anchor reserves.

    Of devices it requests its size's share. The anchor keeps other users' sessions away, so the pod needs no isolation itself.
    """
    pod = dict(manifest)
    meta, spec = dict(pod["metadata"]), dict(pod["spec"])
    meta["annotations"] = {**AUTOSCALER_ANNOTATIONS, **meta["annotations"], placement.TERMS: instance.node}
    meta["labels"] = {**meta["labels"], INSTANCE_LABEL: instance.name, placement.SIZE_LABEL: instance.vm_size}
    devices = texts({name: amount for name, amount in offer.requests.items() if "/" in name}) if offer else {}
    (container,) = spec["containers"]
    resources = {"requests": dict.fromkeys(_SHARED, "0") | devices, "limits": dict(instance.resources) | devices}
    spec["containers"] = [{**container, "resources": resources}]
    spec.pop("nodeSelector", None)
    spec["tolerations"] = [toleration.to_wire() for toleration in offer.spec.tolerations or ()] if offer else []
    if offer and offer.spec.priority_class_name:
        spec["priorityClassName"] = offer.spec.priority_class_name
    here = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [instance.node]}]}
    spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [here]}}}
    return {**pod, "metadata": meta, "spec": spec}
