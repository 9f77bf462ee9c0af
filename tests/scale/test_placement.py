"""An independent checker confirms the placement of a thousand sessions of a hundred users on 500 nodes in eight pools.

The pods come from the operator, if the VMSize kind exists, and from a stand-in that makes the same pods. Shows how the scheduler places
them, and how fast.
"""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from scale import workload
from scale.agents import Switchboard
from scale.bed import Bed
from scale.checker import Facts, Report, check
from scale.operator import SESSIONS, SIZED, OperatorInBed
from scale.sizes import SIZES
from scale.standin import StandIn
from scale.workload import CPU, CROSSING, NAMESPACES, PLAIN, SCOPED, SCOPED_SIZE

Maker = StandIn | OperatorInBed
NEEDS_SIZES = pytest.mark.skipif(not SIZED, reason="there is no VMSize yet")


@pytest.fixture(scope="module")
def pools(bed: Bed, switchboard: Switchboard) -> Bed:
    """Return 500 nodes in eight pools, with ten namespaces and quotas in four of them."""
    assert sum(size.nodes for size in SIZES) == 500 and len(SIZES) == 8
    bed.add_pools(SIZES)
    bed.add_namespaces(NAMESPACES)
    bed.create("/apis/scheduling.k8s.io/v1/priorityclasses", *(size.priority_class() for size in SIZES))
    bed.add_quotas(*workload.quotas())
    return bed


@pytest.fixture(params=["stand-in", pytest.param("operator", marks=NEEDS_SIZES)])
def maker(pools: Bed, request: pytest.FixtureRequest) -> Iterator[Maker]:
    """Yield the maker of the sessions' pods."""
    found: Maker = OperatorInBed(pools) if request.param == "operator" else StandIn(pools)
    with found.running():
        yield found
        pools.remove(SESSIONS)
        if isinstance(found, StandIn):
            pools.remove("/api/v1/pods")
        pools.until_empty()


def test_a_thousand_sessions_lie_where_they_should(maker: Maker, pools: Bed, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = workload.sessions()
    before, began = pools.scheduled(), time.monotonic()
    sessions = maker.place(wanted)
    seconds, thought = time.monotonic() - began, pools.scheduled().since(before)
    facts = Facts(
        pools.nodes(),
        pools.pods(),
        sessions,
        [size.vm_size() for size in SIZES],
        pools.everything("/api/v1/resourcequotas"),
        maker.left_to_daemonsets,
    )
    report = check(facts)
    with capsys.disabled():
        print(f"\n{type(maker).__name__}: {figures(report, seconds, thought)}")

    assert [str(violation) for violation in report.violations] == []
    assert placed_of(facts) == expected(wanted, facts)
    assert report.placed + report.refused_by_quota == len(wanted)
    assert report.packing > 0.95
    for quota in facts.quotas:
        assert set(quota["status"]["used"]) == set(quota["spec"]["hard"])


def placed_of(facts: Facts) -> Counter[str]:
    """Return how many pods of each namespace have a node."""
    return Counter(pod["metadata"]["namespace"] for pod in facts.pods if pod["spec"].get("nodeName"))


def expected(wanted: list[dict[str, Any]], facts: Facts) -> Counter[str]:
    """Return each namespace's number of sessions, or what its quota allows. For the quota of cores only the checker knows it."""
    counts = Counter(session["metadata"]["namespace"] for session in wanted)
    of_the_size = sum(
        1 for s in wanted if s["metadata"]["namespace"] == SCOPED and s["spec"]["compute"]["vmSize"] == SCOPED_SIZE.azure_name
    )
    assert of_the_size > 5
    return Counter({**counts, PLAIN: 60, SCOPED: counts[SCOPED] - of_the_size + 5, CROSSING: 50, CPU: placed_of(facts)[CPU]})


def figures(report: Report, seconds: float, thought: float) -> str:
    """Return a summary of this run for people."""
    return (
        f"{report.placed} sessions placed, {report.refused_by_quota} kept out by quotas, in {seconds:.1f} s"
        f" ({1000 * seconds / report.placed:.1f} ms each, of which the scheduler thinks {thought:.1f} ms); packing {report.packing:.3f}"
        f" ({report.nodes_used} nodes for users, {report.nodes_needed} would do); violations: {report.by_rule or 'none'}"
    )
