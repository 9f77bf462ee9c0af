"""Sessions whose flow folder is on a claim and used in place: what their pods mount, and which changes need a reset."""

from dataclasses import replace

from flowsession.manifests import session_pod as pods
from flowsession.model.plan import Deliver
from flowsession.model.resolved import Claim
from flowsession.reconcile.session.start import pod_of
from unit.builders import agent, condition, decide, pod, resolved, session_snapshot, settled_snapshot, status_after

CLAIM = Claim("flows", "team", "chat")
OF_CLAIM = replace(resolved(), claim=CLAIM)


def manifest(claim: Claim) -> dict:
    environment = replace(resolved(), claim=claim)
    return pods.manifest(pod_of(session_snapshot(environment=environment), environment, 1))


def test_the_pod_mounts_the_source_and_knows_the_flow_folder():
    made = manifest(CLAIM)
    (container,) = made["spec"]["containers"]
    assert {"name": "source", "persistentVolumeClaim": {"claimName": "flows"}} in made["spec"]["volumes"]
    assert {"name": "source", "mountPath": "/source", "subPath": "team"} in container["volumeMounts"]
    assert {"name": "FLOWSESSION_FLOW", "value": "/source/chat"} in container["env"]
    assert made["spec"]["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
    assert made["metadata"]["annotations"]["flowsession.dev/claim"] == pods.claim_of(CLAIM)


def test_a_whole_claim_is_mounted_whole():
    (container,) = manifest(Claim("flows", ".", "."))["spec"]["containers"]
    assert {"name": "source", "mountPath": "/source"} in container["volumeMounts"]
    assert {"name": "FLOWSESSION_FLOW", "value": "/source"} in container["env"]


def test_without_a_claim_nothing_of_it_is_there():
    made = pods.manifest(pod_of(session_snapshot(), resolved(), 1))
    assert "flowsession.dev/claim" not in made["metadata"]["annotations"]
    assert "fsGroupChangePolicy" not in made["spec"]["securityContext"]


def test_the_agent_is_pushed_no_files():
    plan = decide(session_snapshot(pod(claim=pods.claim_of(CLAIM)), environment=OF_CLAIM))
    assert isinstance(plan.call, Deliver)
    assert plan.call.body["files"] is None


def test_a_running_session_does_not_move_to_another_claim_by_itself():
    for mine, wanted in (("", OF_CLAIM), (pods.claim_of(CLAIM), resolved()), (pods.claim_of(Claim("flows", ".", "chat")), OF_CLAIM)):
        running = pod(claim=mine)
        snapshot = settled_snapshot(environment=wanted, pods=(running,), agent=agent(environment=wanted))
        found = condition(status_after(snapshot), "InSync")
        assert (found["status"], found["reason"]) == ("False", "FlowChanged"), mine
        assert "reset-requested-at" in found["message"]
        assert not isinstance(decide(snapshot).call, Deliver)


def test_a_session_on_its_claim_is_in_sync():
    snapshot = settled_snapshot(environment=OF_CLAIM, pods=(pod(claim=pods.claim_of(CLAIM)),), agent=agent(environment=OF_CLAIM))
    assert condition(status_after(snapshot), "InSync")["status"] == "True"
