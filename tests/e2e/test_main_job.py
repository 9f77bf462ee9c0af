"""The main job: a real flow folder becomes a running session with its packages, the flow runs, and the idle session is deleted."""

import json

from .conftest import CHECKOUT, Cluster, environment, session


def test_the_example_starts_installs_runs_and_tells_its_story(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-k", str(CHECKOUT / "examples" / "ticket-triage"))
    cluster.kubectl("wait", "--for=condition=Ready", "csess/ticket-triage", "--timeout=300s")
    status = cluster.status("ticket-triage")

    assert status["phase"] == "Running"
    assert {stage["name"] for stage in status["stages"]} >= {"Scheduled", "ImagePulled", "AgentReady", "PackagesInstalled", "Ready"}
    assert status["install"]["tool"] in ("uv", "pip")
    assert status["install"]["exitCode"] == 0
    assert cluster.condition("ticket-triage", "PackagesInstalled")["reason"] in ("Installed", "InstalledWithWarnings")
    assert cluster.condition("ticket-triage", "InSync")["status"] == "True"

    packages = cluster.until("the packages are listed", lambda: cluster.status("ticket-triage").get("packages"))
    listing = cluster.get("configmap", packages["configMapName"])
    assert listing is not None
    entries = {entry["name"].lower(): entry for entry in json.loads(listing["data"]["packages.json"])["packages"]}
    assert len(entries) == packages["count"]
    assert entries["promptflow"]["layer"] == "image"
    assert entries["rapidfuzz"]["layer"] == "requirements"
    assert entries["scipy"]["layer"] == "dependency"
    assert "scikit-learn" in entries["scipy"]["requiredBy"]
    assert "scikit-learn" in listing["data"]["packages.txt"]

    output = json.loads(
        cluster.exec(
            status["podName"],
            "flow",
            "test",
            "--inputs",
            "subject=Parcel is late",
            "body=My parcel has not arrived for two weeks",
            "customer=Eve",
        )
    )
    assert output["category"] == "shipping"
    assert output["reply"].startswith("Hello Eve")

    told = [event["reason"] for event in cluster.events("ticket-triage")]
    assert told.count("Running") == 1


def test_kubectl_get_shows_what_people_look_for(cluster: Cluster) -> None:
    cluster.apply(environment(), session())
    cluster.until_ready("s")
    lines = cluster.kubectl("get", "computesessions").splitlines()
    assert lines[0].split() == ["NAME", "USER", "ENVIRONMENT", "SIZE", "STATUS", "REASON", "EXPIRES", "AGE"]
    assert lines[1].split()[:5] == ["s", "alice@example.com", "plain", "default", "Running"]
    assert cluster.kubectl("get", "flowsession").count("plain") >= 2
    explained = cluster.kubectl("explain", "csess.spec.idle")
    assert "Seconds without work" in explained


def test_a_session_without_flow_folder_has_its_packages_on_the_path(cluster: Cluster) -> None:
    cluster.apply(environment(requirementsText="rapidfuzz==3.14.1\n"), session())
    status = cluster.until_ready("s")
    assert cluster.exec(status["podName"], "python", "-c", "import rapidfuzz; print(rapidfuzz.__version__)").strip() == "3.14.1"


def test_nothing_to_keep_means_no_volume_and_no_token(cluster: Cluster) -> None:
    cluster.apply(environment(), session())
    status = cluster.until_ready("s")
    pod = cluster.get("pod", status["podName"])
    assert pod is not None
    assert not pod["spec"].get("volumes")
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_a_changed_requirement_is_installed_in_place(cluster: Cluster) -> None:
    cluster.apply(environment(requirementsText="rapidfuzz==3.14.0\n"), session())
    before = cluster.until_ready("s")
    cluster.patch("flowenvironment", "plain", {"spec": {"requirementsText": "rapidfuzz==3.14.1\n"}})
    cluster.until("the new revision is installed", lambda: cluster.status("s")["packagesRevision"] != before["packagesRevision"])
    after = cluster.status("s")
    assert after["podName"] == before["podName"]
    assert cluster.exec(after["podName"], "python", "-c", "import rapidfuzz; print(rapidfuzz.__version__)").strip() == "3.14.1"


def test_an_image_without_our_agent_gets_it_from_a_config_map(cluster: Cluster, python_image: str) -> None:
    cluster.apply(environment(baseImage=python_image), session())
    status = cluster.until_ready("s")
    answer = cluster.exec(status["podName"], "python3", "/session/agent.pyz", "status")
    assert answer


def test_kubectl_delete_takes_the_pod_with_it(cluster: Cluster) -> None:
    cluster.apply(environment(), session())
    status = cluster.until_ready("s")
    cluster.kubectl("delete", "csess", "s")
    cluster.until_gone("pod", status["podName"])
