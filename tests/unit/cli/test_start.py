"""`start`: what is written, what a second start changes, and whose objects are left alone."""

import base64

import pytest

from flowsession_cli import follow, wanted
from flowsession_cli.cluster import ENVIRONMENT, SESSION
from flowsession_cli.commands import start
from flowsession_cli.errors import CliError
from unit.cli.fakes import FakeCluster, condition, ready_status

NO_OPTIONS = {"size": "", "idle": "", "instance": "", "identity": "", "image": "", "variables": ()}


@pytest.fixture
def folder(tmp_path):
    flow = tmp_path / "chat"
    flow.mkdir()
    (flow / "flow.dag.yaml").write_text("nodes: []\n")
    return flow


def run(cluster, target, name="", *, wait=True, yes=False, **options):
    start.Start(cluster, options=wanted.spec(**NO_OPTIONS | options), yes=yes).run(str(target), name, wait=wait)


def test_a_folder_becomes_three_objects_and_a_ready_session(folder, capsys):
    cluster = FakeCluster()
    run(cluster, folder, idle="1h30m", variables=("A=1",))
    assert cluster.applied == ["ConfigMap", "FlowEnvironment", "ComputeSession"]
    config_map = cluster.get("configmap", "chat-folder")
    assert config_map["metadata"]["labels"]["flowsession.dev/source"] == "true"
    assert base64.b64decode(config_map["binaryData"]["flow.tar.gz"])[:2] == b"\x1f\x8b"
    assert cluster.get(ENVIRONMENT, "chat")["spec"] == {
        "source": {"archive": {"configMap": {"name": "chat-folder", "key": "flow.tar.gz"}}},
        "flowPath": ".",
    }
    assert cluster.get(SESSION, "chat")["spec"] == {
        "environmentRef": {"name": "chat"},
        "user": "ada@example.com",
        "idle": {"action": "Delete", "timeoutSeconds": 5400},
        "env": [{"name": "A", "value": "1"}],
    }
    said = capsys.readouterr().out
    assert "chat: 1 file, " in said
    assert "chat runs on node-b" in said
    assert "kubectl flow test chat" in said


def test_a_second_start_of_the_same_writes_nothing(folder, capsys):
    cluster = FakeCluster()
    run(cluster, folder)
    cluster.applied.clear()
    run(cluster, folder)
    assert cluster.applied == []
    assert "nothing changed in its 1 file\n" in capsys.readouterr().out


def test_edits_that_a_start_leaves_as_they_are_in_the_session_are_named(folder, capsys, monkeypatch):
    cluster = FakeCluster()
    run(cluster, folder)
    assert "edited" not in capsys.readouterr().out
    edits = {"count": 2, "files": ["~/.promptflow/pf.sqlite", "main.py"]}
    monkeypatch.setattr("unit.cli.fakes.ready_status", lambda generation: ready_status(generation) | {"edits": edits})
    run(cluster, folder)
    assert "as it is there: main.py; kubectl flow edits chat diff" in " ".join(capsys.readouterr().out.split())


def test_a_second_start_pushes_what_changed_and_says_so(folder, capsys, monkeypatch):
    cluster = FakeCluster()
    run(cluster, folder)
    cluster.things[ENVIRONMENT, "chat"]["status"] = {
        "observedGeneration": 1,
        "flowRevision": "old",
        "conditions": [condition("Ready", "True", "Resolved", "")],
    }
    cluster.applied.clear()
    (folder / "new.py").write_text("")
    (folder / "flow.dag.yaml").write_text("nodes: [] # other\n")
    apply = cluster.apply

    def applied(*manifests):
        cluster.things[ENVIRONMENT, "chat"]["status"]["flowRevision"] = "new"
        return apply(*manifests)

    monkeypatch.setitem(cluster.__dict__, "apply", applied)
    run(cluster, folder)
    assert cluster.applied == ["ConfigMap"]
    said = capsys.readouterr().out
    assert "added: new.py\nchanged: flow.dag.yaml\n" in said
    assert "the session has it" in said


def test_a_pushed_folder_that_cannot_be_used_is_told_in_the_operators_words(folder):
    cluster = FakeCluster()
    run(cluster, folder)
    bad = condition("Ready", "False", "FlowInvalid", "flow.dag.yaml: line 3 is odd")
    cluster.things[ENVIRONMENT, "chat"]["status"] = {"observedGeneration": 1, "flowRevision": "old", "conditions": [bad]}
    (folder / "flow.dag.yaml").write_text("nodes: {}\n")
    with pytest.raises(CliError, match=r"the session keeps the one before: flow\.dag\.yaml: line 3 is odd \(FlowInvalid\)"):
        run(cluster, folder)


def test_what_was_asked_for_before_stays(folder, capsys):
    cluster = FakeCluster()
    run(cluster, folder, size="Standard_D2s_v5", variables=("A=1", "B=1"))
    run(cluster, folder, idle="never", variables=("B=2",))
    spec = cluster.get(SESSION, "chat")["spec"]
    assert (spec["compute"]["vmSize"], spec["idle"]) == ("Standard_D2s_v5", {"action": "None"})
    assert spec["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    run(cluster, folder, size="Standard_D4s_v5")
    assert "chat restarts on its new compute" in capsys.readouterr().err


def test_a_suspended_session_is_resumed(folder):
    cluster = FakeCluster()
    run(cluster, folder)
    cluster.things[SESSION, "chat"]["spec"]["suspend"] = True
    run(cluster, folder)
    found = cluster.get(SESSION, "chat")
    assert found["spec"]["suspend"] is False
    assert "flowsession.dev/resume-requested-at" in found["metadata"]["annotations"]


def test_what_belongs_to_others_is_left_alone(folder):
    cluster = FakeCluster()
    run(cluster, folder)
    cluster.__dict__["me"] = "eve@example.com"
    with pytest.raises(CliError, match=r"chat is the session of ada@example.com: give yours another --name, or take theirs by --yes"):
        run(cluster, folder)
    del cluster.things[SESSION, "chat"]
    cluster.things[ENVIRONMENT, "chat"]["spec"]["owner"] = "ada@example.com"
    with pytest.raises(CliError, match=r"the environment chat belongs to ada@example.com"):
        run(cluster, folder)
    cluster.things[ENVIRONMENT, "chat"]["spec"]["source"] = {"git": {"url": "https://x/y"}}
    with pytest.raises(CliError, match=r"there is an environment chat already, with another source \(git\)"):
        run(cluster, folder)
    cluster.put("ComputeSession", "chat", spec={"environmentRef": {"name": "other"}}, status={})
    with pytest.raises(CliError, match="of environment other: give this one another --name"):
        run(cluster, folder)


def test_an_environment_that_is_there_is_started_as_it_is():
    cluster = FakeCluster()
    cluster.put("FlowEnvironment", "team", spec={"requirementsText": "pandas"}, status={})
    run(cluster, "team", "mine")
    assert cluster.applied == ["ComputeSession"]
    assert cluster.get(SESSION, "mine")["spec"]["environmentRef"] == {"name": "team"}
    with pytest.raises(CliError, match="there is no environment nothing; there is team; kubectl flow start DIR makes one"):
        run(cluster, "nothing")


def test_a_start_that_cannot_go_on_says_why(folder):
    stuck = {"observedGeneration": 1, "phase": "Pending", "conditions": []}
    stuck["conditions"] = [condition("Ready", "False", "NoSizeFits", "no size fits"), condition("Stalled", "True", "NoSizeFits", "")]
    with pytest.raises(CliError, match=r"chat can't start: no size fits \(NoSizeFits\)"):
        follow.refuse_stuck("chat", {"metadata": {"generation": 1}, "status": stuck})
    follow.refuse_stuck("chat", {"metadata": {"generation": 2}, "status": stuck})  # the operator has not seen this spec yet


@pytest.mark.parametrize("reason", ["InstanceNotFound", "InstanceOfAnotherUser", "SizeNotFound"])
def test_a_start_that_names_what_is_not_there_is_not_waited_for(reason):
    status = {"observedGeneration": 1, "conditions": [condition("Ready", "False", reason, "there is no such thing")]}
    with pytest.raises(CliError, match=rf"chat can't start: there is no such thing \({reason}\)"):
        follow.refuse_stuck("chat", {"metadata": {"generation": 1}, "status": status})


def test_interrupted_it_says_that_the_start_goes_on(folder, monkeypatch):
    cluster = FakeCluster()

    def interrupted(kind, name):
        raise KeyboardInterrupt

    monkeypatch.setitem(cluster.__dict__, "watch", interrupted)
    with pytest.raises(CliError, match="detached: chat goes on without you") as left:
        run(cluster, folder)
    assert left.value.code == 130
    assert (SESSION, "chat") in cluster.things


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("2d", 172800)])
def test_idle_times(text, seconds):
    assert wanted.idle_of(text) == {"action": "Delete", "timeoutSeconds": seconds}


@pytest.mark.parametrize("text", ["", "1", "1x", "h", "1h 30m", "-1h"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(CliError, match="is no time"):
        wanted.idle_of(text)


def test_options_that_exclude_each_other_are_refused():
    with pytest.raises(CliError, match="--size or --instance"):
        wanted.spec(**NO_OPTIONS | {"size": "a", "instance": "b"})
    with pytest.raises(CliError, match="write NAME=VALUE"):
        wanted.spec(**NO_OPTIONS | {"variables": ("A",)})


def test_ready_is_that_of_the_present_spec():
    session = {"metadata": {}, "status": ready_status(1)}
    assert follow.is_ready(session, 1)
    assert not follow.is_ready(session, 2)


def test_a_new_start_that_cannot_go_on_is_told_at_once(folder, monkeypatch):
    monkeypatch.setattr(follow, "_let_it_react", lambda *_: pytest.fail("there is nothing from before to wait for"))
    run(FakeCluster(), folder)


def test_interrupted_while_it_is_written_it_promises_nothing(folder, monkeypatch):
    cluster = FakeCluster()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(cluster.__dict__, "apply", interrupted)
    with pytest.raises(CliError, match="interrupted while chat was written to the cluster: kubectl flow start goes on with it"):
        run(cluster, folder)


def pushed(in_sync, packages, *, on_change="Install", ready="True", revision="new"):
    conditions = [condition("Ready", ready, "Any", ""), condition("InSync", *in_sync, ""), condition("PackagesInstalled", *packages, "")]
    return {"spec": {"onChange": on_change}, "status": {"flowRevision": revision, "conditions": conditions}}


@pytest.mark.parametrize(
    ("session", "over"),
    [
        (pushed(("True", "InSync"), ("True", "Installed")), True),
        (pushed(("True", "InSync"), ("True", "Installed"), revision="old"), False),
        (pushed(("False", "RequirementsChanged"), ("False", "Installing")), False),
        (pushed(("False", "RequirementsChanged"), ("True", "Installed")), False),
        (pushed(("False", "RequirementsChanged"), ("False", "InstallFailed")), True),
        (pushed(("False", "RequirementsChanged"), ("True", "Installed"), on_change="Wait"), True),
        (pushed(("False", "ImageChanged"), ("True", "Installed"), revision="old"), True),
        (pushed(("False", "FlowChanged"), ("True", "Installed"), revision="old", ready="False"), True),
    ],
)
def test_a_push_is_over_when_its_packages_are_installed_too(session, over):
    assert start._has_flow(session, "new") is over
