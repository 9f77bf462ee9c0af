"""VM sizes on two real node pools: placement, shares, isolation, quota, the move to another size."""

from collections.abc import Iterator

import pytest

from .conftest import LABELS, Cluster, Object, environment, flow_run, session

pytestmark = pytest.mark.whole_cluster

SMALL, LARGE = "Standard_D2s_v5", "Standard_D4s_v5"


def size(azure_name: str, *, price: str, **spec: object) -> Object:
    name = azure_name.lower().replace("_", "-")
    return {
        "apiVersion": "flowsession.dev/v1alpha1",
        "kind": "VMSize",
        "metadata": {"name": name, "labels": LABELS},
        "spec": {
            "azureName": azure_name,
            "capacity": {"cpu": "2", "memory": "8Gi"},
            "nodeSelector": {"node.kubernetes.io/instance-type": azure_name},
            "priorityClassName": f"e2e-{name}",
            "pricePerHour": price,
            "sessionsPerNode": 4,
            **spec,
        },
    }


def priority_class(azure_name: str) -> Object:
    name = f"e2e-{azure_name.lower().replace('_', '-')}"
    return {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name, "labels": LABELS}, "value": 0}


@pytest.fixture
def sized(cluster: Cluster) -> Iterator[Cluster]:
    """Create two sizes, each with a pool of one node and one user per node, once no other sessions are left."""
    cluster.until_nodes_are_free()
    sizes = [size(SMALL, price="0.096", userIsolation="Node"), size(LARGE, price="0.192", userIsolation="Node")]
    cluster.apply(priority_class(SMALL), priority_class(LARGE), *sizes)
    cluster.until(
        "both have nodes",
        lambda: all((cluster.get("vmsize", s["metadata"]["name"]) or {}).get("status", {}).get("nodes") == 1 for s in sizes),
        100,
    )
    yield cluster
    cluster.kubectl("delete", "vmsizes", *(s["metadata"]["name"] for s in sizes))
    cluster.kubectl("delete", "priorityclasses", *(s["spec"]["priorityClassName"] for s in sizes))


def pool_of(cluster: Cluster, name: str) -> str:
    node = cluster.get("node", cluster.status(name)["nodeName"])
    assert node
    return str(node["metadata"]["labels"]["node.kubernetes.io/instance-type"])


def test_a_named_size_and_the_cheapest_one(sized: Cluster) -> None:
    sized.apply(environment(), session("named", compute={"vmSize": LARGE}), session("any", user="bob@example.com"))
    assert sized.until_ready("named")["vmSize"] == LARGE
    assert sized.until_ready("any")["vmSize"] == SMALL, "the cheapest with room"
    assert (pool_of(sized, "named"), pool_of(sized, "any")) == (LARGE, SMALL)
    pod = sized.get("pod", sized.status("named")["podName"])
    assert pod
    resources = pod["spec"]["containers"][0]["resources"]
    node = sized.get("node", sized.status("named")["nodeName"])
    assert node
    cpu, whole = resources["requests"]["cpu"], node["status"]["allocatable"]["cpu"]
    assert 0 < int(cpu.removesuffix("m")) * 4 <= int(whole) * 1000, "a share of the node"
    assert pod["spec"]["priorityClassName"] == f"e2e-{LARGE.lower().replace('_', '-')}"
    assert LARGE in sized.kubectl("get", "csess", "named")


def test_one_user_to_a_node_across_namespaces(sized: Cluster, deployed: Cluster) -> None:
    sized.apply(environment(), session("alices", compute={"vmSize": SMALL}))
    node = sized.until_ready("alices")["nodeName"]
    other = deployed.within(f"{sized.namespace}-b")
    other.create_namespace()
    try:
        other.apply(environment(), session("bobs", user="bob@example.com", compute={"vmSize": SMALL}))
        waiting = other.until_condition("bobs", "ComputeAllocated", status="False", reason="Unschedulable")
        assert "anti-affinity" in waiting["message"], "the scheduler's own words"
        other.apply(session("alices-too", compute={"vmSize": SMALL}))
        assert other.until_ready("alices-too")["nodeName"] == node, "the same user's sessions share the node"
        sized.kubectl("delete", "csess", "alices")
        other.kubectl("delete", "csess", "alices-too")
        assert other.until_ready("bobs")["nodeName"] == node
    finally:
        deployed.kubectl("delete", "namespace", other.namespace, "--wait=false")


def test_another_size_moves_the_session_with_its_edits(sized: Cluster) -> None:
    folder = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "flow", "labels": {"flowsession.dev/source": "true"}},
        "data": {"flow.dag.yaml": "inputs: {}\noutputs: {}\nnodes: []\n"},
    }
    of_folder = environment(source={"configMap": {"name": "flow"}}, requirementsText="")
    sized.apply(folder, of_folder, session(compute={"vmSize": SMALL}))
    before = sized.until_ready("s")
    sized.exec(before["podName"], "sh", "-c", "echo mine > /session/flow/own.txt")
    sized.patch("csess", "s", {"spec": {"compute": {"vmSize": LARGE}}})
    sized.until("it runs on the other size", lambda: (s := sized.status("s")).get("phase") == "Running" and s.get("vmSize") == LARGE)
    after = sized.status("s")
    assert pool_of(sized, "s") == LARGE
    assert sized.exec(after["podName"], "cat", "/session/flow/own.txt").strip() == "mine"
    sized.until_event("s", "ComputeChanged")


def test_a_used_up_quota_leaves_the_next_size_or_says_what_lacks(sized: Cluster) -> None:
    scope = {"scopeName": "PriorityClass", "operator": "In", "values": [f"e2e-{SMALL.lower().replace('_', '-')}"]}
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"pods": "0"}, "scopeSelector": {"matchExpressions": [scope]}},
    }
    sized.apply(quota, environment(), session("any"))
    assert sized.until_ready("any")["vmSize"] == LARGE
    sized.apply(session("named", user="bob@example.com", compute={"vmSize": SMALL}))
    refused = sized.until_condition("named", "ComputeAllocated", status="False", reason="QuotaExceeded")
    assert SMALL in refused["message"]
    sized.patch("resourcequota", "small", {"spec": {"hard": {"pods": "1"}}})
    sized.until_ready("named", 60)


def test_an_unknown_size_is_told_with_the_nearest(sized: Cluster) -> None:
    sized.apply(environment(), session(compute={"vmSize": "Standard_D2s_v55"}))
    unknown = sized.until_condition("s", "ComputeAllocated", status="False", reason="SizeNotFound")
    assert SMALL in unknown["message"]
    sized.patch("csess", "s", {"spec": {"compute": {"vmSize": SMALL}}})
    sized.until_ready("s")


def test_a_run_and_its_evaluation_on_the_bigger_size(sized: Cluster) -> None:
    nodes = (
        'nodes:\n- {name: shout, type: python, source: {type: code, path: shout.py}, inputs: {text: "${inputs.text}"}}\n'
        '- {name: count, type: python, aggregation: true, source: {type: code, path: count.py}, inputs: {all: "${shout.output}"}}\n'
    )
    dag = 'inputs: {text: {type: string}}\noutputs: {answer: {type: string, reference: "${shout.output}"}}\n' + nodes
    tool = "from promptflow.core import log_metric, tool\n\n@tool\n"
    files = {
        "flow.dag.yaml": dag,
        "shout.py": f"{tool}def run(text: str) -> str:\n    return text.upper()\n",
        "count.py": f"{tool}def run(all: list) -> int:\n    log_metric('upper', sum(one.isupper() for one in all))\n    return len(all)\n",
        "data.jsonl": '{"text": "a"}\n{"text": "b"}\n',
    }
    labels = {"flowsession.dev/source": "true"}
    folder = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "flow", "labels": labels}, "data": files}

    sized.apply(
        folder,
        environment(source={"configMap": {"name": "flow"}}),
        flow_run("answers", data={"path": "data.jsonl"}, resources={"instanceType": SMALL}),
        flow_run("evaluation", run="answers", columnMapping={"text": "${run.outputs.answer}"}, resources={"instanceType": LARGE}),
    )
    sized.kubectl("wait", "--for=condition=Complete", "frun/answers", "frun/evaluation", "--timeout=240s")
    found = {name: (sized.get("flowrun", name) or {})["status"] for name in ("answers", "evaluation")}
    assert {name: pool_of(sized, one["sessionName"]) for name, one in found.items()} == {"answers": SMALL, "evaluation": LARGE}
    assert found["evaluation"]["metrics"] == {"upper": "2"}
