"""The command line: what is listed works, help is fast, and nothing ends in a traceback."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from flowsession_cli import __main__, app, complete, follow, naming
from flowsession_cli.cluster import SESSION
from flowsession_cli.commands import inside, sessions
from flowsession_cli.errors import CliError
from unit.cli.fakes import FakeCluster, condition, ready_status

OPERATOR = Path(app.__file__).parents[1]
DOCUMENT = (OPERATOR.parent / "docs" / "kubectl-flow.md").read_text()


def program(*words, **environ):
    return subprocess.run(
        [sys.executable, "-m", "flowsession_cli", *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(OPERATOR)} | environ,
    )


def leaves(group, path=()):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(leaves(app.cli))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_says_what_it_does_and_stands_in_the_document(path):
    shown = CliRunner().invoke(app.cli, [*path, "--help"])
    assert shown.exit_code == 0, shown.output
    assert COMMANDS[path].help
    assert all(option.help for option in COMMANDS[path].params if isinstance(option, click.Option))
    assert re.search(rf"`{' '.join(path)}\b", DOCUMENT), f"docs/kubectl-flow.md doesn't tell of {' '.join(path)}"


def test_the_document_tells_of_no_option_that_is_not_there():
    there = {name for command in COMMANDS.values() for option in command.params for name in (*option.opts, *option.secondary_opts)}
    assert set(re.findall(r"(?<![-\w])--?[a-zA-Z][-a-z]*", DOCUMENT.partition("## What runs")[0])) <= there | {"-A"}


def test_help_imports_nothing_that_it_does_without():
    code = (
        "import sys; from flowsession_cli import app; app.cli.main(['--help'], standalone_mode=False);"
        " print('imported', *sorted({'rich', 'yaml', 'pathspec', 'pydantic', 'kubernetes', 'subprocess'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(OPERATOR)}
    )
    assert done.stdout.splitlines()[-1] == "imported"


def test_help_takes_little_processor_time():
    """It takes under 150 ms on an idle machine. On a busy one a processor takes about twice as long for the same work."""
    took = []
    for _ in range(5):
        before = os.times()
        program("--help")
        after = os.times()
        took.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(took) < 0.3, took


@pytest.mark.parametrize("words", [(), ("start",), ("run", "create"), ("connection", "create"), ("env", "update")])
def test_help_fits_a_terminal_of_40_columns_without_breaking_words_that_fit(words):
    text = program(*words, "--help", COLUMNS="40").stdout
    options = text[text.index("Options:") :]
    assert max(map(len, options.splitlines())) <= 40
    wide = program(*words, "--help", COLUMNS="200").stdout.split()
    broken = [word for word in options.split() if word not in wide and not any(word in one for one in wide if len(one) > 20)]
    assert broken == []


def test_nothing_given_is_help_and_a_mistyped_command_gets_the_nearest():
    assert program().returncode == 0
    wrong = program("statsu")
    assert (wrong.returncode, "there is no command 'statsu': did you mean status?" in wrong.stderr) == (2, True)


def test_errors_are_one_sentence_and_debug_shows_more():
    said = program("ls", PATH="/nowhere")
    assert (said.returncode, said.stderr.count("\n")) == (1, 1)
    assert "Traceback" in program("ls", "--debug", PATH="/nowhere").stderr


def test_an_error_of_ours_is_one_sentence_too(capsys):
    assert __main__._report(ValueError("odd")) == 1
    assert capsys.readouterr().err == "kubectl flow: an error of this program, ValueError: odd; --debug shows where, for a report of it\n"


def test_a_file_that_cannot_be_written_is_no_error_of_ours(capsys):
    assert __main__._report(FileNotFoundError(2, "No such file or directory", "/nowhere/x")) == 1
    assert __main__._report(OSError(28, "No space left on device")) == 1
    assert capsys.readouterr().err == "kubectl flow: /nowhere/x: No such file or directory\nkubectl flow: No space left on device\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(shell):
    done = program("completion", shell)
    assert "_KUBECTL_FLOW_COMPLETE" in done.stdout
    assert "kubectl-flow" in done.stdout


def test_completion_knows_commands():
    done = program(_KUBECTL_FLOW_COMPLETE="bash_complete", COMP_WORDS="kubectl-flow st", COMP_CWORD="1")
    assert done.stdout.split() == ["plain,start", "plain,status", "plain,stop"]


def test_kubectl_is_told_what_completes(cluster):
    session(cluster)
    session(cluster, "other")
    assert complete.completions(["st"])[0].startswith("start")
    assert complete.completions(["st"])[-1] == ":4"
    assert complete.completions(["status", "c"]) == ["chat", ":4"]
    assert complete.completions(["start", "nothing"]) == [":0"], "folders"


def session(cluster, name="chat", **status):
    return cluster.put("ComputeSession", name, spec={"environmentRef": {"name": name}}, status=status or ready_status())


@pytest.fixture
def cluster(monkeypatch):
    """A cluster in memory, for every command."""
    fake = FakeCluster()
    monkeypatch.setattr("flowsession_cli.cluster.Cluster", lambda **_: fake)
    return fake


def run(*words):
    return CliRunner().invoke(app.cli, words)


@pytest.mark.parametrize(("command", "words"), [("stop", "deleted"), ("suspend", "suspended"), ("reset", "reset")])
def test_what_ends_work_asks(cluster, command, words):
    session(cluster)
    asked = run(command, "chat")
    assert isinstance(asked.exception, CliError)
    assert "give --yes" in str(asked.exception)
    assert words in run(command, "chat", "--yes", *(["--no-wait"] if command == "reset" else [])).output
    assert cluster.deleted == ([(SESSION, "chat")] if command == "stop" else [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("suspend", "chat", "--yes"),
            "spec.suspend of chat belongs to Argo CD (argocd-controller), which would set it back: change it where",
        ),
        (("set", "chat", "--idle", "2h"), "spec.idle of chat belongs to Argo CD (argocd-controller), which would set it back"),
        (("stop", "chat"), "Argo CD manages it and makes it again: take it out there"),
    ],
)
def test_what_argo_has_written_is_not_changed_over_its_head(cluster, words, said):
    meta = session(cluster)["metadata"]
    meta["managedFields"] = [
        {"manager": "kubectl-flow", "fieldsV1": {"f:spec": {"f:env": {}}}},
        {"manager": "argocd-controller", "fieldsV1": {"f:spec": {"f:suspend": {}, "f:idle": {}}}},
    ]
    refused = run(*words)
    assert said in str(refused.exception)
    assert cluster.deleted == []
    assert "suspend" not in cluster.get(SESSION, "chat")["spec"]


def test_a_session_that_is_not_there_names_those_that_are(cluster):
    session(cluster, "other")
    with pytest.raises(CliError, match="there is no session chat; there is other; kubectl flow why chat"):
        naming.session(cluster, "chat")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("box", "box is an instance, and no session: kubectl flow why instance/box"),
        ("run/one", "run/one is no session, which is meant here: kubectl flow run show one"),
        ("session/chat", "session/chat is no session, which is meant here: leave session/ away"),
    ],
)
def test_what_is_no_session_is_told_with_what_shows_it(cluster, name, said):
    cluster.put("ComputeInstance", "box", spec={}, status={})
    with pytest.raises(CliError, match=said):
        naming.session(cluster, name)


@pytest.mark.parametrize(
    ("environment", "way"), [("chat", "kubectl flow start chat starts"), ("team", "kubectl flow start team --name chat starts")]
)
def test_a_session_that_is_stopped_is_started_again_by_its_environment(cluster, environment, way):
    session(cluster)["spec"]["environmentRef"]["name"] = environment
    words = ("stop", "chat", "--yes")
    assert way in run(*words).output


@pytest.mark.parametrize("words", [("ls",), ("run", "ls"), ("top",), ("connection", "ls"), ("status", "chat"), ("env", "show", "chat")])
def test_where_nothing_is_found_a_missing_namespace_is_told(cluster, words):
    cluster.__dict__["missing"] = "team"
    assert str(run(*words).exception) == "there is no namespace team"


def test_status_hands_out_the_object_too(cluster, monkeypatch):
    def become(*words):
        raise SystemExit(" ".join(words))

    monkeypatch.setitem(cluster.__dict__, "become", become)
    words = ("status", "chat", "-o", "yaml")
    assert str(run(*words).exception) == f"get {SESSION} chat -o=yaml"


@pytest.mark.parametrize(
    ("running", "status", "asked", "waits"),
    [
        (False, {}, "", False),
        (True, {"stopped": {"by": "Idle"}}, "", False),
        (True, {"stopped": {"by": "Idle"}, "handledRequests": {"resume": "one"}}, "one", False),
        (True, {"stopped": {"by": "Idle"}, "handledRequests": {"resume": "one"}}, "two", True),
        (True, {}, "", True),
    ],
)
def test_a_session_on_a_stopped_instance_is_not_waited_for(cluster, running, status, asked, waits):
    thing = session(cluster, observedGeneration=1, conditions=[condition("Ready", "False", "InstanceStopped", "it is stopped")])
    thing["spec"]["compute"] = {"type": "Instance", "instanceRef": {"name": "box"}}
    box = cluster.put("ComputeInstance", "box", spec={"running": running}, status=status)
    box["metadata"]["annotations"] = {"flowsession.dev/resume-requested-at": asked}
    if waits:
        assert follow.is_ready(naming.usable(cluster, "chat"))
    else:
        with pytest.raises(CliError, match="chat is on the instance box, which is stopped: kubectl flow instance start box starts both"):
            naming.usable(cluster, "chat")


def test_a_suspended_session_is_resumed_by_what_needs_it_and_that_is_said(cluster, capsys):
    session(cluster, phase="Suspended", conditions=[condition("Ready", "False", "Suspended", "suspended by Idle")])
    assert naming.usable(cluster, "chat")["status"]["podName"] == "chat-1"
    assert "chat is suspended: it is resumed" in capsys.readouterr().err
    assert "flowsession.dev/resume-requested-at" in cluster.get(SESSION, "chat")["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("test", "chat"), ["flow", "test"]),
        (("test", "chat", "--inputs", "a=b c", "--node", "n"), ["flow", "test", "--inputs", "a=b c", "--node", "n"]),
        (("test", "chat", "--traceback"), ["flow", "test", "--traceback"]),
        (("test", "chat", "--inputs", "a=b", "c=d e", "--inputs", "f=g"), ["flow", "test", "--inputs", "a=b", "c=d e", "f=g"]),
        (("chat", "chat", "--inputs", "a=b", "--variant", "n.v"), ["flow", "chat", "--inputs", "a=b", "--variant", "n.v"]),
        (("check", "chat"), ["flow", "check"]),
        (("check", "chat", "-o", "json"), ["flow", "check", "--json"]),
        (("exec", "chat", "--", "python", "-c", "1", "--debug"), ["python", "-c", "1", "--debug"]),
        (("exec", "chat", "-n", "x", "--", "python", "-n"), ["python", "-n"]),
    ],
)
def test_commands_go_to_the_sessions_pod(cluster, monkeypatch, words, command):
    session(cluster)
    called = []
    monkeypatch.setattr("flowsession_cli.executing.run", lambda command, _: called.append(command))
    assert run(*words).exception is None
    given = tuple(called[0][called[0].index("exec") :])
    assert given[: given.index("--") + 1] == ("exec", *(["-i"] if words[0] in ("exec", "chat") else []), "chat-1", "-c", "session", "--")
    env, call, *rest = given[given.index("--") + 1 :]
    assert (env, call.partition("=")[0], rest) == ("env", "FLOWSESSION_CALL", command)


def test_inputs_of_a_file(tmp_path):
    file = tmp_path / "inputs.json"
    file.write_text('{"question": "why?", "history": [1]}')
    assert inside._of_file(file) == ["question=why?", "history=[1]"]
    file.write_text("[")
    with pytest.raises(CliError, match="is no JSON"):
        inside._of_file(file)


def test_a_start_in_a_pipe_is_a_line_for_each_event_once(capsys):
    lines = follow.Lines("chat")
    for message in ("waits", "waits", "runs"):
        lines.show({"status": {"phase": "Starting", "conditions": [condition("Ready", "False", "Starting", message)]}})
    assert [line.split(" s  ")[1] for line in capsys.readouterr().out.splitlines()] == ["Starting: waits", "Starting: runs"]


def test_idle_never_is_shown_as_such():
    assert sessions.idle_end({"spec": {"idle": {"action": "None"}}, "status": {}}, 0) == "never"
