"""The pod that holds a ComputeInstance's reservation, and what it means for the pods of the sessions beside it."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from flowsession.api import GROUP
from flowsession.manifests import placement
from flowsession.manifests.common import controller, restricted, restricted_container
from flowsession.manifests.session_pod import INSTANCE_LABEL, MANAGED_BY, MANAGER, MARKS, USER_LABEL, user_label
from flowsession.model.quantity import Amounts, texts
from flowsession.reconcile.instance.snapshot import InstanceSnapshot
from flowsession.reconcile.session.snapshot import InstanceView
from flowsession.reconcile.size.offer import Offer
from flowsession.reconcile.size.quota import PodCost

ANCHOR = "anchor"
"""Name of its container."""

_SHARED = ("cpu", "memory")
"""What is reserved. Devices are not: what the anchor held nobody else could use."""

_LEFT = Fraction(1, 1000)
"""So much of a processor less is requested than the limit is, which makes the pod Burstable: the kubelet gives the cgroup of all Burstable
pods the sum of their requests as its weight (setCPUCgroupConfig in pkg/kubelet/cm/qos_container_manager_linux.go), and the sessions on the
instance, which request nothing, are in it."""


def name_of(snapshot: InstanceSnapshot, incarnation: int) -> str:
    """The pod's name: the same for the same instance and incarnation, so that creating it twice is creating it once."""
    return f"{snapshot.name}-{ANCHOR}-{snapshot.uid[:5]}-{incarnation}"


def reserved(offer: Offer) -> tuple[Amounts, Amounts]:
    """Requests and limits of the anchor: all that a node of the size can give."""
    limits = {resource: offer.limits[resource] for resource in _SHARED}
    return {**limits, "cpu": limits["cpu"] - _LEFT}, limits


def cost_of(offer: Offer) -> PodCost:
    """What quotas count of the anchor."""
    requests, limits = reserved(offer)
    return PodCost(requests, limits, offer.spec.priority_class_name, across_namespaces=offer.cost.across_namespaces, of="an instance")


def manifest(snapshot: InstanceSnapshot, offer: Offer, incarnation: int) -> dict[str, Any]:
    """The anchor: restricted Pod Security, no token, no volume, one sleeping process, of the image that its node needs anyway."""
    user = user_label(snapshot.spec.user)
    requests, limits = reserved(offer)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name_of(snapshot, incarnation),
            "namespace": snapshot.namespace,
            "labels": {
                MANAGED_BY: MANAGER,
                INSTANCE_LABEL: snapshot.name,
                USER_LABEL: user,
                placement.SIZE_LABEL: offer.spec.azure_name,
            },
            "annotations": {**MARKS, f"{GROUP}/user": snapshot.spec.user, placement.TERMS: terms(offer)},
            "ownerReferences": [controller("ComputeInstance", snapshot.name, snapshot.uid)],
        },
        "spec": {
            **restricted(snapshot.settings.session.run_as_user),
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 1,  # sleep as process 1 does not hear SIGTERM
            "containers": [
                {
                    "name": ANCHOR,
                    "image": snapshot.settings.runtime_image,
                    "imagePullPolicy": snapshot.settings.image_pull_policy,
                    "command": ["sleep", "infinity"],
                    "resources": {"requests": texts(requests), "limits": texts(limits)},
                    "securityContext": restricted_container(read_only=True),
                }
            ],
            **placement.where(offer, user),
        },
    }


def terms(offer: Offer) -> str:
    """Stands for all that the size means for an anchor: another value, and one that was created now would be another one."""
    return placement.digest(offer, *reserved(offer))


def beside(manifest: Mapping[str, Any], instance: InstanceView, offer: Offer | None) -> dict[str, Any]:
    """A session's pod beside the anchor: it requests nothing, so that it fits beside the full reservation, and may use all of that.

    Of devices it gets its size's share. The anchor keeps other users' sessions away, so it needs no isolation of its own.
    """
    pod = dict(manifest)
    meta, spec = dict(pod["metadata"]), dict(pod["spec"])
    meta["annotations"] = {**MARKS, **meta["annotations"], placement.TERMS: instance.node}
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
