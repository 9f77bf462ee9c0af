"""What a size means for the pod, for a session that changes its size, and for autoscalers."""

from dataclasses import replace

import pytest

from flowsession.api.environment import MinimumCompute
from flowsession.manifests import placement
from flowsession.manifests.session_pod import user_label
from flowsession.model.plan import Delete, ReadEvents
from flowsession.model.views import ScalingView
from flowsession.reconcile import scheduling as scaling
from flowsession.reconcile.scheduling import read
from unit.builders import (
    NAMESPACE,
    NOW,
    POD,
    condition,
    decide,
    pending_pod,
    pod,
    session_snapshot,
    session_spec,
    settled_snapshot,
    stamp,
    status_after,
    verdict,
)
from unit.reconcile.session.test_idle import ready, says
from unit.sizing import D2, D4, offer
from unit.sizing import pool as nodes
from unit.world import World

AUTOSCALER_ANNOTATIONS = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
USER = user_label("alice@example.com")


def created(**fields):
    """The pod of a fresh session."""
    return decide(session_snapshot(**fields)).creates[-1].manifest


# -- the pod


def test_a_pod_of_a_size():
    size = offer(
        D2,
        nodes({"pool": "a"}),
        nodeSelector={"pool": "a"},
        tolerations=[{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
        priorityClassName="flowsession-standard-d2s-v5",
        sessionsPerNode=2,
    )
    manifest = created(offers=(size,))
    spec = manifest["spec"]
    assert manifest["metadata"]["labels"]["flowsession.dev/vm-size"] == D2
    assert spec["nodeSelector"] == {"pool": "a"}
    assert spec["tolerations"] == [{"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}]
    assert spec["priorityClassName"] == "flowsession-standard-d2s-v5"
    assert spec["containers"][0]["resources"] == {
        "requests": {"cpu": "950m", "memory": "3Gi", "ephemeral-storage": "0"},
        "limits": {"cpu": "1900m", "memory": "6Gi", "ephemeral-storage": "20Gi"},
    }
    assert "affinity" not in spec


def test_isolation_keeps_other_users_away_and_ones_own_together_in_every_namespace():
    affinity = created(offers=(offer(D2, userIsolation="Node"),))["spec"]["affinity"]
    (apart,) = affinity["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart == {
        "labelSelector": {"matchExpressions": [{"key": "flowsession.dev/user", "operator": "Exists"}]},
        "mismatchLabelKeys": ["flowsession.dev/user"],
        "namespaceSelector": {},
        "topologyKey": "kubernetes.io/hostname",
    }
    (together,) = affinity["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert together["podAffinityTerm"]["labelSelector"] == {"matchLabels": {"flowsession.dev/user": USER}}
    assert together["podAffinityTerm"]["namespaceSelector"] == {}


def test_every_pod_is_marked_for_the_autoscalers_unless_its_owner_says_otherwise():
    assert created()["metadata"]["annotations"].items() >= AUTOSCALER_ANNOTATIONS.items()
    spec = session_spec(podMetadata={"annotations": {"karpenter.sh/do-not-disrupt": "false"}})
    assert created(spec=spec)["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "false"


def test_the_size_that_was_chosen_stays_for_the_life_of_the_pod():
    """A better size, no size at all or another selector does not restart a session."""
    for offers in ((), (offer(D4, nodes()),), (offer(D2, nodeSelector={"pool": "elsewhere"}),)):
        snapshot = settled_snapshot(pods=(pod(vm_size=D2),), offers=offers)
        status = status_after(snapshot)
        assert status["vmSize"] == D2
        assert verdict(status, "Ready") == ("True", "Running")
        assert not decide(replace(snapshot, status=status)).writes


def test_without_sizes_the_environments_minimum_raises_the_charts_defaults():
    disk = {"ephemeral-storage": "0"}, {"ephemeral-storage": "20Gi"}
    resources = created(minimum_compute=MinimumCompute(cpu="2", memory="4Gi"))["spec"]["containers"][0]["resources"]
    assert resources == {"requests": {"cpu": "2", "memory": "4Gi"} | disk[0], "limits": {"memory": "4Gi"} | disk[1]}
    resources = created(minimum_compute=MinimumCompute(cpu="50m", memory="1Gi"))["spec"]["containers"][0]["resources"]
    assert resources == {"requests": {"cpu": "100m", "memory": "1Gi"} | disk[0], "limits": {"memory": "2Gi"} | disk[1]}


# -- another size


def test_another_size_in_the_spec_restarts_the_session_there():
    snapshot = settled_snapshot(
        pods=(pod(vm_size=D2),), offers=(offer(D2), offer(D4)), spec=session_spec(compute={"vmSize": D4}), generation=2
    )
    plan = decide(snapshot)
    assert plan.deletes == (Delete("Pod", NAMESPACE, POD, "pod-1"),)
    assert [(event.reason, event.warning) for event in plan.events] == [("ComputeChanged", False)]
    assert "moving from Standard_D2s_v5 to Standard_D4s_v5" in plan.events[0].message
    status = status_after(snapshot)
    assert status["incarnation"] == 2
    then = decide(replace(snapshot, pods=(), status=status))
    assert then.creates[-1].manifest["metadata"]["labels"]["flowsession.dev/vm-size"] == D4


@pytest.mark.parametrize("name", [D2, "standard-d2s-v5", ""])
def test_a_spec_that_the_pod_fits_moves_nothing(name):
    snapshot = settled_snapshot(pods=(pod(vm_size=D2),), offers=(offer(D2), offer(D4)), spec=session_spec(compute={"vmSize": name}))
    assert not decide(snapshot).deletes


def test_a_size_that_is_not_there_is_waited_for_on_the_present_one():
    spec = session_spec(compute={"vmSize": "Standard_D3s_v5"})
    snapshot = settled_snapshot(pods=(pod(vm_size=D2),), offers=(offer(D2), offer(D4)), spec=spec, generation=2)
    plan, status = decide(snapshot), status_after(snapshot)
    assert not plan.deletes
    assert verdict(status, "Ready") == ("True", "Running")
    assert verdict(status, "ComputeAllocated") == ("False", "SizeNotFound")
    said = condition(status, "ComputeAllocated")["message"]
    assert D2 in said
    assert "until then the session goes on with Standard_D2s_v5" in said
    assert not decide(replace(snapshot, status=status)).events, "told once"
    came = replace(snapshot, status=status, offers=(offer(D2), offer("Standard_D3s_v5")))
    assert decide(came).deletes


def pending(size, **fields):
    """A pod of that size that no node takes."""
    terms = placement.terms(size)
    return pending_pod(node="", container=None, unscheduled_message="0/3 nodes", vm_size=size.spec.azure_name, size_terms=terms, **fields)


WRONG, MENDED = offer(D2, nodeSelector={"pool": "x"}), offer(D2, nodeSelector={"pool": "a"})


@pytest.mark.parametrize(
    ("now", "replaced"),
    [
        ((WRONG,), False),
        ((MENDED,), True),
        ((offer(D2, nodes({"pool": "x"}, cpu="900m", memory="1Gi"), nodeSelector={"pool": "x"}),), True),
        ((offer(D2, nodeSelector={"pool": "x"}, pricePerHour="9", autoSelect=False),), False),
        ((offer(D4),), True),
        ((), False),
    ],
    ids=["as before", "selector mended", "its nodes give less", "price", "size gone", "all sizes gone"],
)
def test_a_pod_that_no_node_takes_is_replaced_when_its_size_has_changed(now, replaced):
    snapshot = session_snapshot(pending(WRONG), offers=now)
    assert bool(decide(snapshot).deletes) is replaced
    assert not decide(replace(snapshot, pods=(replace(snapshot.pods[0], node="worker-1"),))).deletes, "one that a node took is left alone"


def test_a_named_size_that_has_gone_leaves_the_waiting_pod():
    assert not decide(session_snapshot(pending(WRONG), offers=(offer(D4),), spec=session_spec(compute={"vmSize": D2}))).deletes


# -- while it waits for a node


def waiting(scaling=None, **fields):
    return session_snapshot(
        pending_pod(node="", unscheduled_message="0/3 nodes: Insufficient cpu", container=None), scaling=scaling, **fields
    )


@pytest.mark.parametrize(
    ("seen", "reason", "says"),
    [
        (None, "Unschedulable", "no node has room for the session: 0/3 nodes: Insufficient cpu"),
        (ScalingView(NOW), "Unschedulable", "Insufficient cpu"),
        (ScalingView(NOW, "TriggeredScaleUp", "pod triggered scale-up: [{d2 0->1 (max: 5)}]"), "ScalingUp", "[{d2 0->1 (max: 5)}]"),
        (ScalingView(NOW, "Nominated", "Pod should schedule on: nodeclaim/d2-x"), "ScalingUp", "nodeclaim/d2-x"),
        (
            ScalingView(NOW, "NotTriggerScaleUp", "2 max node group size reached"),
            "Unschedulable",
            "adds none: 2 max node group size reached",
        ),
    ],
)
def test_the_status_carries_the_schedulers_and_the_autoscalers_words(seen, reason, says):
    status = status_after(waiting(seen))
    assert verdict(status, "ComputeAllocated") == ("False", reason)
    assert verdict(status, "Ready") == ("False", reason)
    assert says in condition(status, "ComputeAllocated")["message"]


def test_events_are_read_at_once_and_then_ever_more_rarely():
    assert decide(waiting()).read_events == ReadEvents(NAMESPACE, POD, "pod-1")
    plan = decide(waiting(ScalingView(NOW - 9)))
    assert plan.read_events is None
    assert plan.look_again_at == NOW + 1
    assert decide(waiting(ScalingView(NOW - 10))).read_events is not None
    old = replace(waiting(ScalingView(NOW - 59)).pods[0], created_at=NOW - 500)
    assert decide(replace(waiting(ScalingView(NOW - 59)), pods=(old,))).read_events is None
    assert decide(replace(waiting(ScalingView(NOW - 60)), pods=(old,))).read_events is not None


def event(reason, at, who, message=""):
    return {"reason": reason, "lastTimestamp": stamp(NOW + at), "source": {"component": who}, "message": message or reason}


def test_the_last_word_of_an_autoscaler_counts():
    heard = [
        event("TriggeredScaleUp", 5, "cluster-autoscaler"),
        event("NotTriggerScaleUp", 30, "cluster-autoscaler"),
        event("FailedScheduling", 60, "default-scheduler"),
        event("Pulled", 70, "kubelet"),
    ]
    assert read(heard, NOW).reason == "NotTriggerScaleUp"
    assert read(heard[:1], NOW).reason == "TriggeredScaleUp"
    assert read(heard[2:], NOW) == ScalingView(NOW)
    karpenter = {
        "reason": "FailedScheduling",
        "eventTime": stamp(NOW + 90),
        "reportingComponent": "karpenter",
        "message": "no instance type",
    }
    assert read([*heard, karpenter], NOW) == ScalingView(NOW, "FailedScheduling", "no instance type")
    assert scaling.SHORTEST_PAUSE == 10.0


# -- annotations for autoscalers


def test_the_annotations_for_autoscalers_go_with_the_warning_of_the_idle_end_and_come_back_when_it_is_put_off():
    world = World(environment={"requirementsText": ""}, idle={"timeoutSeconds": 1000})
    world.settle(until_ready=True)
    annotations = lambda: {name for name in world.api.pods[0]["metadata"]["annotations"] if name in AUTOSCALER_ANNOTATIONS}  # noqa: E731
    assert annotations() == set(AUTOSCALER_ANNOTATIONS)
    world.live(950, step=50.0)
    assert annotations() == set()
    world.ask("keepAlive")
    world.live(60, step=20.0)
    assert annotations() == set(AUTOSCALER_ANNOTATIONS)
    assert world.writes().count("PATCH Pod") == 2


def test_a_session_that_ends_soon_after_the_warning_costs_no_write_for_marks():
    world = World(environment={"requirementsText": ""}, idle={"timeoutSeconds": 60})
    world.settle(until_ready=True)
    world.live(70)
    assert world.api.session_deleted_at is not None
    assert "PATCH Pod" not in world.writes()


def test_marks_that_somebody_else_set_are_left_alone():
    snapshot = ready(950.0, says(0.0), timeout=1000)
    soon = replace(snapshot, pods=(replace(snapshot.pods[0], protected=None),))
    assert decide(soon).annotate is None


def test_a_node_on_its_way_is_no_warning():
    plan = decide(waiting(ScalingView(NOW, "TriggeredScaleUp", "pod triggered scale-up")))
    assert plan.events == ()
