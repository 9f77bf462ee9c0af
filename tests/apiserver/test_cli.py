"""`kubectl flow` against a real API server: a folder is started, shown, changed, explained and ended with the program that users call."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from apiserver import policies
from apiserver.api import eventually
from apiserver.background import Background
from apiserver.conftest import Cluster
from apiserver.lab import Lab
from apiserver.relay import Relay
from apiserver.test_sizes import D2, Sizes
from localcluster import binaries, kubeconfig
from localcluster.kubeconfig import Api as Access

Flow = Callable[..., subprocess.CompletedProcess[str]]
PROGRAM = [sys.executable, "-m", "flowsession_cli"]


@pytest.fixture
def environ(cluster: Cluster, tmp_path: Path) -> dict[str, str]:
    """Return the program's environment: kubectl, and the administrator's kubeconfig."""
    folder = binaries.KUBERNETES.binary("kubectl").parent
    return {
        **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "operator"),
        "KUBECONFIG": str(cluster.plane.kubeconfig),
        "KUBECACHEDIR": str(tmp_path / "kubectl"),
    }


@pytest.fixture
def flow(started: Lab, environ: dict[str, str]) -> Flow:
    """Return a function that runs `kubectl flow` in the lab's namespace, without a terminal."""

    def run(command: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        call = [*PROGRAM, command, *words]
        end = call.index("--") if "--" in call else len(call)
        call[end:end] = ["-n", started.namespace]
        return subprocess.run(call, capture_output=True, text=True, env=environ | more, timeout=120, check=False)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Create a flow folder."""
    made = tmp_path / "chat"
    made.mkdir()
    (made / "flow.dag.yaml").write_text("inputs: {}\noutputs: {}\nnodes: []\n")
    (made / "a.py").write_text("A = 1\n")
    (made / "data.jsonl").write_text('{"word": "a"}\n')
    return made


def test_a_folder_is_started_shown_changed_and_ended(started: Lab, flow: Flow, folder: Path) -> None:
    lab = started
    first = flow("start", str(folder), "--idle", "30m")
    assert first.returncode == 0, first.stderr
    assert "chat: 3 files" in first.stdout
    assert "Running: " in first.stdout
    assert "chat runs on node-1" in first.stdout
    session = lab.session("chat")
    assert session["spec"]["idle"]["timeoutSeconds"] == 1800
    assert session["spec"]["user"], "the caller, as the cluster says"

    listed = flow("ls")
    assert listed.stdout.splitlines()[0].split() == ["NAME", "STATUS", "USER", "ENVIRONMENT", "SIZE", "AGE", "IDLE", "END"]
    assert listed.stdout.splitlines()[1].split()[:2] == ["chat", "Running"]
    assert flow("ls", "-o", "name").stdout == "computesession.flowsession.dev/chat\n"
    shown = flow("status", "chat").stdout
    assert f"pod          {session['status']['podName']}" in shown
    assert "packages     2" in shown
    assert (why := flow("why", str(folder))).returncode == 0, why.stderr
    assert "chat is Running: nothing is wrong" in why.stdout

    again = flow("start", str(folder))
    assert again.returncode == 0, again.stderr
    assert "nothing changed in its 3 files" in again.stdout
    (folder / "a.py").write_text("A = 2\n")
    (folder / "b.py").write_text("B = 1\n")
    pushed = flow("start", str(folder))
    assert pushed.returncode == 0, pushed.stderr
    assert "added: b.py\nchanged: a.py\n" in pushed.stdout
    assert "the session has it" in pushed.stdout
    assert lab.session("chat")["status"]["flowRevision"] != session["status"]["flowRevision"]
    assert lab.session("chat")["status"]["podName"] == session["status"]["podName"], "in place"

    refused = flow("stop", "chat")
    assert (refused.returncode, "give --yes" in refused.stderr) == (2, True)
    assert flow("stop", "chat", "--yes").returncode == 0
    eventually(lambda: lab.api.find(lab.path("computesessions", "chat")) is None, what="it is gone")
    gone = flow("why", "chat")
    assert gone.returncode == 1
    assert gone.stdout.startswith("there is no session or run chat now")


def test_suspend_resume_reset_and_keep_alive(started: Lab, flow: Flow, folder: Path) -> None:
    lab = started
    assert flow("start", str(folder)).returncode == 0
    assert flow("suspend", "chat", "--yes").returncode == 0
    lab.until_condition("Ready", "Suspended", "chat")
    why = flow("why", "chat")
    assert (why.returncode, f"kubectl flow resume -n {lab.namespace} chat" in why.stdout) == (1, True), why.stdout
    resumed = flow("resume", "chat")
    assert resumed.returncode == 0, resumed.stderr
    assert "chat is suspended: it is resumed" in resumed.stderr
    assert "chat runs" in resumed.stdout
    pod = lab.session("chat")["status"]["podName"]
    reset = flow("reset", "chat", "--yes")
    assert reset.returncode == 0, reset.stderr
    assert lab.session("chat")["status"]["podName"] != pod
    # The simulated kubelet can't run commands, so this only checks that the command gets as far as the kubelet.
    executed = flow("exec", "chat", "--", "true")
    assert (executed.returncode, executed.stdout) == (1, "")
    assert "no preferred addresses found" in executed.stderr
    assert flow("keep-alive", "chat").returncode == 0
    assert "flowsession.dev/keep-alive-requested-at" in lab.session("chat")["metadata"]["annotations"]


FAILURES = {
    "requirements": ("requirements.txt", "./wheel.whl\n", "RequirementsRejected"),
    "yaml": ("flow.dag.yaml", "nodes: [\n", "FlowInvalid"),
    "include": ("flow.dag.yaml", "nodes: []\nadditional_includes: [../nothing]\n", "FlowInvalid"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_folder_that_cannot_start_is_told_by_start_and_by_why(started: Lab, flow: Flow, folder: Path, case: str) -> None:
    name, text, reason = FAILURES[case]
    (folder / name).write_text(text)
    first = flow("start", str(folder))
    assert first.returncode == 1
    message = started.condition("Ready", "chat", plural="flowenvironments")["message"]
    assert first.stderr.startswith("kubectl flow: chat can't start: ")
    assert message in first.stderr
    why = flow("why", "chat")
    assert (why.returncode, message in why.stdout, reason in why.stdout) == (1, True, True), why.stdout
    assert "environment chat" in why.stdout
    if case == "requirements":
        (folder / name).unlink()
        mended = flow("start", str(folder))
        assert mended.returncode == 0, mended.stderr
        assert "removed: requirements.txt" in mended.stdout


def test_a_size_that_is_not_there_is_explained(started: Lab, flow: Flow, folder: Path) -> None:
    assert flow("start", str(folder), "--size", "Standard_Nothing").returncode == 1
    why = flow("why", "chat")
    assert "where  size Standard_Nothing" in why.stdout
    assert "kubectl flow set -n" in why.stdout, "what to do, in this namespace"


def test_interrupted_it_lets_the_start_go_on(started: Lab, environ: dict[str, str], folder: Path) -> None:
    lab = started
    lab.kubelet.hold = True
    # If the tests run in the background, ^C is ignored, and the program would inherit that.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from flowsession_cli import __main__ as m; m.main()"
    call = [sys.executable, "-c", program, "start", str(folder), "-n", lab.namespace]
    process = subprocess.Popen(call, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lab.pods, what="its pod is there")
    assert process.stdout
    seen = ""
    while "Starting" not in seen and "Pending" not in seen and (line := process.stdout.readline()):
        seen += line
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, "detached: chat goes on without you" in errors) == (130, True), errors
    lab.kubelet.release()
    lab.until_ready("chat")


def test_runs(started: Lab, flow: Flow, folder: Path, tmp_path: Path) -> None:
    lab = started
    assert flow("start", str(folder)).returncode == 0
    made = flow("run", "create", str(folder), "--data", str(folder / "data.jsonl"), "--name", "first", "--no-wait")
    assert made.returncode == 0, made.stderr
    assert lab.api.get(lab.path("flowruns", "first"))["spec"]["data"] == {"path": "data.jsonl"}
    lab.until_run("Running", "first")
    assert flow("run", "ls").stdout.splitlines()[1].split()[:2] == ["first", "Running"]
    assert flow("run", "cancel", "first").returncode == 0
    lab.until_run("Canceled", "first")
    assert "Canceled" in flow("run", "show", "first").stdout
    other = tmp_path / "other.jsonl"
    other.write_text('{"word": "b"}\n')
    assert flow("run", "create", "chat", "--data", str(other), "--name", "second", "--no-wait").returncode == 0
    run = lab.api.get(lab.path("flowruns", "second"))
    assert run["spec"]["data"] == {"configMap": {"name": "second-data", "key": "other.jsonl"}}
    owners = lab.api.get(lab.path("configmaps", "second-data"))["metadata"]["ownerReferences"]
    assert [owner["uid"] for owner in owners] == [run["metadata"]["uid"]], "it goes with the run"
    lab.until_run("Running", "second")
    assert "run          second Running" in flow("status", "chat").stdout


def test_a_run_is_followed_over_a_broken_connection(
    started: Lab, flow: Flow, environ: dict[str, str], folder: Path, background: Background, cluster: Cluster
) -> None:
    lab = started
    assert flow("start", str(folder)).returncode == 0
    assert flow("run", "create", str(folder), "--data", str(folder / "data.jsonl"), "--name", "first", "--no-wait").returncode == 0
    relay = Relay(background, int(cluster.plane.server.rpartition(":")[2]))
    relay.start()
    config = _elsewhere(folder, Path(environ["KUBECONFIG"]).read_text(), port=relay.port)
    call = [*PROGRAM, "run", "stream", "first", "-n", lab.namespace]
    process = subprocess.Popen(
        call, env=environ | {"KUBECONFIG": str(config)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, text=False
    )
    try:
        assert process.stdout
        assert process.stderr
        seen = b""
        while b"Running" not in seen and (line := process.stdout.readline()):
            seen += line
        relay.cut()
        assert b"the cluster doesn't answer" in (lost := process.stderr.readline())
        assert lost.endswith(b"; run first goes on, and is looked for again until ^C\n")
        relay.reopen()
        assert process.stderr.readline() == b"the cluster answers again\n"
        agent = lab.agent("chat")
        agent.outputs = b"packed"
        agent.change_run(state="Completed", lines={"total": 1, "completed": 1, "failed": 0})
        out, errors = process.communicate(timeout=60)
        assert (process.returncode, b"Completed 1/1" in out, errors) == (0, True, b"")
    finally:
        process.kill()
        process.wait()
        relay.cut()


def test_environments_sizes_instances_and_costs(started: Lab, flow: Flow, folder: Path) -> None:
    lab = started
    assert flow("start", str(folder)).returncode == 0
    assert flow("env", "ls").stdout.splitlines()[1].split()[:3] == ["chat", "yes", "1"]
    assert "flow         dag" in flow("env", "show", str(folder)).stdout
    for request, told in (("refresh", "nothing changed in the flow folder"), ("check-version", "(")):
        asked = flow("env", request, "chat")
        assert (asked.returncode, told in asked.stdout) == (0, True), asked
    updated = flow("env", "update", "chat")  # no registry is reachable here
    assert (updated.returncode, "kubectl flow: nothing has changed: sessions go on starting from" in updated.stderr) == (1, True), updated
    sizes = Sizes(lab)
    sizes.create(D2)
    try:
        refused = flow("instance", "create", "box", "--size", "Standard_Nothing")
        assert refused.stderr.startswith(f"kubectl flow: there is no VM size Standard_Nothing; there is {D2}"), refused.stderr
        made = flow("instance", "create", "box", "--size", D2, "--idle", "2h", "--no-wait")
        assert made.returncode == 0, made.stderr
        assert lab.api.get(lab.path("computeinstances", "box"))["spec"]["idle"] == {"action": "Stop", "timeoutSeconds": 7200}
        assert flow("instance", "stop", "box", "--yes").returncode == 0
        assert flow("instance", "ls").stdout.splitlines()[1].split()[0] == "box"
        assert D2 in flow("size", "ls").stdout
        shown = flow("top")
        assert {line.split()[1] for line in shown.stdout.splitlines()[1:3]} == {"box", "chat"}, shown
        assert "all: 1 session, 1 instance" in shown.stdout
    finally:
        sizes.remove_all()


@pytest.fixture
def stranger(cluster: Cluster, environ: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Return the program's environment for a user without any rights."""
    text = kubeconfig.write(
        tmp_path / "stranger", Access(cluster.plane.server, cluster.plane.ca, cluster.plane.token), user="stranger"
    ).read_text()
    path = tmp_path / "stranger"
    path.write_text(text.replace("user: {token:", f"user: {{as: {policies.STRANGER}, token:"))
    return environ | {"KUBECONFIG": str(path)}


def test_a_missing_right_is_named(started: Lab, flow: Flow, stranger: dict[str, str], folder: Path) -> None:
    listed = flow("ls", **stranger)
    assert listed.returncode == 1
    right = f"{policies.STRANGER} may not list computesessions.flowsession.dev in namespace {started.namespace}"
    assert listed.stderr.startswith(f"kubectl flow: {right}: the ClusterRole flowsession-view of the chart, ")


def test_the_rights_of_one_namespace_are_enough(started: Lab, flow: Flow, stranger: dict[str, str], folder: Path) -> None:
    """Without the right to read Events, the output says that they are missing and still shows the rest."""
    lab, role = started, f"{started.namespace}-edit"
    ours = {"apiGroups": ["flowsession.dev"], "resources": ["*"], "verbs": ["*"]}
    folders = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}
    body = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": role}, "rules": [ours, folders]}
    lab.api.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", body)
    policies.bind(lab.api, policies.STRANGER, role, lab.namespace)
    first = flow("start", str(folder), "--size", "Standard_Nothing", **stranger)
    assert (first.returncode, "Standard_Nothing" in first.stderr) == (1, True), first.stderr
    assert lab.session("chat")["spec"]["user"] == policies.STRANGER
    why = flow("why", "chat", **stranger)
    assert "cause  there is no VMSize for 'Standard_Nothing'" in why.stdout, why.stderr
    assert f"also   what Events tell is missing here: {policies.STRANGER} may not list events" in why.stdout
    doctor = flow("doctor", **stranger)
    assert (doctor.returncode, f"the cluster takes you for {policies.STRANGER}" in doctor.stdout) == (1, True), doctor.stdout
    assert "ok   the CRDs have all fields that this program writes" in doctor.stdout
    missing = f"bad  {policies.STRANGER} may not create pods/exec in namespace {lab.namespace}: "
    assert f"{missing}the cluster's role edit has that right; needed by sh, exec, test and cp" in doctor.stdout
    assert "computesessions" not in doctor.stdout, "a right that is there"


def test_a_connection_comes_and_goes(started: Lab, flow: Flow, folder: Path, tmp_path: Path) -> None:
    lab = started
    assert flow("start", str(folder)).returncode == 0
    file = tmp_path / "connection.yaml"
    file.write_text("name: open_ai_connection\ntype: open_ai\napi_key: sk-1\n")
    made = flow("connection", "create", "-f", str(file), "--environment", "chat")
    assert made.returncode == 0, made.stderr
    lab.until_condition("InSync", "ConnectionsChanged", "chat")
    assert "kubectl flow reset -n" in flow("why", "chat").stdout
    assert flow("start", str(folder), "--no-wait").returncode == 0, "the folder's own fields are another matter"
    environment = lab.api.get(lab.path("flowenvironments", "chat"))
    assert environment["spec"]["connections"] == [{"name": "open_ai_connection", "secretName": "open-ai-connection"}]
    assert flow("connection", "ls").stdout.splitlines()[1].split()[:3] == ["open-ai-connection", "open_ai", "chat"]
    shown = flow("connection", "show", "open_ai_connection").stdout
    assert ("api_key  ********" in shown, "sk-1" in shown) == (True, False)
    assert "which the environment chat uses" in flow("connection", "rm", "open_ai_connection").stderr
    assert flow("connection", "rm", "open_ai_connection", "--yes").returncode == 0
    assert lab.api.find(f"/api/v1/namespaces/{lab.namespace}/secrets/open-ai-connection") is None


def test_a_field_that_argo_owns_is_named_with_its_owner(started: Lab, flow: Flow, folder: Path, cluster: Cluster) -> None:
    lab = started
    assert flow("start", str(folder), "--idle", "1h", "--no-wait").returncode == 0
    spec = {"environmentRef": {"name": "chat"}, "idle": {"action": "Suspend", "timeoutSeconds": 700}}
    theirs = {"apiVersion": "flowsession.dev/v1alpha1", "kind": "ComputeSession", "metadata": {"name": "chat"}, "spec": spec}
    words = ("apply", "--server-side", "--force-conflicts", "--field-manager=argocd-controller", "-n", lab.namespace, "-f", "-")
    assert cluster.kubectl(*words, stdin=json.dumps(theirs)).returncode == 0
    refused = flow("start", str(folder), "--idle", "2h")
    assert refused.returncode == 1
    owner = ".spec.idle.timeoutSeconds belongs to Argo CD (argocd-controller): change it where that is managed"
    assert owner in refused.stderr
    assert lab.session("chat")["spec"]["idle"]["timeoutSeconds"] == 700


def test_a_cluster_that_is_not_there_expired_credentials_and_no_crds(flow: Flow, environ: dict[str, str], tmp_path: Path) -> None:
    good = Path(environ["KUBECONFIG"]).read_text()
    bad = tmp_path / "bad"
    bad.write_text(good.replace("token: ", "token: x"))
    assert "the cluster doesn't take your credentials" in flow("ls", KUBECONFIG=str(bad)).stderr
    assert "the cluster doesn't answer" in flow("ls", KUBECONFIG=str(_elsewhere(tmp_path, good))).stderr
    assert "there is no such kubeconfig" in flow("ls", "--kubeconfig", "/nowhere").stderr
    version = flow("version")
    assert "the cluster serves flowsession.dev/v1alpha1" in version.stdout


def _elsewhere(folder: Path, text: str, *, port: int = 9) -> Path:
    path = folder / "elsewhere"
    path.write_text("\n".join(f"    server: https://127.0.0.1:{port}" if "server:" in line else line for line in text.splitlines()))
    return path


def test_listing_is_quick(flow: Flow, environ: dict[str, str], started: Lab) -> None:
    """Measures CPU time, kubectl's included: wall-clock time would measure the other tests too. The first call fills kubectl's cache."""
    flow("ls")
    took = []
    for _ in range(5):
        before = os.times()
        assert flow("ls").returncode == 0
        after = os.times()
        took.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(took) < 0.6, took
