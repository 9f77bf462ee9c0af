"""The cost of compute: exact, written only when it changes, and never charged for waiting."""

from dataclasses import replace
from decimal import Decimal

import pytest

from flowsession.reconcile import cost
from unit.builders import NOW, pending_pod, pod, session_snapshot, settled_snapshot, stamp, status_after
from unit.sizing import D2, offer

SIZE = offer(D2, pricePerHour="0.096", sessionsPerNode=4)
HOUR = 3600.0


def begun(ago: float, per_hour: str = "0.0240", accrued: str = "0.0000"):
    return {"perHour": per_hour, "accrued": accrued, "since": stamp(NOW - ago)}


def test_a_session_pays_its_share_from_when_a_node_has_its_pod():
    status = status_after(settled_snapshot(pods=(pod(vm_size=D2),), offers=(SIZE,)))
    assert status["cost"] == {"perHour": "0.0240", "accrued": "0.0000", "since": stamp(NOW - 101)}


@pytest.mark.parametrize(
    ("pods", "offers"),
    [
        ((), (SIZE,)),
        ((pending_pod(node="", unscheduled_message="no room", container=None, vm_size=D2),), (SIZE,)),
        ((pod(),), (SIZE,)),
        ((pod(vm_size=D2),), (offer(D2),)),
        ((pod(vm_size=D2),), ()),
        ((pod(vm_size=D2, instance="box"),), (SIZE,)),
    ],
    ids=["no pod", "no node", "the chart's defaults", "no price", "size gone", "on an instance"],
)
def test_nothing_is_said_of_what_costs_nothing(pods, offers):
    assert "cost" not in status_after(session_snapshot(*pods, offers=offers))


def test_what_goes_on_is_not_written_again():
    snapshot = settled_snapshot(pods=(pod(vm_size=D2),), offers=(SIZE,))
    snapshot = replace(snapshot, status={**status_after(snapshot)})
    assert status_after(snapshot, NOW + 1000)["cost"] == snapshot.status["cost"]
    assert cost.until(snapshot.status["cost"], NOW - 101 + HOUR) == Decimal("0.024")


def test_the_end_of_the_pod_ends_it():
    snapshot = settled_snapshot(pods=(), offers=(SIZE,))
    found = status_after(replace(snapshot, status={**snapshot.status, "cost": begun(HOUR / 2, accrued="1.5000")}))
    assert found["cost"] == {"perHour": "0.0000", "accrued": "1.5120", "since": stamp(NOW)}


@pytest.mark.parametrize(
    ("before", "rate", "after"),
    [
        (begun(HOUR), Decimal("0.048"), ("0.0480", "0.0240")),
        (begun(HOUR), Decimal(0), ("0.0000", "0.0240")),
        (begun(HOUR), Decimal("0.0240000"), ("0.0240", "0.0000")),
        (begun(HOUR), None, ("0.0240", "0.0000")),
        (begun(0.0, "0.3000"), Decimal("0.1"), ("0.1000", "0.0000")),
        (begun(-60.0), Decimal("0.1"), ("0.1000", "0.0000")),
        (None, Decimal("0.123456"), ("0.1235", "0.0000")),
    ],
    ids=["dearer", "over", "same", "not known", "at once", "clock set back", "rounded"],
)
def test_the_price_that_was_holds_until_another_does(before, rate, after):
    found = cost.kept(before, rate, NOW, began=None)
    assert (found["perHour"], found["accrued"]) == after


def test_compute_that_began_earlier_is_paid_from_then_and_a_pause_is_not():
    paused = {"perHour": "0.0000", "accrued": "2.0000", "since": stamp(NOW - HOUR)}
    found = cost.kept(paused, Decimal(1), NOW, began=NOW - 36)
    assert found == {"perHour": "1.0000", "accrued": "2.0000", "since": stamp(NOW - 36)}
    assert cost.until(found, NOW) == Decimal("2.01")


def test_many_starts_and_ends_add_up_without_drift():
    kept, now = None, NOW
    for _ in range(1000):
        kept = cost.kept(kept, Decimal("0.1"), now, began=None)
        now += 36
        kept = cost.kept(kept, Decimal(0), now, began=None)
    assert kept["accrued"] == "1.0000"
