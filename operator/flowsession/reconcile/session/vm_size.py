"""The VM size of a session's next pod: the one that it names, the best one with quota, or its instance's."""

from fractions import Fraction

from flowsession.api.quantity import parse_all
from flowsession.model.sizes import Offer, PodCost
from flowsession.model.views import InstanceView
from flowsession.reconcile.session.snapshot import SessionSnapshot
from flowsession.reconcile.size import quota
from flowsession.reconcile.size.choice import END, NoSize, fitting, named, present, refused, within_quota
from flowsession.reconcile.size.quota import lacks


def choose(snapshot: SessionSnapshot, now: float) -> Offer | NoSize | None:
    """Return the size for the next pod, or why it gets none; None if no VMSize is installed and none is named."""
    if (ref := snapshot.spec.compute.instance_ref) is not None:
        return _of_instance(snapshot, snapshot.instances[ref.name], now)
    wanted = snapshot.spec.compute.vm_size
    candidates = named(wanted, snapshot.offers) if wanted else fitting(snapshot.offers, snapshot.minimum_compute)
    if isinstance(candidates, NoSize):
        return candidates
    refusal = present(snapshot.refusal, now)
    if refusal is not None and not candidates:
        return refused(refusal)
    if not candidates:
        return None
    or_else = ", or name another size" if wanted else ""
    return within_quota(
        candidates, snapshot.quotas, refusal, now, namespace=snapshot.namespace, cost=lambda offer: offer.cost, end=END, or_else=or_else
    )


def _of_instance(snapshot: SessionSnapshot, instance: InstanceView, now: float) -> Offer | NoSize | None:
    """Return the instance's size, or None if it is gone. A session on an instance requests only devices, but quotas count its pod."""
    if (refusal := present(snapshot.refusal, now)) is not None:
        return refused(refusal)
    offer = next((offer for offer in snapshot.offers if offer.spec.azure_name == instance.vm_size), None)
    devices = {name: amount for name, amount in offer.requests.items() if "/" in name} if offer else {}
    nothing = dict.fromkeys(("cpu", "memory"), Fraction(0))
    pod = PodCost(nothing | devices, parse_all(instance.resources), offer.spec.priority_class_name if offer else "")
    if found := lacks(snapshot.quotas, pod):
        message = f"no quota in namespace {snapshot.namespace!r}: {quota.first(found)}; {quota.way_out([found], end=END)}"
        return NoSize("QuotaExceeded", message)
    return offer
