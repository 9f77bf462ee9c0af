"""Sessions become Ready on nodes that kwok simulates: the operator, the real scheduler and quota admission, and an agent for every pod."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from scale import workload
from scale.agents import Switchboard
from scale.bed import Bed
from scale.operator import SESSIONS, OperatorInBed, state
from scale.sizes import SIZES

SIZE = replace(SIZES[1], nodes=10)


def unsized(name: str) -> dict[str, Any]:
    session = workload.session(name, namespace="team", user=f"{name}@example.com", size=SIZE)
    del session["spec"]["compute"]
    return session


@pytest.fixture
def operator(bed: Bed, switchboard: Switchboard) -> OperatorInBed:
    bed.add_pools([SIZE])
    bed.add_namespaces(["team"])
    return OperatorInBed(bed)


def test_fifty_sessions_become_ready_on_played_nodes(operator: OperatorInBed, bed: Bed, switchboard: Switchboard) -> None:
    with operator.running():
        found = operator.place([unsized(f"s{number}") for number in range(50)], seconds=60)
        assert Counter(map(state, found)) == {"Ready": 50}
        pods = {pod["metadata"]["name"]: pod for pod in bed.pods()}
        for session in found:
            pod = pods[session["status"]["podName"]]
            assert pod["spec"]["nodeName"].startswith(SIZE.name)
            assert switchboard.agents[pod["status"]["podIP"]].uid == pod["metadata"]["uid"]
        bed.remove(SESSIONS)
        bed.until_empty()
