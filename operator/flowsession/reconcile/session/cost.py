"""What a session's compute costs."""

from decimal import Decimal

from flowsession.reconcile.cost import NOTHING, kept, price_of
from flowsession.reconcile.session.draft import Draft


def of_session(draft: Draft) -> None:
    """Write the cost: a share of the node once the pod has one; nothing on an instance, which has its own cost."""
    pod = draft.pod if draft.status.get("podName") else None
    if pod is None or not pod.node or pod.instance:
        rate: Decimal | None = NOTHING
    else:
        rate = price_of(draft.snapshot.offers, pod.vm_size, share=True)
    draft.put("cost", kept(draft.status.get("cost"), rate, draft.now, began=pod.scheduled_at if pod else None))
