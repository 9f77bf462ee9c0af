"""`packages` and `install`: what is listed, what is saved where, and how an install ended."""

import base64
import contextlib
import json

import pytest
from click.testing import CliRunner

from flowsession_cli import app, naming, pack, pushed
from flowsession_cli.cluster import ENVIRONMENT, SESSION
from unit.cli.fakes import FakeCluster, condition, ready_status

LISTED = [
    {"name": "numpy", "version": "2.1", "layer": "dependency", "requiredBy": ["pandas"]},
    {"name": "pandas", "version": "2.3.3", "layer": "requirements", "replaces": "1.0"},
    {"name": "promptflow", "version": "1.18.5", "layer": "image"},
]


class Cluster(FakeCluster):
    """A cluster whose operator handles each write at once, and installs with the outcome that is set."""

    def __init__(self):
        super().__init__()
        self.__dict__.update(outcome=condition("PackagesInstalled", "True", "Installed", "2 packages"), install={})

    def patch(self, kind, name, change):
        thing = self.things[kind, name]
        status = thing["status"]
        super().patch(kind, name, change)
        thing["status"] = status
        if kind == ENVIRONMENT:
            thing["metadata"]["generation"] += 1
            self._resolve(name)
        return thing

    def apply(self, *manifests):
        done = super().apply(*manifests)
        self._resolve("chat")
        return done

    def _resolve(self, name):
        thing = self.things[ENVIRONMENT, name]
        status = thing["status"]
        status |= {"observedGeneration": thing["metadata"]["generation"], "packagesRevision": "p2", "flowRevision": "f2"}

    @contextlib.contextmanager
    def watch(self, kind, name):
        thing = self.things[kind, name]
        asked = thing["metadata"].get("annotations", {}).get("flowsession.dev/install-requested-at")
        with super().watch(kind, name) as changes:
            revision = self.things[ENVIRONMENT, "chat"]["status"]["packagesRevision"]
            thing["status"] |= {"handledRequests": {"install": asked}, "packagesRevision": revision, "install": self.install}
            thing["status"]["conditions"].append(self.outcome)
            yield changes


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    fake = Cluster()
    status = ready_status() | {"packages": {"count": 3, "configMapName": "list"}}
    fake.put("ComputeSession", "chat", spec={"environmentRef": {"name": "chat"}}, status=status)
    fake.put("ConfigMap", "list", data={"packages.json": json.dumps({"packages": LISTED})})
    resolved = {"observedGeneration": 1, "packagesRevision": "p1", "flowRevision": "f1", "conditions": [condition("Ready", "True", "", "")]}
    fake.put("FlowEnvironment", "chat", spec={"requirementsText": "pandas==1.0\n"}, status=resolved)
    monkeypatch.setattr("flowsession_cli.cluster.Cluster", lambda **_: fake)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "requirements.txt").write_text("pandas\n")
    return fake


def typed(*words):
    return CliRunner().invoke(app.cli, words)


def test_packages_are_listed_by_layer(cluster):
    lines = typed("packages", "chat").output.splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == ["PACKAGE", "pandas", "numpy", "promptflow"]
    assert "requirements, not 1.0 of the image" in lines[1]
    assert lines[2].endswith("pandas")
    assert json.loads(typed("packages", "chat", "-o", "json").output)["packages"] == LISTED


def test_packages_of_two_sessions_are_compared(cluster):
    cluster.put("ComputeSession", "old", spec={}, status={"packages": {"configMapName": "older"}})
    cluster.put("ConfigMap", "older", data={"packages.json": json.dumps({"packages": [{**LISTED[0], "version": "1.9"}, *LISTED[2:]]})})
    shown = [line.split() for line in typed("packages", "chat", "--diff", "old").output.splitlines()]
    assert shown == [["PACKAGE", "CHAT", "OLD"], ["numpy", "2.1", "1.9"], ["pandas", "2.3.3", "-"]]
    assert "chat and chat have the same 3 packages" in typed("packages", "chat", "--diff", "chat").output


def test_what_packages_cannot_do_is_told(cluster):
    cluster.put("ComputeSession", "new", spec={}, status={})
    assert "new has no list of packages yet" in str(typed("packages", "new").exception)
    assert "-o yaml is nothing that packages prints" in str(typed("packages", "chat", "-o", "yaml").exception)


def test_install_saves_and_installs(cluster):
    done = typed("install", "chat", "--file", "requirements.txt")
    assert done.exit_code == 0, done.exception
    assert "requirements.txt is saved as the requirements of chat\n" in done.output
    assert done.output.endswith("\nchat: 2 packages\n")
    assert cluster.get(ENVIRONMENT, "chat")["spec"]["requirementsText"] == "pandas\n"


def test_an_install_with_nothing_to_do_says_so_and_repeats_no_figures_of_the_one_before(cluster):
    cluster.things[SESSION, "chat"]["status"]["install"] = cluster.install
    assert typed("install", "chat").output.endswith("\nchat has what the requirements ask for: nothing was to be installed\n")


def test_requirements_of_a_pushed_folder_are_replaced_in_it(cluster, tmp_path):
    flow = tmp_path / "chat"
    flow.mkdir()
    (flow / "flow.dag.yaml").write_text("nodes: []\n")
    (flow / "requirements.txt").write_text("pandas==1.0\n")
    packed = pack.pack(flow)
    cluster.put("ConfigMap", "chat-folder", binaryData={pushed.KEY: base64.b64encode(packed.archive).decode()})
    source = {"archive": {"configMap": {"name": "chat-folder", "key": pushed.KEY}}}
    cluster.things[ENVIRONMENT, "chat"]["spec"] = {"source": source, "flowPath": "."}
    cluster.things[ENVIRONMENT, "chat"]["status"]["requirementsFile"] = "requirements.txt"
    assert "requirements.txt is pushed as requirements.txt\n" in typed("install", "chat", "--file", "requirements.txt").output
    (flow / "requirements.txt").write_text("pandas\n")
    kept = cluster.get("configmap", "chat-folder")["binaryData"][pushed.KEY]
    assert base64.b64decode(kept) == pack.pack(flow).archive, "a start of the same folder finds nothing changed"
    assert "requirementsText" not in cluster.get(ENVIRONMENT, "chat")["spec"]


def test_a_session_that_waits_by_its_owners_wish_goes_on_waiting(cluster):
    cluster.things[SESSION, "chat"]["spec"]["onChange"] = "Wait"
    cluster.things[SESSION, "chat"]["metadata"]["managedFields"] = [
        {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:onChange": {}}}}
    ]
    assert typed("install", "chat").exit_code == 0
    session = cluster.get(SESSION, "chat")
    assert session["spec"]["onChange"] == "Wait"
    assert session["metadata"]["annotations"]["flowsession.dev/install-requested-at"]


def test_save_only_waits_for_the_next_install(cluster):
    done = typed("install", "chat", "--file", "requirements.txt", "--save-only")
    assert "saved; kubectl flow install chat installs it" in done.output
    session = cluster.get(SESSION, "chat")
    assert session["spec"]["onChange"] == "Wait"
    assert "annotations" not in session["metadata"] or not session["metadata"]["annotations"]
    fields = [{"manager": "kubectl-flow", "operation": "Update", "fieldsV1": {"f:spec": {"f:onChange": {}}}}]
    cluster.things[SESSION, "chat"]["metadata"]["managedFields"] = fields
    assert typed("install", "chat").exit_code == 0
    session = cluster.get(SESSION, "chat")
    assert session["spec"]["onChange"] == "Install"
    assert session["metadata"]["annotations"]["flowsession.dev/install-requested-at"]


def test_a_failed_install_is_told_with_the_installers_words(cluster):
    cluster.outcome |= {"status": "False", "reason": "InstallFailed", "message": "no version of padnas"}
    cluster.install |= {"stderrTail": "  x No solution found\n", "warnings": ["pip is old"]}
    done = typed("install", "chat")
    assert "warning: pip is old\n" in done.output
    assert str(done.exception) == "chat keeps the packages that it has: no version of padnas (InstallFailed)"


def test_requirements_that_are_refused_are_not_waited_for(cluster):
    cluster.things[ENVIRONMENT, "chat"]["status"]["conditions"] = [condition("Ready", "False", "RequirementsRejected", "line 1 is odd")]
    refused = typed("install", "chat", "--file", "requirements.txt")
    assert "these requirements can't be used, the session keeps what it has: line 1 is odd" in str(refused.exception)


def test_the_environment_of_others_is_asked_about(cluster):
    cluster.things[ENVIRONMENT, "chat"]["spec"]["owner"] = "eve@example.com"
    asked = typed("install", "chat", "--file", "requirements.txt")
    assert "The environment chat belongs to eve@example.com, whose sessions get them too" in str(asked.exception)
    assert typed("install", "chat", "--file", "requirements.txt", "--yes").exit_code == 0


def test_what_makes_no_sense_is_told(cluster, tmp_path):
    assert "--save-only saves requirements: give --file" in str(typed("install", "chat", "--save-only").exception)
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    assert "bad.txt is no UTF-8 text" in str(typed("install", "chat", "--file", "bad.txt").exception)


def test_a_suspended_session_is_resumed_by_an_install(cluster, monkeypatch):
    resumed = []
    monkeypatch.setattr(naming, "resume", lambda _, session: resumed.append(session["metadata"]["name"]))
    cluster.things[SESSION, "chat"]["status"]["phase"] = "Suspended"
    assert "chat is suspended: it is resumed, and a start installs" in typed("install", "chat").output
    assert resumed == ["chat"]
