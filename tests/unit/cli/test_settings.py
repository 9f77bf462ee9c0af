"""`set`: what changes, what that costs, and what is asked."""

import pytest
from click.testing import CliRunner

from flowsession_cli import app
from flowsession_cli.cluster import SESSION
from unit.cli.fakes import FakeCluster, condition, ready_status

SIZES = (("standard-d2s-v5", "Standard_D2s_v5", "0.096"), ("standard-d4s-v5", "Standard_D4s_v5", "0.192"))


@pytest.fixture
def cluster(monkeypatch):
    fake = FakeCluster()
    status = ready_status() | {"vmSize": "Standard_D2s_v5", "edits": {"count": 2}}
    spec = {"environmentRef": {"name": "chat"}, "idle": {"action": "Suspend", "timeoutSeconds": 60}}
    fake.put("ComputeSession", "chat", spec=spec | {"compute": {"type": "Serverless", "vmSize": "Standard_D2s_v5"}}, status=status)
    for name, azure, price in SIZES:
        fake.things["vmsizes.flowsession.dev", name] = {"metadata": {"name": name}, "spec": {"azureName": azure, "pricePerHour": price}}
    fake.put("FlowRun", "r1", spec={}, status={"sessionName": "chat", "phase": "Running"})
    monkeypatch.setattr("flowsession_cli.cluster.Cluster", lambda **_: fake)
    monkeypatch.setattr("flowsession_cli.commands.settings._SETTLED_SECONDS", 0)
    return fake


def typed(*words):
    return CliRunner().invoke(app.cli, ["set", "chat", *words])


def test_another_idle_end_costs_nothing_and_is_not_asked(cluster):
    done = typed("--idle", "2h")
    assert done.exit_code == 0, done.exception
    assert cluster.get(SESSION, "chat")["spec"]["idle"] == {"action": "Suspend", "timeoutSeconds": 7200}, "it is suspended, as before"
    assert "chat is set so already" in typed("--idle", "2h").output


def test_a_restart_is_said_with_what_it_costs(cluster):
    asked = str(typed("--size", "Standard_D4s_v5").exception)
    assert asked.startswith(
        "chat restarts on Standard_D4s_v5 (0.192 an hour, now 0.096): what runs in it ends; r1 runs in it,"
        " its 2 edited files are saved first, packages are installed anew. Go on?"
    )
    done = typed("--size", "Standard_D4s_v5", "--yes")
    assert "chat is set\n" in done.output
    assert "chat runs on node-b" in done.output
    assert cluster.get(SESSION, "chat")["spec"]["compute"]["vmSize"] == "Standard_D4s_v5"


def test_edits_that_cannot_be_saved_are_told(cluster):
    cluster.things[SESSION, "chat"]["status"]["edits"] = {"count": 1, "notSaved": "1.2 MB"}
    asked = str(typed("--identity", "robot").exception)
    assert "restarts as robot" in asked
    assert "its edits can't be saved (1.2 MB): kubectl flow edits chat pull fetches them" in asked


@pytest.mark.parametrize(
    ("allocated", "said"),
    [
        (condition("ComputeAllocated", "True", "Allocated", "on node-b"), "chat goes on without a restart on node-b"),
        (condition("ComputeAllocated", "False", "NoSizeFits", "no size fits"), "chat goes on where it is: no size fits (NoSizeFits)"),
    ],
)
def test_a_session_that_need_not_restart_is_not_waited_for(cluster, monkeypatch, allocated, said):
    def patch(kind, name, change):
        thing = cluster.things[kind, name]
        thing["metadata"]["generation"] = 2
        thing["status"] = ready_status(2)
        thing["status"]["conditions"].append(allocated)
        return thing

    monkeypatch.setitem(cluster.__dict__, "patch", patch)
    monkeypatch.setitem(cluster.__dict__, "watch", None)
    done = typed("--size", "none", "--yes")
    assert said in f"{done.output}{done.exception}"


def test_an_instance_takes_the_place_of_a_size(cluster):
    assert typed("--instance", "mine", "--yes", "--no-wait").exit_code == 0
    assert cluster.get(SESSION, "chat")["spec"]["compute"] == {"type": "Instance", "vmSize": None, "instanceRef": {"name": "mine"}}


def test_a_suspended_session_has_nothing_to_restart(cluster):
    cluster.things[SESSION, "chat"]["status"]["phase"] = "Suspended"
    assert typed("--size", "Standard_D4s_v5").exit_code == 0


def test_what_makes_no_sense_is_told(cluster):
    assert "nothing to set: give --size" in str(typed().exception)
    assert "an instance has a size of its own" in str(typed("--size", "a", "--instance", "b").exception)


def test_no_size_leaves_the_choice_to_the_operator(cluster):
    assert "restarts on a size that is chosen for it: what runs" in str(typed("--size", "none").exception)
    assert typed("--size", "none", "--yes").exit_code == 0
    assert cluster.get(SESSION, "chat")["spec"]["compute"] == {"type": "Serverless", "vmSize": None, "instanceRef": None}
