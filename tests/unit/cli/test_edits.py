"""Pulling a session's edits: what is written, merged, left alone and asked about. The session's own agent packs them."""

import io
import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from flowsession_agent import digests
from flowsession_agent.edits import pack_all, pushed
from flowsession_agent.session.record import Record
from flowsession_agent.settings import Home
from flowsession_cli import app, edits, merge
from flowsession_cli.cluster import ENVIRONMENT
from flowsession_cli.commands.edits import ACTIONS
from flowsession_cli.errors import CliError
from unit.cli.fakes import FakeCluster, condition, ready_status

PUSHED = {"flow.dag.yaml": b"nodes: []\n", "a.py": b"one\ntwo\nthree\n", "old.txt": b"old\n"}


class Session:
    """A session's flow folder with the pushed files, and the local folder that they came from."""

    def __init__(self, folder, files):
        self.home = Home(str(folder / "home"))
        self.flow = Path(self.home.flow)
        self.local = folder / "chat"
        self.broken = 0
        record = Record(self.home.record)
        self.flow.mkdir(parents=True)
        for name, content in files.items():
            for root in (self.flow, self.local):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(content)
        record.has_flow, record.pushed = True, {name: digests.of_content(content) for name, content in files.items()}
        record.save()
        pushed.keep(self.home.pushed, files)

    def push(self, name, content):
        """Push a file to the session that differs from the local one."""
        record = Record(self.home.record)
        record.load()
        record.pushed[name] = digests.of_content(content)
        record.save()
        (self.flow / name).write_bytes(content)
        pushed.keep(self.home.pushed, {**PUSHED, name: content})

    def packed(self):
        buffer = io.BytesIO()
        pack_all.write(self.home, buffer)
        return buffer.getvalue()


@pytest.fixture
def session(tmp_path, monkeypatch):
    made = Session(tmp_path, PUSHED)
    cluster = FakeCluster()
    cluster.put("ComputeSession", "chat", spec={"environmentRef": {"name": "chat"}}, status=ready_status())
    cluster.put("FlowEnvironment", "chat", spec={"source": {"archive": {"configMap": {"name": "chat-folder", "key": "x"}}}})
    monkeypatch.setattr("flowsession_cli.cluster.Cluster", lambda **_: cluster)

    def read_from(pod, command, target):
        assert (pod, command) == ("chat-1", ["flow", "edits", "--pack"])
        content = made.packed()
        made.broken -= 1
        target.write(content[: len(content) // 2] if made.broken >= 0 else content)

    cluster.__dict__.update(read_from=read_from, executed=[])
    monkeypatch.setattr("flowsession_cli.executing.run", lambda command, _: cluster.executed.append(tuple(command[1:])))
    made.cluster = cluster
    return made


def typed(*words, stdin=None):
    return CliRunner().invoke(app.cli, ["edits", *map(str, words)], input=stdin)


def pull(session, *words):
    return typed("chat", "pull", session.local, *words)


def test_what_is_unchanged_here_is_written(session):
    (session.flow / "a.py").write_bytes(b"edited\n")
    (session.flow / "new").mkdir()
    (session.flow / "new" / "ünï.bin").write_bytes(bytes(range(256)))
    (session.flow / "run.sh").write_text("#!/bin/sh\n")
    (session.flow / "run.sh").chmod(0o755)
    (session.local / "a.py").chmod(0o640)
    done = pull(session)
    assert done.exit_code == 0, done.output
    assert "written: a.py\nwritten: new/ünï.bin\nwritten: run.sh\n" in done.output
    assert (session.local / "a.py").read_bytes() == b"edited\n"
    assert (session.local / "a.py").stat().st_mode & 0o777 == 0o640
    assert (session.local / "new" / "ünï.bin").read_bytes() == bytes(range(256))
    assert os.access(session.local / "run.sh", os.X_OK)
    assert "has all edits of chat already" in pull(session).output


def test_a_local_change_is_never_written_over(session):
    (session.flow / "a.py").write_bytes(b"theirs\n")
    (session.local / "a.py").write_bytes(b"mine\n")
    done = pull(session)
    assert isinstance(done.exception, CliError)
    assert "conflict: a.py, changed in the session and here; the session's is a.py.session\n" in done.output
    assert (session.local / "a.py").read_bytes() == b"mine\n"
    assert (session.local / "a.py.session").read_bytes() == b"theirs\n"
    pull(session)
    assert not (session.local / "a.py.session2").exists(), "the same again is not written again"
    (session.flow / "a.py").write_bytes(b"theirs, later\n")
    pull(session)
    assert (session.local / "a.py.session").read_bytes() == b"theirs\n", "somebody may have merged there"
    assert (session.local / "a.py.session2").read_bytes() == b"theirs, later\n"


def test_changes_that_do_not_touch_are_merged(session):
    (session.flow / "a.py").write_bytes(b"one\ntwo\nTHREE\n")
    (session.local / "a.py").write_bytes(b"ONE\ntwo\nthree\n")
    done = pull(session)
    assert "merged, since both sides have changes: a.py" in done.output
    assert (session.local / "a.py").read_bytes() == b"ONE\ntwo\nTHREE\n"
    assert "has all edits of chat already" in pull(session).output


def test_a_flow_file_keeps_its_includes(session):
    """The session's flow file has no includes: the operator has merged them."""
    session.push("flow.dag.yaml", b"nodes: []\noutputs: {}\n")
    (session.local / "flow.dag.yaml").write_bytes(b"additional_includes:\n- ../shared\nnodes: []\noutputs: {}\n")
    (session.flow / "flow.dag.yaml").write_bytes(b"nodes: []\noutputs: {a: 1}\n")
    assert pull(session).exit_code == 0
    assert (session.local / "flow.dag.yaml").read_bytes() == b"additional_includes:\n- ../shared\nnodes: []\noutputs: {a: 1}\n"


def test_an_included_file_goes_home_to_where_it_came_from(session, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "util.py").write_bytes(b"x = 1\n")
    (tmp_path / "one.py").write_bytes(b"y = 1\n")
    (session.local / "flow.dag.yaml").write_bytes(b"additional_includes: [../shared, ../one.py]\nnodes: []\n")
    (session.flow / "shared").mkdir()
    for name, content in (("shared/util.py", b"x = 1\n"), ("one.py", b"y = 1\n")):
        session.push(name, content)
        (session.flow / name).write_bytes(content + b"# edited\n")
    (session.flow / "shared" / "more.py").write_bytes(b"")
    done = pull(session)
    assert done.exit_code == 0, done.output
    assert "written: ../shared/util.py" in done.output
    assert (shared / "util.py").read_bytes() == b"x = 1\n# edited\n"
    assert (shared / "more.py").exists()
    assert (tmp_path / "one.py").read_bytes() == b"y = 1\n# edited\n"


def test_what_was_deleted_there_is_deleted_here_when_that_is_agreed(session):
    (session.flow / "old.txt").unlink()
    (session.flow / "a.py").unlink()
    (session.local / "a.py").write_bytes(b"mine\n")
    asked = pull(session)
    assert "give --yes" in str(asked.exception)
    assert (session.local / "old.txt").exists()
    done = pull(session, "--yes")
    assert "deleted: old.txt" in done.output
    assert "conflict: a.py, deleted in the session, changed here: the local file stays\n" in done.output
    assert not (session.local / "old.txt").exists()
    assert (session.local / "a.py").read_bytes() == b"mine\n"


def test_what_was_deleted_here_comes_beside(session):
    (session.flow / "a.py").write_bytes(b"theirs\n")
    (session.local / "a.py").unlink()
    assert "changed in the session, deleted here; the session's is a.py.session" in pull(session).output


def test_links_are_not_followed_and_not_made(session, tmp_path):
    (tmp_path / "outside").mkdir()
    (session.local / "sub").symlink_to(tmp_path / "outside")
    (session.flow / "sub").mkdir()
    (session.flow / "sub" / "x.py").write_bytes(b"x")
    (session.flow / "link").symlink_to("/etc/passwd")
    (session.flow / ".env").write_text("KEY=1")
    done = pull(session)
    assert "not pulled: link, a link, which is not pulled" in done.output
    assert "not pulled: sub/x.py, sub is a link here" in done.output
    assert "not pulled: .env (a name that secrets have); kubectl flow cp fetches it" in done.output
    assert not os.path.lexists(session.local / "link")
    assert not list((tmp_path / "outside").iterdir())


def test_a_path_out_of_the_folder_is_refused(tmp_path):
    bad = edits.Edit("../x", "file", executable=False, pushed=None, content=None, before=None)
    with pytest.raises(CliError, match="is no path in a flow folder: nothing was pulled"):
        edits.plan(edits.Pack([bad], [], "", has_flow=True), tmp_path)


def test_a_broken_connection_is_said_and_read_again(session):
    (session.flow / "a.py").write_bytes(b"edited\n")
    session.broken = 1
    done = pull(session)
    assert "the connection broke: it is read again" in done.output
    assert (session.local / "a.py").read_bytes() == b"edited\n"
    session.broken = 2
    assert "nothing was written" in str(pull(session).exception)


def test_a_new_folder_gets_the_edited_files_alone(session, tmp_path):
    (session.flow / "a.py").write_bytes(b"edited\n")
    assert typed("chat", "pull", tmp_path / "elsewhere").exit_code == 0
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["a.py"]


def test_the_folder_of_another_session_is_asked_about(session, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "flow.dag.yaml").write_bytes(b"nodes: []\n")
    (session.flow / "a.py").write_bytes(b"edited\n")
    asked = typed("chat", "pull", other)
    assert "other is the folder of a session called other. Write the edits of chat there?" in str(asked.exception)
    with pytest.raises(CliError, match="is no flow folder"):
        raise typed("chat", "pull", tmp_path / "home").exception


def test_in_a_flow_folder_no_name_is_needed(session, monkeypatch):
    monkeypatch.chdir(session.local)
    (session.flow / "a.py").write_bytes(b"edited\n")
    assert typed("pull").exit_code == 0
    assert (session.local / "a.py").read_bytes() == b"edited\n"
    assert "nothing" not in typed("pull").output
    monkeypatch.chdir(session.local.parent)
    assert "has all edits" in typed("pull", "chat").output


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ((), ["flow", "edits"]),
        (("ls",), ["flow", "edits"]),
        (("diff",), ["flow", "edits", "--diff"]),
        (("restore",), ["flow", "restore"]),
        (("restore", "--yes"), ["flow", "restore", "--force"]),
        (("discard", "--yes"), ["flow", "edits", "--discard"]),
    ],
)
def test_the_others_are_the_sessions_own_commands(session, words, command):
    assert typed("chat", *words).exception is None
    (given,) = session.cluster.executed
    assert (given[:5], list(given[7:])) == (("exec", "chat-1", "-c", "session", "--"), list(command))


def test_what_makes_no_sense_is_refused(session):
    assert "edits has no push" in str(typed("chat", "push").exception)
    assert "only pull takes a folder" in str(typed("chat", "diff", "x").exception)
    assert "give --yes" in str(typed("chat", "discard").exception)


def test_a_suspended_session_lists_what_was_saved_without_being_resumed(session):
    saved = {"count": 2, "files": ["a.py"], "savedAt": "2026-11-29T10:00:00Z"}
    status = {"phase": "Suspended", "conditions": [condition("Ready", "False", "Suspended", "")], "edits": saved}
    session.cluster.things["computesessions.flowsession.dev", "chat"]["status"] = status
    said = typed("chat").output
    assert said.startswith("a.py\n... and 1 more\nchat is suspended; when it ended it had 2 edited files, saved ")
    assert not session.cluster.executed
    status["edits"] = saved | {"discarded": True}
    assert "it had 2 edited files, let go by edits discard" in typed("chat").output


def test_a_claims_files_are_where_they_are(session):
    session.cluster.things[ENVIRONMENT, "chat"]["spec"]["source"] = {"persistentVolumeClaim": {"claimName": "team"}}
    assert "is on the claim team: what is changed in it stays there" in str(pull(session).exception)


def test_the_help_names_every_action():
    shown = CliRunner().invoke(app.cli, ["edits", "--help"]).output
    assert all(f"\n  {action} " in click.unstyle(shown) for action in ACTIONS)


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "result"),
    [
        (b"a\nb\nc\n", b"a\nb\nc\n", b"a\nc\n", b"a\nc\n"),
        (b"a\nb\nc\n", b"A\nb\nc\n", b"a\nb\nC\n", b"A\nb\nC\n"),
        (b"a\nb\n", b"a\nx\nb\n", b"a\nb\ny\n", b"a\nx\nb\ny\n"),
        (b"a\nb\n", b"a\nx\n", b"a\nx\n", b"a\nx\n"),
        (b"", b"x", b"x", b"x"),
        (b"a\n", b"b\n", b"c\n", None),
        (b"a\nb\n", b"A\nb\n", b"a\nB\n", None),
        (b"", b"x\n", b"y\n", None),
        (b"\0", b"\0a", b"\0", None),
        (b"a\n" * 6000, b"a\n" * 6001, b"a\n" * 5999, None),
    ],
)
def test_merging(base, mine, theirs, result):
    assert merge.merged(base, mine, theirs) == result
