"""Edits while the operator is missing: killed at any write of a save, or not running when a session is deleted."""

from apiserver.api import Object, eventually
from apiserver.kubelet import now
from apiserver.lab import Lab

OFTEN = {"flowsession.reconcile.session.saving:SAVE_SECONDS": 0.2}
FORCE_AFTER = "flowsession.reconcile.restarts:FORCE_AFTER"


def editing(lab: Lab) -> str:
    """Create a session with edits that no operator has requested, and return its pod's name."""
    lab.operator.go_on()
    lab.environment_of_flow()
    lab.create_session()
    lab.until_ready()
    lab.agent().edit("one")
    lab.settle(quiet=0.3)
    return str(lab.the_pod()["metadata"]["name"])


def saved(lab: Lab) -> list[Object]:
    return [cm for cm in lab.api.get(lab.path("configmaps"))["items"] if "-edits-" in cm["metadata"]["name"]]


def delete_unseen(lab: Lab, pod: str) -> None:
    """Delete the session while no operator runs. Then delete its pod, as the garbage collector does. It stays for its grace period."""
    lab.operator.kill()
    lab.kubelet.lingers = True
    lab.api.delete(lab.path("computesessions", "ada"))
    eventually(lab.gone)
    lab.api.delete(lab.path("pods", pod))


def test_a_session_that_was_deleted_while_no_operator_ran_has_its_edits_saved(lab: Lab) -> None:
    pod = editing(lab)
    assert saved(lab) == []
    delete_unseen(lab, pod)
    lab.operator.start()
    eventually(lambda: len(saved(lab)) == 1, what="its edits are saved")
    lab.until_event("EditsSaved", "env")
    lab.kubelet.release()
    lab.create_session()
    lab.until_ready()
    assert (lab.agent().edits, lab.agent().restored) == ("one", True)


def test_a_pod_that_only_says_whose_it_is_is_not_asked(lab: Lab) -> None:
    """Otherwise anybody who may create pods would decide what another user's next session starts with."""
    pod = editing(lab)
    lab.operator.kill()
    seal = lab.the_pod()["metadata"]["annotations"]["flowsession.dev/provenance"]
    lab.api.patch(lab.path("pods", pod), {"metadata": {"annotations": {"flowsession.dev/provenance": seal[:-8] + "AAAAAAA="}}})
    agent = lab.agent()
    asked = len(agent.calls)
    delete_unseen(lab, pod)
    lab.operator.start()
    lab.create_session("bob")
    lab.until_ready("bob")  # the operator works, and has had time to call the agent that it should not
    assert agent.calls[asked:] == []
    assert saved(lab) == []


def test_edits_saved_before_a_node_died_come_back_and_people_are_told_of_when_they_are(lab: Lab) -> None:
    lab.operator.start(constants=OFTEN | {"flowsession.reconcile.restarts:SETTLED_SECONDS": 0.0, FORCE_AFTER: 1.0})
    lab.environment_of_flow()
    lab.create_session()
    lab.until_ready()
    agent, pod = lab.agent(), lab.the_pod()

    def is_saved() -> bool:
        agent.send("waiting")
        return bool((lab.session()["status"].get("edits") or {}).get("revision") == "in time")

    agent.edit("in time")
    eventually(is_saved, what="the edits are saved")
    agent.edit("too late")
    agent.silent = True
    lab.kubelet.lingers = True  # nothing can confirm that the pod has ended
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "lastTransitionTime": now()}
    lab.kubelet.set_status(pod, {"conditions": [*pod["status"]["conditions"], condition]})
    lab.api.delete(lab.path("pods", pod["metadata"]["name"]), {"gracePeriodSeconds": 1})
    eventually(lambda: [p["metadata"]["uid"] for p in lab.pods()] not in ([], [pod["metadata"]["uid"]]), what="there is another pod")
    lab.until_ready()
    assert (lab.agent().edits, lab.agent().restored) == ("in time", True)
    told = [event["message"] for event in lab.events(reason="EditsNotSaved")]
    assert any("comes back as it was saved at" in message or "when it was saved last" in message for message in told), told
    assert lab.events(reason="NodeLost")
