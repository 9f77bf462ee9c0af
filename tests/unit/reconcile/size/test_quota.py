"""What quotas leave, counted as the API server's admission does."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsession.model.sizes import PodCost
from flowsession.reconcile.size.quota import counts, lacks
from unit.sizing import D2, amounts, offer, pool, view

POD = PodCost(amounts(cpu="500m", memory="1Gi"), amounts(cpu="2", memory="6Gi"), "flowsession-standard-d2s-v5")


def lacking(*quotas, pod=POD):
    return [(lack.quota, lack.resource) for lack in lacks(quotas, pod)]


@pytest.mark.parametrize(
    ("resource", "just_enough", "too_little"),
    [
        ("requests.cpu", "500m", "499m"),
        ("cpu", "500m", "0"),
        ("requests.memory", "1Gi", "1023Mi"),
        ("memory", "1Gi", "1"),
        ("limits.cpu", "2", "1999m"),
        ("limits.memory", "6Gi", "6143Mi"),
        ("pods", "1", "0"),
        ("count/pods", "1", "0"),
    ],
)
def test_each_resource_that_a_quota_can_count(resource, just_enough, too_little):
    name = resource.replace(".", "__").replace("/", "___")
    assert lacking(view(**{name: just_enough})) == []
    assert lacking(view(**{name: too_little})) == [("team", resource)]
    assert lacking(view(**{name: "100Gi"}, used={resource: "100Gi"})) == [("team", resource)]


@pytest.mark.parametrize(
    "resource", ["count/configmaps", "services", "requests.storage", "persistentvolumeclaims", "requests.nvidia.com/gpu"]
)
def test_what_a_session_does_not_use_keeps_nobody_out(resource):
    assert lacking(view(**{resource.replace(".", "__").replace("/", "___"): "0"})) == []


def test_gpus_are_counted_by_their_requests():
    gpu = PodCost(amounts(cpu="1") | {"nvidia.com/gpu": Fraction(2)}, {})
    assert lacking(view(requests__nvidia__com___gpu="4", used={"requests.nvidia.com/gpu": "3"}), pod=gpu) == [
        ("team", "requests.nvidia.com/gpu")
    ]


def test_a_lack_is_told_in_a_sentence():
    (lack,) = lacks((view(requests__cpu="4", used={"requests.cpu": "3900m"}),), POD)
    assert str(lack) == "quota 'team' has 100m of 4 requests.cpu left, a session needs 500m"


OURS, OTHER = "flowsession-standard-d2s-v5", "critical"


@pytest.mark.parametrize(
    ("scopes", "expressions", "counted"),
    [
        ((), (), True),
        (("NotTerminating",), (), True),
        (("Terminating",), (), False),
        (("NotBestEffort",), (), True),
        (("BestEffort",), (), False),
        (("NotTerminating", "BestEffort"), (), False),
        (("PriorityClass",), (), True),
        (("CrossNamespacePodAffinity",), (), False),
        (("SomethingNew",), (), False),
        ((), [("PriorityClass", "In", [OURS])], True),
        ((), [("PriorityClass", "In", [OTHER])], False),
        ((), [("PriorityClass", "NotIn", [OTHER])], True),
        ((), [("PriorityClass", "NotIn", [OURS, OTHER])], False),
        ((), [("PriorityClass", "Exists", [])], True),
        ((), [("PriorityClass", "DoesNotExist", [])], False),
        ((), [("PriorityClass", "In", [OURS]), ("BestEffort", "Exists", [])], False),
        ((), [("VolumeAttributesClass", "Exists", [])], False),
    ],
)
def test_every_scope_there_is(scopes, expressions, counted):
    terms = [{"scopeName": name, "operator": operator, "values": values} for name, operator, values in expressions]
    assert lacking(view(pods="0", scopes=scopes, expressions=terms)) == ([("team", "pods")] if counted else [])


@pytest.mark.parametrize(("operator", "counted"), [("In", False), ("NotIn", True), ("Exists", False), ("DoesNotExist", True)])
def test_a_pod_without_a_class_is_outside_of_every_class(operator, counted):
    terms = [{"scopeName": "PriorityClass", "operator": operator, "values": [OURS]}]
    pod = PodCost(POD.requests, POD.limits)
    assert counts(view(pods="0", expressions=terms), pod) is counted


def test_isolation_looks_into_other_namespaces_and_a_quota_can_forbid_that():
    forbidding = view(pods="0", scopes=["CrossNamespacePodAffinity"])
    assert lacking(forbidding, pod=offer(D2, pool(), userIsolation="Node").cost) == [("team", "pods")]
    assert lacking(forbidding, pod=offer(D2, pool()).cost) == []


def test_a_quota_that_was_not_counted_yet_has_nothing_used():
    fresh = view(pods="1")
    assert lacking(fresh) == []
    assert fresh.scopes == ()


RESOURCES = ["requests.cpu", "limits.memory", "pods", "count/pods", "memory"]


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(RESOURCES), st.tuples(st.integers(0, 10**10), st.integers(0, 10**10)), min_size=1),
            st.booleans(),
        ),
        max_size=4,
    ),
    st.integers(1, 10**10),
    st.integers(1, 10**10),
)
def test_an_admission_that_adds_up_agrees(quotas, request, limit):
    """Oracle: add the pod to what is used and compare, as the admission plugin does."""
    pod = PodCost({"cpu": Fraction(request), "memory": Fraction(request)}, {"cpu": Fraction(limit), "memory": Fraction(limit)}, OURS)
    uses = {"requests.cpu": request, "limits.memory": limit, "pods": 1, "count/pods": 1, "memory": request}
    views, admitted = [], True
    for number, (entries, ours) in enumerate(quotas):
        terms = [{"scopeName": "PriorityClass", "operator": "In", "values": [OURS if ours else OTHER]}]
        hard = {name.replace(".", "__").replace("/", "___"): str(hard) for name, (hard, _) in entries.items()}
        views.append(view(f"q{number}", used={name: str(used) for name, (_, used) in entries.items()}, expressions=terms, **hard))
        admitted &= not ours or all(used + uses[name] <= hard for name, (hard, used) in entries.items())
    assert (lacks(tuple(views), pod) == []) is admitted
