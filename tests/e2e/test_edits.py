"""What a person edits in the flow folder of a session outlives the session."""

from conftest import Cluster, environment, session
from test_manage import ask, handled, now, until_phase

FOLDER = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "flow", "labels": {"flowsession.dev/source": "true"}},
    "data": {"flow.dag.yaml": "inputs: {}\noutputs: {}\nnodes: []\n", "prompt.jinja2": "Say hello.\n", "old.txt": "old\n"},
}
OF_FOLDER = environment(source={"configMap": {"name": "flow"}}, requirementsText="")


def edit(cluster: Cluster, pod: str) -> None:
    cluster.exec(pod, "sh", "-c", "cd /session/flow; echo 'Say goodbye.' > prompt.jinja2; mkdir -p data; echo 1 > data/new.csv; rm old.txt")


def edited(cluster: Cluster, pod: str) -> bool:
    said = cluster.exec(pod, "sh", "-c", "cd /session/flow; cat prompt.jinja2 data/new.csv; ls old.txt 2>/dev/null || echo gone")
    return said.split("\n")[:3] == ["Say goodbye.", "1", "gone"]


def saved(cluster: Cluster) -> list[str]:
    return [body["metadata"]["name"] for body in cluster.kubectl.list("configmaps", "-l", "flowsession.dev/content=edits")]


def test_edits_survive_the_idle_end_and_the_next_session_has_them(cluster: Cluster) -> None:
    cluster.apply(FOLDER, OF_FOLDER, session(idle=20))
    edit(cluster, cluster.until_ready("s")["podName"])
    warned = cluster.until_condition("s", "Active", status="False", reason="IdleSoon", seconds=60)
    assert "data/new.csv" in warned["message"]
    assert "prompt.jinja2" in cluster.status("s")["edits"]["files"]
    cluster.until_gone("csess", "s", 60)
    (name,) = saved(cluster)
    cluster.apply(session("again"))
    after = cluster.until_ready("again")
    assert edited(cluster, after["podName"])
    assert after["edits"]["savedTo"] == name
    cluster.apply(session("bobs", user="bob@example.com"))
    assert not edited(cluster, cluster.until_ready("bobs")["podName"]), "another user's edits"


def test_suspend_and_reset_keep_edits(cluster: Cluster) -> None:
    cluster.apply(FOLDER, OF_FOLDER, session())
    before = cluster.until_ready("s")
    edit(cluster, before["podName"])
    cluster.patch("csess", "s", {"spec": {"suspend": True}})
    until_phase(cluster, "s", "Suspended")
    cluster.patch("csess", "s", {"spec": {"suspend": False}})
    resumed = cluster.until_ready("s")
    assert edited(cluster, resumed["podName"])
    value = now()
    ask(cluster, "s", "reset", value)
    cluster.until("the reset is done", lambda: handled(cluster, "s", "reset", value) and cluster.status("s").get("phase") == "Running")
    assert edited(cluster, cluster.status("s")["podName"])
    assert len(saved(cluster)) == 1, "the same edits are saved once"


def test_when_the_environment_has_changed_edits_are_offered(cluster: Cluster) -> None:
    cluster.apply(FOLDER, OF_FOLDER, session())
    edit(cluster, cluster.until_ready("s")["podName"])
    cluster.patch("csess", "s", {"spec": {"suspend": True}})
    until_phase(cluster, "s", "Suspended")
    cluster.apply({**FOLDER, "data": {**FOLDER["data"], "more.txt": "new\n"}})
    cluster.patch("csess", "s", {"spec": {"suspend": False}})
    pod = cluster.until_ready("s")["podName"]
    assert not edited(cluster, pod)
    cluster.exec(pod, "flow", "restore")
    assert edited(cluster, pod)


def test_edits_that_are_too_large_put_the_end_off(cluster: Cluster) -> None:
    cluster.apply(FOLDER, OF_FOLDER, session(idle=10))
    pod = cluster.until_ready("s")["podName"]
    cluster.exec(pod, "sh", "-c", "head -c 3000000 /dev/urandom > /session/flow/model.bin")
    active = cluster.until_condition("s", "Active", status="False", reason="EditsNotSaved", seconds=60)
    assert "model.bin" in active["message"]
    assert "flow edits --discard" in active["message"]
    assert cluster.status("s")["phase"] == "Running"
    cluster.exec(pod, "flow", "edits", "--discard")
    cluster.until_gone("csess", "s", 120)
    assert saved(cluster) == []
