"""An installer's output while it runs: followed in its pod, shown as lines and in the live picture."""

import io
import sys

import pytest
from rich.console import Console

from flowsession_cli import follow, installer, render
from flowsession_cli.errors import CliError
from unit.cli.fakes import FakeCluster, condition, ready_status


def session(reason, message="", *, status="False", pod="chat-1", **more):
    found = ready_status() | {"podName": pod, **more}
    found["conditions"] = [*found["conditions"], condition("PackagesInstalled", status, reason, message)]
    return {"metadata": {"name": "chat"}, "status": found}


@pytest.fixture
def cluster(tmp_path):
    """A cluster whose pods have an installer that prints three lines and waits until the file `done` exists."""
    fake = FakeCluster()
    (tmp_path / "kubectl.py").write_text(
        "import pathlib, sys, time\n"
        "here = pathlib.Path(__file__).parent\n"
        "(here / 'called').write_text(' '.join(sys.argv[1:]))\n"
        "for word in ('Resolved', 'Prepared', 'Installed ü'): print(word, flush=True)\n"
        "while not (here / 'done').exists(): time.sleep(0.01)\n"
    )
    fake.__dict__["command"] = lambda *words: [sys.executable, str(tmp_path / "kubectl.py"), *words]
    return fake


def test_an_install_is_followed_until_it_is_over(cluster, tmp_path):
    heard = []
    following = installer.Installer(cluster, heard.append)
    following.look(session("Installed", status="True"))
    assert not (tmp_path / "called").exists(), "nothing is installed"
    following.look(session("Installing"))
    following.look(session("Installing"))
    (tmp_path / "done").touch()
    following.look(session("Installed", status="True"))
    assert heard == ["Resolved", "Prepared", "Installed ü"]
    assert (tmp_path / "called").read_text() == "exec chat-1 -c session -- flow packages --follow"
    following.close()


def test_lines_show_an_install_in_place_and_what_is_said(capsys):
    lines = follow.Lines("chat")
    for _ in range(2):
        lines.show(session("Installing", "installing 3 requirements"))
    lines.say("Resolved 12 packages")
    assert [line.partition(" s  ")[2] for line in capsys.readouterr().out.splitlines()] == [
        "Installing: installing 3 requirements",
        "  Resolved 12 packages",
    ]


def test_the_picture_shows_an_install_in_place_and_its_last_lines():
    picture = render.StartPicture("chat")
    picture.show(session("Installing", "installing 3 requirements"))
    for number in range(9):
        picture.say(f"Collecting package number {number} from a long, long address")
    out = io.StringIO()
    Console(file=out, width=40, color_system=None).print(picture.at(picture.began + 2))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert lines[0].split()[1:] == ["Installing", "2.0", "s"]
    assert lines[1] == "  installing 3 requirements"
    assert [line.split()[3] for line in lines[2:]] == ["5", "6", "7", "8"]
    assert all(len(line) <= 40 for line in lines)


def test_a_failed_install_is_refused(capsys):
    installer.refuse_failed(session("Installing"))
    installer.refuse_failed(session("Installed", status="True"))
    with pytest.raises(CliError, match=r"chat keeps the packages that it has: no such package \(InstallFailed\)"):
        installer.refuse_failed(session("InstallFailed", "no such package", install={"stderrTail": "x"}))
    assert not capsys.readouterr().err, "in a pipe they were there before"
