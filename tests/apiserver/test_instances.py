"""Compute instances against a real API server: the reservation, the sessions on it, stop and start, idleness, and moves."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from apiserver.api import Object, eventually, stays
from apiserver.kubelet import NODE
from apiserver.lab import Lab, refusal
from apiserver.test_sizes import D2, D4, FAST, NO_DAEMONSETS, Sizes

USER = "ada@example.com"


class Instances:
    """The actions of people on instances, and checks of the result."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.sizes = Sizes(lab)

    def start(self) -> None:
        """Start the operator, and create two environments and two sizes."""
        self.sizes.create(D2, pricePerHour="0.096", sessionsPerNode=4)
        self.sizes.create(D4, pricePerHour="0.192", capacity={"cpu": "4", "memory": "16Gi"})
        self.lab.operator.start(settings=NO_DAEMONSETS, constants=FAST)
        for name in ("env", "other"):
            self.lab.create_environment(name)

    def create(self, name: str = "box", **spec: Any) -> Object:
        body = {
            "apiVersion": "flowsession.dev/v1alpha1",
            "kind": "ComputeInstance",
            "metadata": {"name": name},
            "spec": {"user": USER, "vmSize": D2, **spec},
        }
        answer: Object = self.lab.api.post(self.lab.path("computeinstances") + "?fieldValidation=Strict", body)
        return answer

    def change(self, name: str = "box", **spec: Any) -> None:
        self.lab.api.patch(self.lab.path("computeinstances", name), {"spec": spec})

    def ask_to_resume(self, value: str, name: str = "box") -> None:
        annotations = {"flowsession.dev/resume-requested-at": value}
        self.lab.api.patch(self.lab.path("computeinstances", name), {"metadata": {"annotations": annotations}})

    def session(self, name: str = "ada", *, on: str = "box", **more: Any) -> None:
        self.lab.create_session(name, **{"user": USER, **more}, compute={"type": "Instance", "instanceRef": {"name": on}})

    def status(self, name: str = "box") -> Object:
        found: Object = self.lab.api.get(self.lab.path("computeinstances", name)).get("status") or {}
        return found

    def until(self, phase: str, name: str = "box", *, seconds: float = 90) -> Object:
        def so() -> Object:
            status = self.status(name)
            pods = [
                (pod["metadata"]["name"], pod["metadata"].get("deletionTimestamp"))
                for pod in self.lab.api.get(self.lab.path("pods"))["items"]
            ]
            assert status.get("phase") == phase, f"{name}: {status}\npods: {pods}\n{self.lab.operator.last_words()[-1500:]}"
            return status

        return eventually(so, seconds=seconds)

    def anchors(self, name: str = "box") -> list[Object]:
        pods = self.lab.pods()
        return [pod for pod in pods if pod["metadata"]["ownerReferences"][0]["kind"] == "ComputeInstance" and _on(pod) == name]

    def waits(self, reason: str, session: str = "ada", *, says: str = "") -> None:
        """Wait until the session has no pod, for this reason."""
        self.lab.until_condition("ComputeAllocated", reason, session, says=says)
        self.lab.until_condition("Ready", reason, session)
        eventually(lambda: self.lab.pods(session=session) == [], what="it has no pod")


def _on(pod: Object) -> str:
    return str(pod["metadata"]["labels"].get("flowsession.dev/instance", ""))


@pytest.fixture
def instances(lab: Lab) -> Iterator[Instances]:
    found = Instances(lab)
    found.start()
    yield found
    found.sizes.remove_all()


# -- what the API server accepts


@pytest.mark.parametrize(
    ("compute", "says"),
    [
        ({"type": "Instance", "instanceRef": {"name": "box"}, "vmSize": D2}, "a session on a compute instance has the instance's size"),
        ({"type": "Instance"}, "compute.type Instance needs compute.instanceRef"),
        ({"instanceRef": {"name": "box"}}, "type Serverless has none"),
        ({"type": "Cluster"}, 'supported values: "Serverless", "Instance"'),
    ],
)
def test_a_session_on_an_instance_names_it_and_nothing_else(lab: Lab, compute: Object, says: str) -> None:
    assert says in refusal(lab.create_session, compute=compute)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"user": None}, "spec.user"),
        ({"vmSize": ""}, "spec.vmSize"),
        ({"idle": {"action": "Delete"}}, 'supported values: "Stop", "None"'),
        ({"idle": {"timeoutSeconds": 1}}, "greater than or equal to 5"),
        ({"identity": {"clientID": "x"}}, "identity.clientID are for type Managed"),
    ],
)
def test_mistakes_are_refused(lab: Lab, spec: Object, says: str) -> None:
    assert says in refusal(Instances(lab).create, **spec)


def test_user_and_size_stay_what_they_are(lab: Lab) -> None:
    instances = Instances(lab)
    made = instances.create()
    assert (made["spec"]["running"], made["spec"]["idle"]) == (True, {"action": "Stop", "timeoutSeconds": 3600})
    assert "user is immutable" in refusal(instances.change, user="bob@example.com")
    assert "create another instance for another size" in refusal(instances.change, vmSize=D4)


# -- the reservation and the sessions on it


def test_it_reserves_the_whole_node_and_sessions_run_beside_the_anchor(instances: Instances, lab: Lab) -> None:
    instances.create()
    status = instances.until("Running")
    assert status["nodeName"] == NODE
    (anchor,) = instances.anchors()
    whole = anchor["spec"]["containers"][0]["resources"]["limits"]
    assert set(whole) == {"cpu", "memory"}
    instances.session("ada")
    instances.session("ben", environment="other")
    for name in ("ada", "ben"):
        session = lab.until_ready(name)
        assert session["status"]["vmSize"] == D2
        pod = lab.the_pod(name)
        nothing = {"cpu": "0", "memory": "0", "ephemeral-storage": "0"}
        limits = {**whole, "ephemeral-storage": "20Gi"}
        assert pod["spec"]["containers"][0]["resources"] == {"requests": nothing, "limits": limits}
        assert _on(pod) == "box"
        terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert terms == [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [NODE]}]}]
    eventually(lambda: instances.status()["sessions"] == 2, what="they are counted")
    assert instances.status()["cost"]["perHour"] == "0.0960"
    assert "cost" not in lab.session("ada")["status"], "the instance pays"


def test_a_session_that_is_there_first_waits_and_starts_with_the_instance(instances: Instances, lab: Lab) -> None:
    instances.session()
    instances.waits("InstanceNotFound", says="ada@example.com has none there")
    instances.create()
    lab.until_ready()


def test_a_missing_instance_names_the_nearest_of_ones_own(instances: Instances, lab: Lab) -> None:
    instances.create("big-box")
    instances.create("bobs-box", user="bob@example.com")
    instances.session(on="big-bok")
    instances.waits("InstanceNotFound", says="name one of yours: big-box")
    assert "bobs" not in lab.condition("ComputeAllocated")["message"]


def test_another_users_instance_is_refused(instances: Instances, lab: Lab) -> None:
    instances.create()
    instances.until("Running")
    instances.session("eve", user="eve@example.com")
    instances.waits("InstanceOfAnotherUser", "eve", says="is ada@example.com's")
    lab.settle()
    assert instances.status()["sessions"] == 0


def test_start_and_sessions_cost_few_writes_and_none_while_they_sit_there(instances: Instances, lab: Lab) -> None:
    before = lab.recorder.mark()
    instances.create()
    instances.until("Running")
    instances.session()
    lab.until_ready()
    lab.settle(quiet=1.0)
    lines = lab.lines(since=before, without=("flowenvironments", "configmaps", "events"))
    assert lines.count("POST pods") == 2
    assert lines.count("PATCH computesessions/status") in (1, 2), "Ready, and before it a start of more than half a second"
    assert lines.count("PATCH computeinstances/status") <= 3, "reserved, ready, and the count"
    before = lab.recorder.mark()
    stays(lambda: lab.lines(since=before, without=("computeinstances",)) == [], seconds=2)


# -- stop and start


def test_stopped_and_started_by_its_owner(instances: Instances, lab: Lab) -> None:
    instances.create()
    instances.session()
    lab.until_ready()
    instances.change(running=False)
    instances.waits("InstanceStopped", says="set its spec.running to true")
    stopped = instances.until("Stopped")
    assert stopped["stopped"]["by"] == "User"
    assert stopped["cost"]["perHour"] == "0.0000"
    assert instances.anchors() == []
    assert lab.session()["status"]["phase"] == "Pending"
    instances.change(running=True)
    lab.until_ready()
    assert "stopped" not in instances.until("Running")


def test_the_reservation_is_held_until_the_sessions_pods_are_gone(instances: Instances, lab: Lab, agents: Callable[..., None]) -> None:
    """Otherwise a stranger's pod could be scheduled onto the node of session pods that request nothing."""
    instances.create()
    instances.session()
    lab.until_ready()
    before = lab.recorder.mark()
    instances.change(running=False)
    instances.until("Stopped")
    deleted = [request.name for request in lab.writes(since=before) if request.line == "DELETE pods"]
    assert [("anchor" in name) for name in deleted] == [False, True]


def test_an_unused_instance_stops_and_a_request_starts_it_again(instances: Instances, lab: Lab) -> None:
    instances.create(idle={"timeoutSeconds": 5})
    instances.session()
    lab.until_ready()
    instances.waits("InstanceStopped", says="resume-requested-at")
    stopped = instances.until("Stopped")
    assert stopped["stopped"]["by"] == "Idle"
    spec = lab.api.get(lab.path("computeinstances", "box"))["spec"]
    assert spec["running"] is True, "the operator never writes spec"
    assert [event["type"] for event in lab.events("box", reason="IdleSoon")] == ["Warning"]
    instances.ask_to_resume("2026-11-23T10:00:00Z")
    lab.until_ready()
    assert instances.status()["handledRequests"] == {"resume": "2026-11-23T10:00:00Z"}


def test_an_instance_without_sessions_stops_too(instances: Instances, lab: Lab) -> None:
    instances.create(idle={"timeoutSeconds": 5})
    instances.until("Running")
    assert instances.until("Stopped")["stopped"]["by"] == "Idle"
    instances.change(idle={"timeoutSeconds": 600})
    instances.until("Running")


def test_while_one_session_works_none_is_stopped_and_no_door_stays_closed(instances: Instances, lab: Lab) -> None:
    instances.create(idle={"timeoutSeconds": 5})
    instances.session("ada")
    instances.session("ben", environment="other")
    lab.until_ready("ada")
    lab.until_ready("ben")
    lab.agent("ben").busy = True
    stays(lambda: instances.status()["phase"] == "Running" and not lab.agent("ada").retired, seconds=9)
    assert len(lab.pods()) == 3
    lab.agent("ben").busy = False
    instances.until("Stopped")


def test_an_agent_that_does_not_answer_is_not_idle(instances: Instances, lab: Lab) -> None:
    instances.create(idle={"timeoutSeconds": 5})
    instances.session("ada")
    instances.session("ben", environment="other")
    lab.until_ready("ada")
    lab.until_ready("ben")
    lab.agent("ben").instead = b"nonsense"
    stays(lambda: instances.status()["phase"] == "Running" and not lab.agent("ada").retired, seconds=9)


def test_without_an_idle_action_it_runs_on(instances: Instances, lab: Lab) -> None:
    instances.create(idle={"action": "None", "timeoutSeconds": 5})
    instances.until("Running")
    stays(lambda: instances.status()["phase"] == "Running", seconds=7)


def test_a_deleted_instance_leaves_its_sessions_waiting(instances: Instances, lab: Lab) -> None:
    instances.create()
    instances.session()
    lab.until_ready()
    lab.api.delete(lab.path("computeinstances", "box"))
    instances.waits("InstanceNotFound")
    instances.create()
    lab.until_ready()


def test_a_lost_anchor_is_made_anew_and_sessions_on_its_node_go_on(instances: Instances, lab: Lab) -> None:
    instances.create()
    instances.session()
    lab.until_ready()
    session = lab.the_pod("ada")["metadata"]["uid"]
    (anchor,) = instances.anchors()
    lab.api.delete(lab.path("pods", anchor["metadata"]["name"]))

    def anew() -> bool:
        assert [pod["metadata"]["uid"] for pod in instances.anchors()] not in ([], [anchor["metadata"]["uid"]])
        return True

    eventually(anew)
    instances.until("Running")
    lab.settle()
    assert lab.the_pod("ada")["metadata"]["uid"] == session


# -- sizes and quota


def test_an_unknown_size_is_told_and_heals(instances: Instances, lab: Lab) -> None:
    instances.create(vmSize="Standard_D8s_v5")
    lab.until_condition("Ready", "SizeNotFound", "box", plural="computeinstances", says="there is no VMSize")
    instances.session()
    instances.waits("InstanceStarting", says="there is no VMSize for 'Standard_D8s_v5'")
    instances.sizes.create("Standard_D8s_v5", capacity={"cpu": "8", "memory": "32Gi"})
    lab.until_ready()


def test_a_full_quota_is_told_and_heals(instances: Instances, lab: Lab) -> None:
    instances.sizes.quota(requests__cpu="1")
    instances.create()
    lab.until_condition("Ready", "QuotaExceeded", "box", plural="computeinstances", says="1 of 1 requests.cpu left, an instance needs")
    lab.settle()
    before = lab.recorder.mark()  # one attempt may have happened before the watch delivered the quota
    instances.change(idle={"timeoutSeconds": 4000})
    eventually(lambda: instances.status()["observedGeneration"] == 2, what="it was decided again")
    assert "POST pods" not in lab.lines(since=before)
    instances.sizes.change_quota(requests__cpu="4")
    instances.until("Running")


# -- moves


def test_a_live_session_moves_to_an_instance_and_back(instances: Instances, lab: Lab) -> None:
    instances.create()
    instances.until("Running")
    lab.create_session(user=USER, compute={"vmSize": D2})
    lab.until_ready()
    assert lab.session()["status"]["cost"]["perHour"] == "0.0240"
    lab.change_session(compute={"type": "Instance", "vmSize": None, "instanceRef": {"name": "box"}})
    eventually(lambda: [_on(pod) for pod in lab.pods(session="ada")] == ["box"], what="it is on the instance")
    lab.until_ready()
    lab.until_event("ComputeChanged")
    eventually(lambda: lab.session()["status"]["cost"]["perHour"] == "0.0000", what="the instance pays")
    lab.change_session(compute={"type": "Serverless", "vmSize": D4, "instanceRef": None})
    eventually(lambda: [_on(pod) for pod in lab.pods(session="ada")] == [""], what="it is by itself")
    eventually(lambda: lab.session()["status"]["vmSize"] == D4, what="it has the size")


def test_an_instance_that_can_not_be_had_keeps_the_session_where_it_is(instances: Instances, lab: Lab) -> None:
    lab.create_session(user=USER, compute={"vmSize": D2})
    lab.until_ready()
    pod = lab.the_pod()["metadata"]["uid"]
    lab.change_session(compute={"type": "Instance", "vmSize": None, "instanceRef": {"name": "box"}})
    lab.until_condition("ComputeAllocated", "InstanceNotFound", says="until then the session goes on with Standard_D2s_v5")
    assert (lab.the_pod()["metadata"]["uid"], lab.condition("Ready")["status"]) == (pod, "True")
    lab.change_session(compute={"type": "Serverless", "vmSize": D2, "instanceRef": None})
    lab.until_condition("ComputeAllocated", "Allocated")
    assert lab.the_pod()["metadata"]["uid"] == pod
