"""`cp`: what kubectl cp is called with, and what its messages mean."""

import re
import sys

import click
import pytest
from click.testing import CliRunner

from flowsession_cli import app
from flowsession_cli.commands import files
from unit.cli.fakes import FakeCluster, condition, ready_status

NAME = "chat"


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """A cluster whose kubectl records how it was called, fails with the text in the file `said`, and creates what it copies here."""
    fake = FakeCluster()
    fake.put("ComputeSession", NAME, spec={"environmentRef": {"name": NAME}}, status=ready_status())
    monkeypatch.setattr("flowsession_cli.cluster.Cluster", lambda **_: fake)
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "kubectl.py"
    script.write_text(
        "import pathlib, sys\nwords = sys.argv[1:]\n"
        "if words[0] == 'exec':\n"
        "    with open('ran', 'a') as ran: print(*words[5:], file=ran)\n"
        "    missing = words[5:7] == ['test', '-d'] and words[7] not in ('/there', '/there/down', 'data', '/tmp')\n"
        "    sys.exit('command terminated with exit code 1' if missing else 0)\n"
        "pathlib.Path('called').write_text('\\n'.join(words))\n"
        "said = pathlib.Path('said')\n"
        "if said.exists(): sys.exit(said.read_text())\n"
        "if words[-1].startswith('--retries'): pathlib.Path(words[-2]).write_text('x')\n"
    )
    fake.__dict__["command"] = lambda *words: [sys.executable, str(script), *words]
    return fake


def copied(*words):
    return CliRunner().invoke(app.cli, ["cp", *words])


@pytest.mark.parametrize(
    ("target", "there"),
    [
        ("chat:", "./ünï.txt"),
        ("chat:data/", "data/ünï.txt"),
        ("chat:/", "/ünï.txt"),
        ("chat:/tmp/other.txt", "/tmp/other.txt"),
        ("chat:other: one.txt", "other: one.txt"),
    ],
)
def test_to_a_session(cluster, tmp_path, target, there):
    (tmp_path / "ünï.txt").write_text("x")
    done = copied("ünï.txt", target)
    assert done.exit_code == 0, done.output
    called = (tmp_path / "called").read_text().splitlines()[3:]
    folder, slash, last = there.rpartition("/")
    part = re.fullmatch(rf"chat-1:({re.escape(folder + slash)}\.{re.escape(last)}\.\d+\.part)", called[1])
    assert called[0] == "ünï.txt"
    assert part
    assert (tmp_path / "ran").read_text().splitlines()[-1] == f"mv -fT -- {part[1]} {there}"
    assert f"ünï.txt is in chat as {there.removeprefix('./')}\n" in done.output


@pytest.mark.parametrize(
    ("target", "there"),
    [("/there/", "/there/down"), ("/there", "/there/down"), ("/there/down", "/there/down/down"), ("/tmp/new", "/tmp/new")],
)
def test_a_folder_comes_to_where_cp_would_bring_it(cluster, tmp_path, target, there):
    (tmp_path / "down").mkdir()
    assert f"down is in chat as {there}\n" in copied("down", f"chat:{target}").output
    called = (tmp_path / "called").read_text().splitlines()[3:]
    if there == "/there/down":
        assert called == ["down/.", "chat-1:/there/down"], "its files come to those that are there"
    else:
        assert (tmp_path / "ran").read_text().splitlines()[-1] == f"mv -fT -- {called[1].removeprefix('chat-1:')} {there}"


def test_what_is_broken_off_on_its_way_there_leaves_no_part(cluster, tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "said").write_text("error: unexpected EOF")
    assert "only a part was copied" in str(copied("a", "chat:/tmp/a").exception)
    part = (tmp_path / "called").read_text().splitlines()[-1].removeprefix("chat-1:")
    assert (tmp_path / "ran").read_text().splitlines()[-1] == f"rm -rf -- {part}"


def test_a_name_that_kubectl_takes_for_a_pods_is_told(cluster, tmp_path):
    (tmp_path / "a:b").touch()
    assert "a:b can't be copied" in str(copied("./a:b", "chat:").exception)


def test_a_file_that_may_not_be_read_is_a_failure_though_kubectl_knows_of_none(cluster, tmp_path):
    script = tmp_path / "kubectl.py"
    script.write_text("import sys\nprint('tar: x/a: Cannot open: Permission denied')\n")
    assert "x in chat is not the session's to write or read: tar: x/a: Cannot open" in str(copied("chat:x", "x").exception)
    script.write_text("")
    assert "x in chat could not be read" in str(copied("chat:x", "x").exception), "its words may be lost"


@pytest.mark.parametrize("words", [("chat:x", "."), ("a", "chat:")], ids=str)
def test_a_missing_right_is_told_with_its_role(cluster, tmp_path, words):
    (tmp_path / "a").touch()
    refused = 'pods "chat-1" is forbidden: User "ada" cannot create resource "pods/exec" in API group "" in the namespace "team"'
    (tmp_path / "kubectl.py").write_text(f"import sys\nsys.exit('error: unable to upgrade connection: ' + {refused!r})")
    assert str(copied(*words).exception).startswith("ada may not create pods/exec in namespace team: the cluster's role edit has that")


@pytest.mark.parametrize(
    ("source", "target", "here"),
    [("chat:a.txt", ".", "a.txt"), ("chat:/tmp/out/", "there", "there/out"), ("chat:a.txt", "b.txt", "b.txt"), ("chat:.", "new", "new")],
)
def test_from_a_session(cluster, tmp_path, source, target, here):
    if here.startswith("there"):
        (tmp_path / "there").mkdir()
    assert copied(source, target).exit_code == 0
    called = (tmp_path / "called").read_text().splitlines()[3:]
    assert [called[0], re.sub(r"\.([^/]*)\.\d+\.part$", r"\1", called[1]), called[2]] == [f"chat-1:{source[5:]}", here, "--retries=5"]
    assert (tmp_path / here).exists()


def test_in_a_flow_folder_the_name_may_be_left_out(cluster, tmp_path, monkeypatch):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "flow.dag.yaml").write_text("nodes: []")
    monkeypatch.chdir(tmp_path / NAME)
    assert copied(":a.txt", "a.txt").exit_code == 0


def test_a_suspended_session_is_resumed_which_is_said(cluster):
    thing = cluster.things["computesessions.flowsession.dev", NAME]
    thing["status"] = {"phase": "Suspended", "conditions": [condition("Ready", "False", "Suspended", "")]}
    assert "chat is suspended: it is resumed" in copied("chat:a", ".").output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a", "b"), "neither is in a session: one side is SESSION:PATH"),
        (("chat:a", "chat:b"), "both are in sessions"),
        (("./chat:a", "b"), "neither is in a session"),
        (("nothing", "chat:"), "there is no nothing here"),
        (("chat:", "."), "names no file: write chat:PATH; chat:. is the whole flow folder"),
        (("chat:a", "nowhere/b"), "there is no folder nowhere here"),
        (("other:a", "."), "there is no session other; there is chat"),
    ],
)
def test_what_makes_no_sense_is_told(cluster, words, said):
    assert said in str(copied(*words).exception)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("tar: x: Cannot stat: No such file or directory\ncommand terminated with exit code 2", "there is no x in chat; paths there begin"),
        ("tar: x: Cannot open: Permission denied", "x in chat is not the session's to write or read: tar: x: Cannot open"),
        ('exec: "tar": executable file not found in $PATH', "the image of chat has no tar"),
        ("error: unexpected EOF", "the connection to chat broke, and only a part was copied"),
        ("error: odd", "x of chat was not copied: error: odd"),
    ],
)
def test_what_goes_wrong_there_is_one_sentence(cluster, tmp_path, words, said):
    (tmp_path / "said").write_text(words)
    assert said in str(copied("chat:x", ".").exception)


def test_what_copies_nothing_is_a_failure(cluster, monkeypatch):
    monkeypatch.setattr(files, "_copy", lambda *_, **__: None)
    cluster.__dict__["command"] = lambda *_: ["false"]
    assert "there is no x in chat" in str(copied("chat:x", ".").exception)


def test_sessions_complete_with_their_colon(cluster):
    parameter = files.cp_command.params[0]
    assert [item.value for item in parameter.shell_complete(click.Context(files.cp_command), "c")] == ["chat:"]


def test_links_that_are_not_copied_are_told(cluster, tmp_path):
    call = tmp_path / "kubectl.py"
    call.write_text(
        "import pathlib, sys\nhere = pathlib.Path(sys.argv[-2])\nhere.mkdir()\n"
        'print(f\'warning: skipping symlink: "{here}/pw" -> "/x" (consider ...)\')'
    )
    assert "left out: x/pw, a link\n" in copied("chat:x", ".").output


def test_a_folder_that_is_not_there_is_told_before_anything_is_sent(cluster, tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "kubectl.py").write_text("import sys\nassert sys.argv[1] == 'exec'\nsys.exit('command terminated with exit code 1')")
    said = str(copied("a", "chat:no/such/").exception)
    assert said == "there is no folder no/such in chat: kubectl flow exec chat -- mkdir -p no/such makes it"


@pytest.mark.parametrize("there", ["", "before"])
def test_what_is_broken_off_leaves_no_part_and_what_was_there(cluster, tmp_path, there):
    if there:
        (tmp_path / "x").write_text(there)
    call = "import pathlib, sys\npathlib.Path(sys.argv[-2]).write_text('half')\nsys.exit('error: unexpected EOF')"
    (tmp_path / "kubectl.py").write_text(call)
    assert "only a part was copied" in str(copied("chat:x", "x").exception)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".x", "x"))] == (["x"] if there else [])
    assert not there or (tmp_path / "x").read_text() == there
