"""Pools at zero: a real autoscaler makes the nodes that sessions need, and removes them once the sessions are gone."""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from apiserver.api import eventually
from scale import workload
from scale.agents import Switchboard
from scale.autoscaler import CLAIMS, EMPTY_SECONDS, autoscaling
from scale.bed import Bed, pool_of
from scale.checker import Facts, check
from scale.operator import SESSIONS, SIZED, OperatorInBed
from scale.sizes import SIZES, Size
from scale.standin import StandIn

SMALL, MIDDLE, GPUS = SIZES[0], SIZES[1], SIZES[7]
NEEDS_SIZES = pytest.mark.skipif(not SIZED, reason="there is no VMSize yet")
Maker = StandIn | OperatorInBed
Object = dict[str, Any]
IDLE_SECONDS = 15


@pytest.fixture(scope="module")
def pools(bed: Bed, switchboard: Switchboard) -> Iterator[Bed]:
    """Yield eight pools without a node."""
    bed.add_namespaces(["team", "another"])
    bed.create("/apis/scheduling.k8s.io/v1/priorityclasses", *(size.priority_class() for size in SIZES))
    with autoscaling(bed, SIZES):
        assert bed.nodes() == []
        yield bed


@pytest.fixture(params=["stand-in", pytest.param("operator", marks=NEEDS_SIZES)])
def maker(pools: Bed, request: pytest.FixtureRequest) -> Iterator[Maker]:
    """Yield the maker of the sessions' pods."""
    found: Maker = OperatorInBed(pools, autoscaler=True) if request.param == "operator" else StandIn(pools, quiet=60)
    with found.running():
        yield found
        remove(found, pools)


def test_pools_grow_from_zero_and_go_back_to_zero(maker: Maker, pools: Bed, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = (SMALL, MIDDLE, GPUS)
    wanted = [session(f"s{number}", f"user-{number}", size) for number, size in enumerate(sizes)]
    began = time.monotonic()
    sessions = maker.place(wanted)
    eventually(lambda: all(pod["status"]["phase"] == "Running" for pod in pools.pods()), seconds=60)
    running = time.monotonic() - began
    assert Counter(map(pool_of, pools.nodes())) == Counter(size.azure_name for size in sizes)
    assert violations(maker, pools, sessions) == []

    empty_again = remove(maker, pools)
    with capsys.disabled():
        print(
            f"\n{type(maker).__name__}: three pools from zero: sessions run after {running:.1f} s;"
            f" nodes gone {empty_again:.1f} s after the sessions (Karpenter waits {EMPTY_SECONDS} s for an empty node)"
        )


def test_a_user_s_sessions_share_a_new_node_and_users_do_not(maker: Maker, pools: Bed) -> None:
    namespaces = ("team", "another")
    wanted = [session(f"s{user}", f"user-{user}", MIDDLE, namespace) for user in range(3) for namespace in namespaces]
    sessions = maker.place(wanted)
    assert violations(maker, pools, sessions) == []
    assert len(pools.nodes()) == 3


def test_a_session_that_ends_by_idleness_leaves_no_node(pools: Bed, capsys: pytest.CaptureFixture[str]) -> None:
    """If there are no sizes yet, the session names none, and Karpenter takes any pool: its own first choice, not the cheapest."""
    idle = session("idle", "ada@example.com", SMALL)
    if not SIZED:
        del idle["spec"]["compute"]
    idle["spec"]["idle"] = {"action": "Delete", "timeoutSeconds": IDLE_SECONDS}
    maker = OperatorInBed(pools, autoscaler=True)
    with maker.running():
        assert not pools.nodes()
        began = time.monotonic()
        (found,) = maker.place([idle])
        ready = time.monotonic() - began
        (node,) = pools.nodes()
        assert pool_of(node) == SMALL.azure_name or not SIZED
        eventually(lambda: not pools.everything(SESSIONS), seconds=120, what=f"{found['metadata']['name']} ended by idleness")
        ended = time.monotonic() - began
        eventually(lambda: not pools.nodes(), seconds=180, what="no node any more")
        gone = time.monotonic() - began
    with capsys.disabled():
        print(
            f"\na session from zero: Ready after {ready:.1f} s; ended by idleness ({IDLE_SECONDS} s) after {ended:.1f} s;"
            f" no node any more {gone - ended:.1f} s later"
        )


def session(name: str, user: str, size: Size, namespace: str = "team") -> Object:
    return workload.session(name, namespace=namespace, user=user, size=size)


def violations(maker: Maker, bed: Bed, sessions: list[Object]) -> list[str]:
    sizes = [size.vm_size() for size in SIZES if has_nodes(bed, size)]
    report = check(Facts(bed.nodes(), bed.pods(), sessions, sizes, left_to_daemonsets=maker.left_to_daemonsets))
    assert report.placed == len(sessions)
    return [str(violation) for violation in report.violations]


def has_nodes(bed: Bed, size: Size) -> bool:
    return any(pool_of(node) == size.azure_name for node in bed.nodes())


def remove(maker: Maker, bed: Bed) -> float:
    """Delete all sessions, and return the seconds from the end of the last pod to the end of the last node."""
    bed.remove(SESSIONS)
    if isinstance(maker, StandIn):
        bed.remove("/api/v1/pods")
    bed.until_empty()
    began = time.monotonic()
    eventually(lambda: not bed.nodes() and not bed.everything(CLAIMS), seconds=180, what="no node any more")
    return time.monotonic() - began
