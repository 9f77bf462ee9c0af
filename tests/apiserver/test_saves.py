"""Edits when the operator is not there as it should be: killed at any write of a save, or away while a session is deleted."""

from apiserver.api import Object, eventually
from apiserver.lab import Lab


def editing(lab: Lab) -> str:
    """The name of the pod of a session that has edits which no operator has asked for."""
    lab.operator.go_on()
    lab.environment_of_flow()
    lab.create_session()
    lab.until_ready()
    lab.agent().edits = "one"
    lab.settle(quiet=0.3)
    return str(lab.the_pod()["metadata"]["name"])


def saved(lab: Lab) -> list[Object]:
    return [cm for cm in lab.api.get(lab.path("configmaps"))["items"] if "-edits-" in cm["metadata"]["name"]]


def delete_unseen(lab: Lab, pod: str) -> None:
    """Deletes the session while no operator runs; the pod follows it, as the garbage collector has it, and stays for its grace period."""
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
    lab.until_told("EditsSaved", "env")
    lab.kubelet.release()
    lab.create_session()
    lab.until_ready()
    assert (lab.agent().edits, lab.agent().restored) == ("one", True)


def test_a_pod_that_only_says_whose_it_is_is_not_asked(lab: Lab) -> None:
    """Whoever may create pods would else decide what somebody's next session starts with."""
    pod = editing(lab)
    lab.operator.kill()
    seal = lab.the_pod()["metadata"]["annotations"]["flowsession.dev/provenance"]
    lab.api.patch(lab.path("pods", pod), {"metadata": {"annotations": {"flowsession.dev/provenance": seal[:-8] + "AAAAAAA="}}})
    agent = lab.agent()
    asked = len(agent.calls)
    delete_unseen(lab, pod)
    lab.operator.start()
    lab.create_session("bob")
    lab.until_ready("bob")  # it works, and has had the time to ask whom it should not
    assert agent.calls[asked:] == []
    assert saved(lab) == []
