"""Lost pods, killed containers, a killed operator: nothing doubled, nothing lost, and recovery without help."""

import time
from datetime import datetime

import pytest

from .conftest import CHECKOUT, Cluster, environment, session
from .preemption import urgent_pod

SYSTEM = "flowsession-system"


def test_a_lost_pod_is_started_again(cluster: Cluster) -> None:
    cluster.apply(environment(), session())
    before = cluster.until_ready("s")
    cluster.kubectl("delete", "pod", before["podName"], "--wait=false")
    cluster.until(
        "a new pod is ready", lambda: cluster.status("s").get("incarnation") == 2 and cluster.status("s").get("phase") == "Running"
    )
    after = cluster.status("s")
    assert after["restarts"] == 1
    assert after["podName"] != before["podName"]
    assert len(cluster.kubectl.list("pods", "-l", "flowsession.dev/session=s")) == 1


def test_a_restarted_container_serves_again_with_its_packages(cluster: Cluster) -> None:
    cluster.apply(environment(requirementsText="rapidfuzz==3.14.1\n"), session())
    status = cluster.until_ready("s")
    cluster.kubectl.attempt("exec", status["podName"], "--", "sh", "-c", "kill -TERM 1; sleep 20")
    cluster.until(
        "the container was restarted",
        lambda: (cluster.get("pod", status["podName"]) or {}).get("status", {}).get("containerStatuses", [{}])[0].get("restartCount"),
    )
    cluster.until_ready("s")
    cluster.until(
        "its packages are there again",
        lambda: (
            "3.14.1"
            in cluster.kubectl.attempt(
                "exec", status["podName"], "--", "python", "-c", "import rapidfuzz; print(rapidfuzz.__version__)"
            ).stdout
        ),
    )


def test_a_duplicate_is_refused_and_the_first_goes_on(cluster: Cluster) -> None:
    cluster.apply(environment(), session("first"))
    cluster.until_ready("first")
    created = datetime.fromisoformat(cluster.session("first")["metadata"]["creationTimestamp"]).timestamp()
    # A start takes half a second, and the uid decides which of two sessions created in the same second is older.
    cluster.until("the second of its creation is over", lambda: time.time() > created + 1.5)
    cluster.apply(session("second"))
    refused = cluster.until_condition("second", "Ready", status="False", reason="DuplicateSession")
    assert "'first'" in refused["message"]
    assert {pod["metadata"]["labels"]["flowsession.dev/session"] for pod in cluster.kubectl.list("pods")} == {"first"}


@pytest.mark.whole_cluster
def test_a_killed_operator_writes_nothing_about_settled_sessions(cluster: Cluster) -> None:
    cluster.apply(environment(requirementsText="rapidfuzz\n"), session("a"), session("b", user="bob@example.com"))
    for name in ("a", "b"):
        cluster.until_ready(name)
        cluster.until("its packages are listed", lambda name=name: cluster.status(name).get("packages"))
    before = {name: cluster.session(name)["metadata"]["resourceVersion"] for name in ("a", "b")}
    system = cluster.within(SYSTEM)
    selector = ("-l", "app.kubernetes.io/name=flowsession")
    old = system.kubectl.list("pods", *selector)[0]["metadata"]["uid"]
    system.kubectl("delete", "pod", *selector, "--grace-period=0", "--force")

    def another_is_ready() -> bool:
        return any(
            pod["metadata"]["uid"] != old
            and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
            for pod in system.kubectl.list("pods", *selector)
        )

    cluster.until("another operator is ready", another_is_ready)
    cluster.apply(session("c", user="carol@example.com"))
    cluster.until_ready("c")  # the operator works again, and has had time to touch what it should not
    assert {name: cluster.session(name)["metadata"]["resourceVersion"] for name in ("a", "b")} == before


def test_the_second_example_needs_no_flow_folder(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", str(CHECKOUT / "examples" / "python-only"))
    status = cluster.until_ready("python-only", 300)
    assert (
        cluster.exec(status["podName"], "python", "-c", "import duckdb; print(duckdb.sql('select 40 + 2').fetchone()[0])").strip() == "42"
    )


@pytest.mark.whole_cluster
def test_a_preempted_session_says_so_and_comes_back(cluster: Cluster) -> None:
    """The new pod has a higher priority and fits on the node only without the session."""
    cluster.apply(environment(), session())
    before = cluster.until_ready("s")
    with urgent_pod(cluster, before):
        cluster.until("the session comes back", lambda: (s := cluster.status("s")).get("phase") == "Running" and s.get("incarnation") == 2)
    cluster.until_event("s", "Preempted", "higher priority")
