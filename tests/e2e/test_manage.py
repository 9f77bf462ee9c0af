"""Requests of a person for a running session: suspend, resume, reset, keep alive, install on request."""

from datetime import UTC, datetime

from demo.kubectl import Object

from .conftest import Cluster, environment, session


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def ask(cluster: Cluster, name: str, what: str, value: str) -> None:
    cluster.kubectl("annotate", "csess", name, "--overwrite", f"flowsession.dev/{what}-requested-at={value}")


def handled(cluster: Cluster, name: str, what: str, value: str) -> bool:
    return cluster.status(name).get("handledRequests", {}).get(what) == value


def until_phase(cluster: Cluster, name: str, phase: str) -> Object:
    return cluster.until(f"{name} is {phase}", lambda: (s := cluster.status(name)).get("phase") == phase and s)


def test_suspend_releases_the_pod_and_resume_starts_with_the_same_settings(cluster: Cluster) -> None:
    cluster.apply(environment(requirementsText="rapidfuzz==3.14.1\n"), session())
    before = cluster.until_ready("s")
    cluster.patch("csess", "s", {"spec": {"suspend": True}})
    suspended = until_phase(cluster, "s", "Suspended")
    assert suspended["suspended"]["by"] == "User"
    assert cluster.get("pod", before["podName"]) is None
    value = now()
    ask(cluster, "s", "keep-alive", value)
    cluster.until("the request is answered", lambda: handled(cluster, "s", "keepAlive", value))
    cluster.until_event("s", "RequestRefused", "suspended")
    cluster.patch("csess", "s", {"spec": {"suspend": False}})
    after = cluster.until_ready("s")
    assert after["podName"] != before["podName"]
    assert "suspended" not in after
    assert cluster.exec(after["podName"], "python", "-c", "import rapidfuzz; print(rapidfuzz.__version__)").strip() == "3.14.1"


def test_idleness_suspends_and_a_request_resumes(cluster: Cluster) -> None:
    cluster.apply(environment(), session(idle=6, action="Suspend"))
    cluster.until_ready("s")
    suspended = until_phase(cluster, "s", "Suspended")
    assert suspended["suspended"]["by"] == "Idle"
    assert cluster.session("s")["spec"].get("suspend") is False, "the operator never writes spec"
    cluster.until_event("s", "Suspended")
    reasons = [event["reason"] for event in cluster.events("s")]
    assert reasons.index("IdleSoon") < reasons.index("Suspended")
    value = now()
    ask(cluster, "s", "resume", value)
    cluster.until_ready("s")
    assert handled(cluster, "s", "resume", value)


def test_reset_gives_one_fresh_pod_even_when_asked_twice(cluster: Cluster) -> None:
    cluster.apply(environment(), session())
    before = cluster.until_ready("s")
    cluster.exec(before["podName"], "sh", "-c", "echo mine > /session/leftover")
    ask(cluster, "s", "reset", now())
    value = now()
    ask(cluster, "s", "reset", value)
    after = cluster.until(
        "another pod is ready",
        lambda: (
            (s := cluster.status("s")).get("phase") == "Running"
            and s.get("podName") != before["podName"]
            and handled(cluster, "s", "reset", value)
            and s
        ),
    )
    assert cluster.kubectl.attempt("exec", after["podName"], "--", "cat", "/session/leftover").returncode != 0
    assert len(cluster.kubectl.list("pods", "-l", "flowsession.dev/session=s")) == 1
    assert after.get("restarts", 0) == 0, "a reset is no loss"


def test_keep_alive_puts_the_end_off_by_one_timeout(cluster: Cluster) -> None:
    cluster.apply(environment(), session(idle=20))
    before = cluster.until_ready("s")
    cluster.until_condition("s", "Active", status="False", reason="IdleSoon", seconds=40)
    value = now()
    ask(cluster, "s", "keep-alive", value)
    cluster.until("the request is handled", lambda: handled(cluster, "s", "keepAlive", value), 10)
    after = cluster.status("s")
    assert after["expiresAt"] > before["expiresAt"]
    assert cluster.condition("s", "Active")["reason"] == "KeptAlive"
    cluster.until_gone("csess", "s", 60)


def test_save_only_waits_for_the_request(cluster: Cluster) -> None:
    cluster.apply(environment(requirementsText="rapidfuzz==3.14.0\n"), session(onChange="Wait"))
    before = cluster.until_ready("s")
    cluster.patch("flowenvironment", "plain", {"spec": {"requirementsText": "rapidfuzz==3.14.1\n"}})
    cluster.until_condition("s", "InSync", status="False", reason="RequirementsChanged")
    value = now()
    ask(cluster, "s", "install", value)
    cluster.until_condition("s", "InSync", status="True")
    after = cluster.status("s")
    assert (after["podName"], after["phase"]) == (before["podName"], "Running")
    assert after["packagesRevision"] != before["packagesRevision"]
    cluster.until("the request is handled", lambda: handled(cluster, "s", "install", value))


def test_changed_flow_files_are_pushed_without_an_install(cluster: Cluster) -> None:
    folder = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "flow", "labels": {"flowsession.dev/source": "true"}},
        "data": {"flow.dag.yaml": "nodes: []\n", "requirements.txt": "rapidfuzz==3.14.1\n", "note.txt": "one"},
    }
    cluster.apply(folder, environment(source={"configMap": {"name": "flow"}}), session())
    before = cluster.until_ready("s")
    cluster.exec(before["podName"], "sh", "-c", "echo mine > /session/flow/own.txt")
    folder["data"] = {**folder["data"], "note.txt": "two"}
    cluster.apply(folder)
    cluster.until("the file has changed", lambda: cluster.exec(before["podName"], "cat", "/session/flow/note.txt") == "two", 20)
    cluster.until("the status says so", lambda: cluster.status("s")["flowRevision"] != before["flowRevision"])
    after = cluster.status("s")
    assert after["packagesRevision"] == before["packagesRevision"]
    assert after["install"] == before["install"]
    assert cluster.exec(before["podName"], "cat", "/session/flow/own.txt").strip() == "mine"


def test_a_failed_install_in_place_leaves_the_old_packages_working(cluster: Cluster) -> None:
    cluster.apply(environment(requirementsText="rapidfuzz==3.14.1\n"), session())
    before = cluster.until_ready("s")
    cluster.patch("flowenvironment", "plain", {"spec": {"requirementsText": "rapidfuzz==3.14.1\nno-such-package-at-all\n"}})
    failed = cluster.until_condition("s", "PackagesInstalled", status="False", reason="InstallFailed")
    assert "no-such-package-at-all" in failed["message"]
    after = cluster.status("s")
    assert (after["phase"], after["podName"]) == ("Running", before["podName"])
    assert cluster.exec(after["podName"], "python", "-c", "import rapidfuzz; print(rapidfuzz.__version__)").strip() == "3.14.1"


def test_the_lifetime_ends_what_is_in_use_too(cluster: Cluster) -> None:
    cluster.apply(environment(), session(maxLifetimeSeconds=8))
    cluster.until_ready("s")
    assert until_phase(cluster, "s", "Suspended")["suspended"]["by"] == "Lifetime"


def test_a_request_that_is_no_timestamp_is_refused_once(cluster: Cluster) -> None:
    cluster.apply(environment(), session())
    cluster.until_ready("s")
    ask(cluster, "s", "reset", "please")
    cluster.until("the refusal is told", lambda: handled(cluster, "s", "reset", "please"))
    refused = cluster.until_event("s", "RequestRefused")
    assert [event.get("count", 1) for event in refused] == [1]
    assert "'please'" in refused[0]["message"]
    assert cluster.status("s")["incarnation"] == 1


def test_an_evicted_pod_is_told_by_its_cause_and_comes_back(cluster: Cluster) -> None:
    cluster.apply(environment(), session())
    before = cluster.until_ready("s")
    cluster.kubectl(
        "create",
        "--raw",
        f"/api/v1/namespaces/{cluster.namespace}/pods/{before['podName']}/eviction",
        "-f",
        "-",
        stdin=f'{{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {{"name": "{before["podName"]}"}}}}',
    )
    cluster.until("another pod is ready", lambda: (s := cluster.status("s")).get("phase") == "Running" and s.get("incarnation") == 2)
    cluster.until_event("s", "NodeDrained")


def test_the_list_of_packages_stays_for_the_next_session_and_goes_with_the_environment(cluster: Cluster) -> None:
    cluster.apply(environment(), session())
    cluster.until_ready("s")
    listed = cluster.until("the packages are listed", lambda: cluster.status("s").get("packages"))
    cluster.kubectl("delete", "csess", "s")
    cluster.apply(session("next"))
    cluster.until_ready("next")
    assert cluster.until("the packages are listed", lambda: cluster.status("next").get("packages")) == listed
    cluster.kubectl("delete", "csess,fenv", "--all")
    cluster.until_gone("configmap", listed["configMapName"], 60)


def test_a_changed_image_waits_for_a_reset(cluster: Cluster, python_image: str) -> None:
    cluster.apply(environment(), session())
    before = cluster.until_ready("s")
    cluster.patch("flowenvironment", "plain", {"spec": {"baseImage": python_image}})
    changed = cluster.until_condition("s", "InSync", status="False", reason="ImageChanged")
    assert "reset-requested-at" in changed["message"]
    assert cluster.status("s")["podName"] == before["podName"]
    value = now()
    ask(cluster, "s", "reset", value)
    cluster.until("the reset is done", lambda: handled(cluster, "s", "reset", value) and cluster.status("s").get("phase") == "Running")
    cluster.until_condition("s", "InSync", status="True")
    assert cluster.status("s")["baseImage"] == python_image


def test_a_changed_environment_variable_waits_for_the_next_start(cluster: Cluster) -> None:
    cluster.apply(environment(), session())
    before = cluster.until_ready("s")
    cluster.patch("csess", "s", {"spec": {"env": [{"name": "MODE", "value": "slow"}]}})
    cluster.until_condition("s", "InSync", status="False", reason="SettingsChanged")
    assert cluster.status("s")["podName"] == before["podName"]
    ask(cluster, "s", "reset", now())
    cluster.until_condition("s", "InSync", status="True")
    assert cluster.exec(cluster.status("s")["podName"], "sh", "-c", "echo $MODE").strip() == "slow"


def test_several_changes_during_an_install_end_in_the_last(cluster: Cluster) -> None:
    cluster.apply(environment(requirementsText="rapidfuzz==3.14.0\n"), session())
    before = cluster.until_ready("s")
    for version in ("3.14.1", "3.13.0", "3.14.1"):
        cluster.patch("flowenvironment", "plain", {"spec": {"requirementsText": f"rapidfuzz=={version}\npyfiglet\n"}})
    cluster.until("the last one is installed", lambda: _version(cluster, before["podName"]) == "3.14.1", 60)
    cluster.until_condition("s", "InSync", status="True")
    assert cluster.status("s")["podName"] == before["podName"]


def _version(cluster: Cluster, pod: str) -> str:
    return cluster.kubectl.attempt("exec", pod, "--", "python", "-c", "import rapidfuzz; print(rapidfuzz.__version__)").stdout.strip()
