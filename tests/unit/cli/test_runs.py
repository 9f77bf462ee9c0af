"""Runs over data: what `run create` asks for, how a run is followed, what is kept of it, and how prompt flow's own commands translate."""

import base64
import contextlib
import io
import json
import tarfile

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from flowsession_cli import app, changes, cluster, pack, render, run_files, run_follow
from flowsession_cli.commands import run_create, runs
from flowsession_cli.errors import CliError, Unreachable
from unit.cli.fakes import FakeCluster, condition, ready_status


class RunCluster(FakeCluster):
    """A cluster with runs, the changes that a watch of them shows, and the output of commands in pods."""

    def __init__(self):
        super().__init__()
        self.__dict__.update(made=[], happens=[], prints=b"", commands=[])

    def create(self, manifest):
        self.made.append(manifest)
        if any(name == manifest["metadata"]["name"] and kind == cluster.RUN for kind, name in self.things):
            raise CliError("exists")
        if manifest["kind"] == "FlowRun":
            self.put("FlowRun", manifest["metadata"]["name"], spec=manifest["spec"], status={})
        else:
            self.things["configmap", manifest["metadata"]["name"]] = {**manifest, "spec": {}}
        return {**manifest, "metadata": {**manifest["metadata"], "uid": "0123456789"}}

    def patch(self, kind, name, change):
        if owners := change.get("metadata", {}).get("ownerReferences"):
            self.things[kind, name]["metadata"]["ownerReferences"] = owners
            return self.things[kind, name]
        return super().patch(kind, name, change)

    @contextlib.contextmanager
    def watch(self, kind, name):
        if not self.happens:
            raise KeyboardInterrupt
        happened = self.happens.pop(0)
        if isinstance(happened, Exception):
            raise happened
        yield iter([{"type": "MODIFIED", "object": run(name, **status)} for status in happened])

    @contextlib.contextmanager
    def printed(self, pod, *command):
        self.commands.append((pod, *command))
        yield io.BytesIO(self.prints)


@pytest.fixture
def there(monkeypatch):
    """A cluster in memory, for every command."""
    fake = RunCluster()
    monkeypatch.setattr("flowsession_cli.cluster.Cluster", lambda **_: fake)
    monkeypatch.setattr(changes, "_PAUSE_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(runs, "_LOG_SECONDS", 0.0)
    return fake


def flow_run(*words):
    return CliRunner().invoke(app.cli, ("run", *words))


def run(name="answers", **status):
    spec = {"user": "ada@example.com", "environmentRef": {"name": "chat"}}
    return {
        "metadata": {"name": name, "namespace": "default", "uid": "0123456789ab", "creationTimestamp": "2026-11-29T10:00:00Z"},
        "spec": spec,
        "status": status,
    }


FAILED = {
    "phase": "Failed",
    "progress": "2/3, 1 failed",
    "lines": {"total": 3, "completed": 2, "failed": 1},
    "errors": [{"line": 1, "node": "answer", "message": "no such word"}],
    "metrics": {"accuracy": "0.5", "note": "odd"},
    "outputs": {"configMapNames": ["answers-outputs"]},
    "startedAt": "2026-11-29T10:00:00Z",
    "completedAt": "2026-11-29T10:00:12Z",
    "conditions": [condition("Complete", "False", "LinesFailed", "1 of 3 lines failed")],
}
FILES = {
    "inputs.jsonl": "".join(json.dumps({"line_number": n, "word": f"w{n}"}) + "\n" for n in range(3)),
    "flow_outputs/output.jsonl": '{"line_number": 0, "said": "a\\nb"}\n{"line_number": 2, "said": {"x": 1}}\n',
    "error.json": json.dumps({"additionalInfo": [{"info": {"errors": [{"line_number": 1, "error": {"message": "no such  word"}}]}}]}),
    "logs.txt": "one\ntwo\n",
    "metrics.json": "{}",
}


def archive(files, **more):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **more) as opened:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            opened.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def kept(fake, files=FILES, **status):
    fake.put("FlowRun", "answers", spec=run()["spec"], status=FAILED | status)
    fake.things["configmap", "answers-outputs"] = {"binaryData": {"outputs.tar.gz": base64.b64encode(archive(files)).decode()}}


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "chat"
    made.mkdir()
    (made / "flow.dag.yaml").write_text("nodes: []")
    (made / "data.jsonl").write_text("{}\n")
    return made


# Creating


def test_data_of_a_run_is_that_of_the_folder_or_goes_along(tmp_path, folder):
    for place in (folder / "left.jsonl", tmp_path / "my data.jsonl"):
        place.write_text("{}\n")
    (folder / ".amlignore").write_text("left.jsonl\n")
    packed = pack.pack(folder)
    assert run_create.data_of("r", folder, packed, folder / "data.jsonl") == ({"path": "data.jsonl"}, None)
    reference, config_map = run_create.data_of("r", folder, packed, tmp_path / "my data.jsonl")
    assert reference == {"configMap": {"name": "r-data", "key": "my-data.jsonl"}}
    assert config_map["data"] == {"my-data.jsonl": "{}\n"}
    assert run_create.data_of("r", folder, packed, folder / "left.jsonl")[0]["configMap"]["key"] == "left.jsonl", "it was not pushed"
    (tmp_path / "big.csv").write_bytes(b"x" * 1_000_001)
    with pytest.raises(CliError, match=r"big\.csv has 1\.0 MB.*PersistentVolumeClaim"):
        run_create.data_of("r", None, None, tmp_path / "big.csv")


def test_data_that_is_new_or_changed_since_the_last_start_goes_along(folder):
    pushed = pack.unpacked(pack.pack(folder).archive)
    spec, config_map = run_create.Wanted(data=folder / "data.jsonl").spec("r", folder, {}, pushed)
    assert (spec["data"], config_map) == ({"path": "data.jsonl"}, None)
    for file in ("data.jsonl", "new.jsonl"):
        (folder / file).write_text('{"changed": 1}\n')
        spec, config_map = run_create.Wanted(data=folder / file).spec("r", folder, {}, pushed)
        assert config_map["data"] == {file: '{"changed": 1}\n'}
        assert spec["data"] == {"configMap": {"name": "r-data", "key": file}}


def test_data_of_a_flow_that_includes_files_from_beside_it(tmp_path, folder):
    (tmp_path / "shared.py").write_text("")
    (folder / "flow.dag.yaml").write_text("nodes: []\nadditional_includes: [../shared.py]\n")
    packed = pack.pack(folder)
    assert packed.flow_path == "chat"
    assert run_create.data_of("r", folder, packed, folder / "data.jsonl") == ({"path": "data.jsonl"}, None)
    (folder / "run.yml").write_text("data: data.jsonl\n")
    spec, config_map = run_create.Wanted(run_yaml=folder / "run.yml").spec("r", folder, {"data": "data.jsonl"})
    assert (spec["path"], "data" in spec, config_map) == ("chat/run.yml", False, None)


def test_every_option_of_prompt_flow_becomes_a_field(there, folder, tmp_path):
    there.put("FlowEnvironment", "chat")
    (tmp_path / "my.env").write_text("# words\nexport A=1\nB='two words'\nC=3 # three\n\nodd\n")
    words = (
        *("create", "--flow", str(folder), "--data", str(folder / "data.jsonl"), "--name", "answers", "--no-wait"),
        *("--column-mapping", "question=${data.q}", "tone=dry", "--variant", "answer.v1", "--run", "first"),
        *("--connections", "answer.connection=other", "answer.deployment_name=gpt", "--init", "x=1", "y=a=b"),
        *("--environment-variables", "D=4", str(tmp_path / "my.env"), "--set", "display_name=Mine", "tags.team=a", "description=why"),
        *("--session", "s", "--size", "D2", "--identity", "nightly", "--concurrency", "4", "--line-timeout", "90", "--timeout", "1h30m"),
        *("--outputs-claim", "results/runs/a"),
    )
    done = flow_run(*words)
    assert done.exit_code == 0, done.exception
    assert there.made[0]["spec"] == {
        "user": "ada@example.com",
        "environmentRef": {"name": "chat"},
        "data": {"path": "data.jsonl"},
        "columnMapping": {"question": "${data.q}", "tone": "dry"},
        "run": "first",
        "variant": "${answer.v1}",
        "connections": {"answer": {"connection": "other", "deployment_name": "gpt"}},
        "init": {"x": "1", "y": "a=b"},
        "environmentVariables": {"D": "4", "A": "1", "B": "two words", "C": "3"},
        "displayName": "Mine",
        "description": "why",
        "tags": {"team": "a"},
        "sessionRef": {"name": "s"},
        "resources": {"instanceType": "D2"},
        "identity": {"type": "Managed", "serviceAccountName": "nightly"},
        "lines": {"concurrency": 4, "timeoutSeconds": 90},
        "timeoutSeconds": 5400,
        "outputs": {"persistentVolumeClaim": {"claimName": "results", "path": "runs/a"}},
    }


def test_resuming_takes_the_environment_of_the_earlier_run(there):
    there.put("FlowRun", "first", spec=run()["spec"], status=FAILED)
    assert flow_run("create", "--resume-from", "first", "--name", "second", "--no-wait").exit_code == 0
    assert there.made[0]["spec"] == {"user": "ada@example.com", "environmentRef": {"name": "chat"}, "resumeFrom": "first"}


def test_a_run_yml_names_flow_name_and_data(there, folder, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    there.put("FlowEnvironment", "chat")
    file = tmp_path / "run.yml"
    (tmp_path / "elsewhere.jsonl").write_text("{}\n")
    file.write_text("flow: chat/flow.dag.yaml\nname: nightly\ndata: elsewhere.jsonl\n")
    done = flow_run("create", "-f", str(file), "--no-wait")
    assert done.exit_code == 0, done.exception
    config_map, made = there.made
    assert (made["metadata"]["name"], made["spec"]["environmentRef"]) == ("nightly", {"name": "chat"})
    assert made["spec"]["data"] == {"configMap": {"name": "nightly-data", "key": "elsewhere.jsonl"}}
    assert config_map["data"] == {"elsewhere.jsonl": "{}\n"}
    owner = there.things["configmap", "nightly-data"]["metadata"]["ownerReferences"]
    assert owner == [{"apiVersion": "flowsession.dev/v1alpha1", "kind": "FlowRun", "name": "nightly", "uid": "0123456789"}]


def test_data_of_a_run_that_is_refused_does_not_stay(there, folder, tmp_path):
    there.put("FlowEnvironment", "chat")
    there.put("FlowRun", "answers", spec={}, status={})
    (tmp_path / "d.csv").write_text("a\n1\n")
    done = flow_run("create", str(folder), "--data", str(tmp_path / "d.csv"), "--name", "answers")
    assert str(done.exception) == "exists"
    assert there.deleted == [("configmap", "answers-data")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create"], "a run needs data"),
        (["create", "nothing", "--run", "a"], "there is no environment nothing; there is none here; kubectl flow start DIR"),
        (["create", "chat", "--run", "a", "--name", "A_b"], "A_b is no name for a run"),
        (["create", "chat", "--run", "a", "--connections", "answer=x"], "--connections answer=x has no field"),
        (["create", "chat", "--run", "a", "--column-mapping", "x"], "--column-mapping x has no value"),
        (["create", "chat", "--run", "a", "--environment-variables", "/nowhere/.env"], "/nowhere/.env: No such file"),
        (["create", "chat", "--run", "a", "--set", "name=x"], "--set name can't be set"),
        (["create", "chat", "--run", "a", "--timeout", "soon"], "--timeout soon is no time"),
        (["create", "chat", "--run", "a", "--init", "x.json"], "--init x.json: No such file"),
        (["stream", "nothing"], "there is no run nothing; kubectl flow run create makes one"),
        (["details", "--name", "nothing"], "there is no run nothing"),
    ],
)
def test_what_is_wrong_is_said_with_the_way_out(there, words, said):
    if words[1:2] == ["chat"]:
        there.put("FlowEnvironment", "chat")
    done = flow_run(*words)
    assert isinstance(done.exception, CliError), done.output
    assert said in str(done.exception)


def test_prompt_flows_names_of_commands_are_known():
    context = click.Context(runs.run_command)
    for name, ours in (("list", "ls"), ("show-details", "details"), ("show-metrics", "metrics"), ("delete", "rm")):
        assert runs.run_command.get_command(context, name).name == ours
    assert "did you mean stream?" in flow_run("strem").output


# Following


def test_a_run_is_followed_to_its_end_and_its_failed_lines_are_told(there):
    there.put("FlowRun", "answers", spec=run()["spec"], status={})
    running = {"phase": "Running", "progress": "1/3", "lines": {"total": 3, "completed": 1, "failed": 0}}
    there.happens[:] = [[{"phase": "Queued"}, running, running], [FAILED]]
    done = flow_run("stream", "answers")
    assert done.exit_code == 1
    told = [line.partition(" s  ")[2] for line in done.stdout.splitlines() if " s  " in line]
    assert told == ["Queued", "Running 1/3", "Failed 2/3, 1 failed: 1 of 3 lines failed"]
    assert done.stderr == "line 1, node answer: no such word\n"
    assert "accuracy: 0.5\nnote: odd\n" in done.stdout
    assert "kubectl flow run details answers" in done.stdout


def test_a_run_that_completes_is_success(there):
    there.put("FlowRun", "answers", spec=run()["spec"], status={})
    there.happens[:] = [[{"phase": "Completed", "progress": "3/3"}]]
    assert flow_run("stream", "--name", "answers").exit_code == 0


@pytest.mark.parametrize(("lines", "way"), [({"total": 5, "completed": 4, "failed": 1}, "details"), ({"total": 5}, "logs")])
def test_what_shows_more_of_a_run_that_is_over_has_more_to_show(lines, way, capsys):
    run_follow.print_result({"metadata": {"name": "one"}, "status": {"phase": "Failed", "lines": lines, "outputs": {"configMap": "x"}}})
    assert capsys.readouterr().out.splitlines()[0].startswith(f"kubectl flow run {way} one ")


def test_a_broken_connection_is_told_once_and_made_again(there):
    there.put("FlowRun", "answers", spec=run()["spec"], status={})
    lost = Unreachable("the cluster doesn't answer: refused")
    there.happens[:] = [[{"phase": "Running"}], lost, lost, [{"phase": "Completed"}]]
    done = flow_run("stream", "answers")
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [
        "the cluster doesn't answer: refused; run answers goes on, and is looked for again until ^C",
        "the cluster answers again",
    ]


def test_what_is_no_broken_connection_ends_it(there):
    there.put("FlowRun", "answers", spec=run()["spec"], status={})
    there.happens[:] = [CliError("ada may not watch flowruns")]
    assert str(flow_run("stream", "answers").exception) == "ada may not watch flowruns"


def test_interrupted_it_detaches(there):
    there.put("FlowRun", "answers", spec=run()["spec"], status={})
    done = flow_run("stream", "answers")
    assert (done.exception.code, str(done.exception)[:40]) == (130, "detached: answers goes on without you; k")


def test_a_run_that_is_deleted_meanwhile_is_no_endless_wait(there):
    there.put("FlowRun", "answers", spec=run()["spec"], status={})
    there.happens[:] = [[{"phase": "Running"}]]
    original = there.find
    calls = []

    def find(kind, name):
        calls.append(name)
        return original(kind, name) if len(calls) < 2 else None

    there.__dict__["find"] = find
    assert "run answers was deleted, and its outputs" in str(flow_run("stream", "answers").exception)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_picture_fits_in(width):
    picture = run_follow.RunPicture("answers")
    picture.take(run(**FAILED | {"phase": "Running", "completedAt": None}))
    out = Console(file=io.StringIO(), width=width, highlight=False, emoji=False, markup=False)
    out.print(picture.at(render.seconds_of("2026-11-29T10:00:30Z"), width))
    shown = out.file.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    assert "Running" in shown
    assert "3/3, 1 failed" in shown
    assert "30s" in shown
    assert "━━━━━━" in shown


# What is kept


def test_details_are_a_table_with_failed_lines(there):
    kept(there)
    done = flow_run("details", "answers")
    assert done.exit_code == 0, done.exception
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["line", "inputs.word", "outputs.said"],
        ["0", "w0", "a\\nb"],
        ["1", "w1", "(Failed)"],
        ["2", "w2", '{"x":', "1}"],
    ]
    assert done.stderr == "line 1: no such word\n"
    fewer = flow_run("show-details", "--name", "answers", "-r", "1")
    assert len(fewer.stdout.splitlines()) == 2
    assert fewer.stderr == "1 of 3 lines; --all-results shows all, -o json as JSON\n"


def test_details_as_json(there):
    kept(there)
    assert json.loads(flow_run("details", "answers", "-o", "json").stdout) == [
        {"line_number": 0, "inputs": {"word": "w0"}, "outputs": {"said": "a\nb"}},
        {"line_number": 1, "inputs": {"word": "w1"}, "outputs": {}, "error": "no such word"},
        {"line_number": 2, "inputs": {"word": "w2"}, "outputs": {"said": {"x": 1}}},
    ]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_details_keep_to_the_terminal(width):
    lines = [{"line_number": 0, "inputs": {"question": "w " * 60, "long": "x" * 100}, "outputs": {"answer": "é" * 90}}]
    out = Console(file=io.StringIO(), width=width, highlight=False, emoji=False, markup=False)
    runs.show_details(out, lines)
    assert max(map(len, out.file.getvalue().splitlines())) <= width
    first, *_ = out.file.getvalue().splitlines()
    assert first.split() == (["line", "0"] if width == 40 else ["line", "inputs.question", "inputs.long", "outputs.answer"])


def test_metrics_are_numbers_again(there):
    kept(there)
    assert json.loads(flow_run("metrics", "answers").stdout) == {"accuracy": 0.5, "note": "odd"}


@pytest.mark.parametrize("command", ["metrics", "details", "download"])
def test_a_run_that_is_not_over_has_none(there, command):
    there.put("FlowRun", "answers", spec=run()["spec"], status={"phase": "Running"})
    assert "answers is Running" in str(flow_run(command, "answers").exception)


def test_a_download_is_whole_and_never_over_what_is_there(there, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept(there)
    assert flow_run("download", "answers").stdout == "5 files in answers\n"
    assert (tmp_path / "answers" / "flow_outputs" / "output.jsonl").read_text() == FILES["flow_outputs/output.jsonl"]
    (tmp_path / "answers" / "logs.txt").write_text("mine")
    assert "not empty" in str(flow_run("download", "answers").exception)
    assert (tmp_path / "answers" / "logs.txt").read_text() == "mine"
    assert flow_run("download", "answers", "--overwrite").exit_code == 0
    assert (tmp_path / "answers" / "logs.txt").read_text() == FILES["logs.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["answers"]


def test_an_archive_writes_nothing_outside_of_its_folder(there, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept(there, {"../out": "x", "/abs": "x", "./in": "y"})
    assert flow_run("download", "answers", "a/b").stdout == "1 files in a/b\n"
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == ["a/b/in"]


def test_outputs_on_a_claim_come_through_a_session_that_mounts_it(there, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept(there, outputs={"persistentVolumeClaim": {"claimName": "results", "path": "runs/answers-01234567"}})
    there.prints = None
    said = str(flow_run("download", "answers").exception)
    assert "no session here mounts it: have one mount it" in said
    assert """--type=merge -p '{"spec":{"claims":[{"claimName":"results","readOnly":true}]}}'""" in said
    spec = {"environmentRef": {"name": "chat"}, "claims": [{"claimName": "results"}]}
    there.put("ComputeSession", "chat", spec=spec, status=ready_status())
    there.__dict__["prints"] = b""
    assert "kubectl flow reset chat mounts it" in str(flow_run("download", "answers").exception)
    there.commands.clear()
    there.__dict__["prints"] = archive({f"./{name}": text for name, text in FILES.items()})
    assert flow_run("download", "answers").exit_code == 0
    assert there.commands == [("chat-1", "tar", "-C", "/claims/results/runs/answers-01234567", "-cf", "-", ".")]
    assert len(json.loads(flow_run("details", "answers", "-o", "json").stdout)) == 3


def test_a_run_that_kept_nothing_says_why(there):
    kept(there, outputs=None)
    assert str(flow_run("details", "answers").exception) == "answers kept no outputs: 1 of 3 lines failed"


def test_logs_of_a_run_that_is_over_and_of_one_that_runs(there):
    kept(there)
    assert flow_run("logs", "answers").stdout == "one\ntwo\n"
    kept(there, outputs=None, logTail="the end\n")
    assert flow_run("logs", "answers").stdout == "the end\n"
    there.put("FlowRun", "answers", **{key: run()[key] for key in ("spec", "metadata")}, status={"phase": "Running", "podName": "chat-1"})
    there.__dict__["prints"] = b"so far\n"
    assert flow_run("logs", "answers").stdout == "so far\n"
    assert there.commands[-1][-2:] == ("/session/runs/0123456789ab/out/answers-01234567/logs.txt", "1")


def test_logs_are_followed_to_the_end(there, monkeypatch):
    kept(there)
    over = there.get(cluster.RUN, "answers")
    seen = iter([run(phase="Running", podName="chat-1"), Unreachable("no answer"), over])
    there.__dict__["prints"] = b"one\n"

    def find(kind, name):
        found = next(seen)
        if isinstance(found, Exception):
            raise found
        return found

    there.__dict__["find"] = find
    there.__dict__["get"] = lambda kind, name: there.things[kind, name]
    done = flow_run("logs", "answers", "-f")
    assert (done.stdout, done.stderr) == ("one\ntwo\n", "no answer; tried again until ^C\n")


def test_deleting_asks_and_names_what_would_end(there):
    there.put("FlowRun", "answers", spec=run()["spec"], status={"phase": "Running"})
    asked = flow_run("rm", "answers")
    assert "answers is not over, and would end" in str(asked.exception)
    assert there.deleted == []
    assert flow_run("delete", "--name", "answers", "-y").output == "answers is deleted\n"
    assert there.deleted == [(cluster.RUN, "answers")]


def test_lines_without_numbers_are_counted():
    assert run_files.lines_of(b'{"a": 1}\n\n{"a": 2}\n') == {0: {"a": 1}, 1: {"a": 2}}


def test_a_run_that_stays_queued_shows_how_to_find_out_why():
    picture = run_follow.RunPicture("answers")
    waits = [condition("Complete", "False", "SessionNotReady", "the session is Pending")]
    picture.take(run(phase="Queued", conditions=waits))
    for seconds, shown in ((5, False), (15, True)):
        out = Console(file=io.StringIO(), width=80, highlight=False, emoji=False, markup=False)
        out.print(picture.at(picture.began + seconds, 80))
        assert ("kubectl flow why run/answers says more" in out.file.getvalue()) is shown
