"""The log of sessions and instances: which started, failed and ended, why, and how long it took."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from flowsession.engine.store import journal
from flowsession.engine.store.cache import Cache
from unit.builders import NAME, NAMESPACE, NOW
from unit.builders import stamp as at
from unit.world import World

OF_A_RECORD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
WHO = {"key": f"{NAMESPACE}/{NAME}", "user": "alice@example.com", "environment": "flow-env"}


class Log:
    """The lines of the journal, each with its extra fields."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    @property
    def lines(self) -> list[tuple[str, dict[str, Any]]]:
        of_the_journal = [record for record in self._caplog.records if record.name == journal.log.name]
        assert {record.levelno for record in of_the_journal} <= {logging.INFO}
        return [(record.getMessage(), {k: v for k, v in record.__dict__.items() if k not in OF_A_RECORD}) for record in of_the_journal]

    def take(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the lines since the last call."""
        found = self.lines
        self._caplog.clear()
        return found


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    with caplog.at_level(logging.INFO, logger=journal.log.name):
        yield Log(caplog)


def test_a_start_an_idle_end_and_nothing_between(log: Log) -> None:
    world = World(environment={"requirementsText": ""}, idle={"timeoutSeconds": 60})
    world.settle(until_ready=True)
    world.live(20)
    ((said, start),) = log.take()
    assert said == "session started"
    assert WHO.items() <= start.items()
    assert (start["why"], start["pod"], start["node"]) == ("its first start", world.api.pods[0]["metadata"]["name"], "worker-1")
    assert start["seconds"] >= 0
    assert {"Scheduled", "ImagePulled", "AgentReady"} <= set(start["stages"])
    world.live(120)
    assert world.api.session is None
    ((said, end),) = log.take()
    assert said == "session ended"
    assert WHO.items() <= end.items()
    assert end["reason"] == "Idle"
    assert "no work" in end["said"]
    assert 60 <= end["seconds"] <= 140


def test_a_delete_by_somebody(log: Log) -> None:
    world = World(environment={"requirementsText": ""})
    world.settle(until_ready=True)
    log.take()
    world.clock.now += 30
    world.delete_session()
    world.hear()
    ((said, end),) = log.take()
    assert (said, end["reason"], end["said"]) == ("session ended", "Deleted", "somebody deleted it")
    assert 30 <= end["seconds"] <= 60


def test_a_failure_is_told_once_with_its_reason_and_sentence(log: Log) -> None:
    world = World(environment={"requirementsText": "nonsense==1\n"})
    for _ in range(30):
        world.live(0.5)
        for agent in world.agents.values():
            agent.finish_install("NoMatchingDistribution")
    ((said, failure),) = log.take()
    assert said == "session failed"
    assert WHO.items() <= failure.items()
    assert (failure["reason"], failure["said"]) == ("InstallFailed", "there is no such package")
    assert 0 <= failure["seconds"] <= 20


def test_a_lost_pod_is_a_failure_and_another_start(log: Log) -> None:
    world = World(environment={"requirementsText": ""})
    world.settle(until_ready=True)
    log.take()
    world.pod_fails(world.api.pods[0])
    world.live(30)
    failed, started = log.take()
    assert (failed[0], failed[1]["reason"]) == ("session failed", "Evicted")
    assert "ended (Evicted)" in failed[1]["said"]
    assert (started[0], started[1]["why"]) == ("session started", "its start number 2")


def test_a_container_that_died_is_another_start(log: Log) -> None:
    world = World(environment={"requirementsText": ""})
    world.settle(until_ready=True)
    world.live(30)
    log.take()
    world.container_dies(world.api.pods[0], "OOMKilled", 137)
    world.live(10)
    said, started = log.take()[-1]
    assert (said, started["why"]) == ("session started", "its container was restarted (1)")
    assert started["seconds"] < 20, "since that, not since its pod was created"


def test_a_suspension(log: Log) -> None:
    world = World(environment={"requirementsText": ""})
    world.settle(until_ready=True)
    log.take()
    world.live(30)
    world.change_session(suspend=True)
    world.live(10)
    ((said, stop),) = log.take()
    assert (said, stop["reason"]) == ("session stopped", "User")
    assert 25 <= stop["seconds"] <= 45


def instance(version: int, **status: Any) -> dict[str, Any]:
    meta = {
        "name": "box",
        "namespace": NAMESPACE,
        "uid": "u",
        "generation": 1,
        "resourceVersion": str(version),
        "creationTimestamp": at(NOW - 100),
    }
    spec = {"user": "alice@example.com", "vmSize": "Standard_D2s_v5"}
    return {"apiVersion": "flowsession.dev/v1alpha1", "kind": "ComputeInstance", "metadata": meta, "spec": spec, "status": status}


def ready(status: str, reason: str, message: str = "") -> list[dict[str, Any]]:
    return [{"type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": at(NOW)}]


def test_an_instances_life(log: Log) -> None:
    cache = Cache(clock=lambda: NOW)
    cache.observe("ComputeInstance", instance(1, conditions=ready("False", "Starting")))
    assert log.take() == []
    cache.observe("ComputeInstance", instance(2, conditions=ready("False", "QuotaExceeded", "no quota")))
    ((said, failure),) = log.take()
    assert (said, failure["reason"], failure["said"]) == ("instance failed", "QuotaExceeded", "no quota")
    up = {"readyAt": at(NOW - 10), "startedAt": at(NOW - 40), "podName": "box-anchor-1", "nodeName": "n"}
    cache.observe("ComputeInstance", instance(3, conditions=ready("True", "Running"), **up))
    ((said, start),) = log.take()
    assert said == "instance started"
    assert {
        "user": "alice@example.com",
        "key": f"{NAMESPACE}/box",
        "why": "its first start",
        "node": "n",
        "seconds": 40.0,
    }.items() <= start.items()
    cache.observe("ComputeInstance", instance(3, conditions=ready("False", "PodFailed"), **up))
    assert log.take() == [], "what is old news"
    down = {"stopped": {"by": "Idle", "at": at(NOW)}, "conditions": ready("False", "Stopped")}
    cache.observe("ComputeInstance", instance(4, **down))
    ((said, stop),) = log.take()
    assert (said, stop["reason"], stop["seconds"]) == ("instance stopped", "Idle", 10)
    cache.forget("ComputeInstance", NAMESPACE, "box")
    ((said, end),) = log.take()
    assert (said, end["reason"], end["seconds"]) == ("instance ended", "Deleted", 100)


def test_what_an_operator_finds_when_it_starts_is_no_story(log: Log) -> None:
    Cache(clock=lambda: NOW).observe("ComputeInstance", instance(3, conditions=ready("True", "Running"), readyAt=at(NOW)))
    assert log.take() == []
