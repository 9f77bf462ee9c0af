"""What a session's compute costs."""

from decimal import Decimal

from flowsession.reconcile.cost import NOTHING, kept, price_of
from flowsession.reconcile.session.draft import Draft


def of_session(draft: Draft) -> None:
    """A session pays its share of the node from the moment that a node has its pod; on an instance nothing, since that pays for itself."""
    pod = draft.pod if draft.status.get("podName") else None
    if pod is None or not pod.node or pod.instance:
        rate: Decimal | None = NOTHING
    else:
        rate = price_of(draft.snapshot.offers, pod.vm_size, share=True)
    draft.put("cost", kept(draft.status.get("cost"), rate, draft.now, began=pod.scheduled_at if pod else None))
