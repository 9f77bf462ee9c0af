"""kill -9 of the operator at every single write of an instance's life.

The ways in which an instance ends take many writes. There the operator dies only before each write, which also covers the states after
the previous write and after the calls in between.
"""

from collections.abc import Iterator

import pytest

from apiserver.api import eventually
from apiserver.lab import Lab
from apiserver.test_instances import Instances
from apiserver.test_kill import killed_at_every_write
from apiserver.test_sizes import D2


@pytest.fixture(params=["before", "after"])
def moment(request: pytest.FixtureRequest) -> str:
    """Return whether the operator dies before or after the API server carries out the write."""
    return str(request.param)


@pytest.fixture
def instances(lab: Lab) -> Iterator[Instances]:
    found = Instances(lab)
    found.sizes.create(D2, pricePerHour="0.096")
    lab.operator.start()
    yield found
    found.sizes.remove_all()


def runs(instances: Instances) -> None:
    """Wait until the instance is Running, with one anchor, one session's pod, and a status that describes them."""
    lab = instances.lab
    lab.until_ready()
    status = instances.until("Running")
    lab.settle(quiet=0.4)
    (anchor,) = instances.anchors()
    assert status["podName"] == anchor["metadata"]["name"]
    assert instances.status()["cost"]["perHour"] == "0.0960"
    assert "stopped" not in instances.status()
    assert len(lab.pods(session="ada")) == 1


def prepared(instances: Instances) -> None:
    if not instances.lab.operator.running:
        instances.lab.operator.start()
    instances.lab.create_environment()
    instances.create()
    instances.session()
    runs(instances)


def is_stopped(instances: Instances, by: str) -> None:
    status = instances.until("Stopped")
    assert status["stopped"]["by"] == by
    instances.waits("InstanceStopped")
    eventually(lambda: instances.lab.pods() == [], what="all pods are gone")
    told = sum(event["count"] for event in instances.lab.events("box", reason="Stopped"))
    assert told <= 2, f"{told} Events Stopped"


def test_during_the_start(instances: Instances, moment: str) -> None:
    lab = instances.lab

    def prepare() -> None:
        if not lab.operator.running:
            lab.operator.start()
        lab.create_environment()
        lab.until_environment("Resolved")

    def act() -> None:
        instances.create()
        instances.session()

    writes = killed_at_every_write(
        lab,
        moment,
        prepare=prepare,
        act=act,
        over=lambda: bool(lab.session().get("status", {}).get("packages")),
        check=lambda: runs(instances),
    )
    assert "POST pods" in writes
    assert "PATCH computeinstances/status" in writes


def test_during_a_stop(instances: Instances) -> None:
    writes = killed_at_every_write(
        instances.lab,
        "before",
        prepare=lambda: prepared(instances),
        act=lambda: instances.change(running=False),
        over=lambda: instances.status().get("phase") == "Stopped",
        check=lambda: is_stopped(instances, "User"),
    )
    assert "DELETE pods" in writes


def test_during_the_idle_stop(instances: Instances) -> None:
    writes = killed_at_every_write(
        instances.lab,
        "before",
        prepare=lambda: prepared(instances),
        act=lambda: instances.change(idle={"timeoutSeconds": 5}),
        over=lambda: instances.status().get("phase") == "Stopped",
        check=lambda: is_stopped(instances, "Idle"),
    )
    assert "DELETE pods" in writes
