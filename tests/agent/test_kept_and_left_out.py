"""Changes of a session that were not saved, or were moved aside, are reported and shown, and never silently overwritten."""

import io
import json
import os
import pty
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from flowsession_agent import digests

from .conftest import StartAgent
from .editing import PUSHED, edits, flow
from .support import FLOW, Agent


def take(agent: Agent) -> dict[str, object]:
    status, answer = agent.call("GET", "/v1/edits")
    assert status == 200, answer
    found: dict[str, object] = answer
    return found


def test_secrets_and_what_an_ignore_file_names_are_left_out_and_told(session: Agent) -> None:
    folder = flow(session)
    (folder / ".gitignore").write_text("*.csv\ncache/\na.py\n")
    (folder / ".env").write_text("KEY=1")
    (folder / "out.csv").write_text("1")
    (folder / "cache" / "deep").mkdir(parents=True)
    (folder / "cache" / "deep" / "big.bin").write_bytes(bytes(3_000_000))
    (folder / "a.py").write_bytes(b"print(2)")
    (folder / "mine.txt").write_text("x")
    found = edits(session)
    assert found["files"] == [".gitignore", "a.py", "mine.txt"], "what was pushed is saved whatever the ignore file says"
    assert found["leftOut"] == 3
    assert found["leftOutFiles"] == [".env (a name that secrets have)", "cache/ (.gitignore)", "out.csv (.gitignore)"]
    assert take(session)["files"] == found["files"]
    said = session.flow("edits").stdout
    assert "not saved: .env (a name that secrets have)" in said
    revision = found["revision"]
    (folder / "out.csv").write_text("2")
    assert edits(session)["revision"] == revision


def test_a_pushed_secret_that_is_edited_is_left_out_too(agent: Agent) -> None:
    agent.put("p1", "f1", files={**PUSHED, ".env": b"A=1", "server.key": b"k"})
    assert edits(agent).get("leftOut") is None
    (flow(agent) / ".env").write_text("A=2")
    (flow(agent) / "server.key").unlink()
    assert edits(agent)["count"] == 0
    assert edits(agent)["leftOut"] == 2


def test_an_edit_that_a_push_moves_aside_is_told_of_until_it_is_gone(session: Agent, start: StartAgent) -> None:
    (flow(session) / "a.py").write_bytes(b"print('mine')\n")
    session.put("p1", "f2", files={**PUSHED, "a.py": b"print('theirs')\n"})
    assert edits(session)["kept"] == ["a.py.kept"]
    shown = session.flow("edits", "--diff").stdout
    assert "--- a.py\n+++ a.py.kept\n" in shown
    assert "-print('theirs')\n+print('mine')\n" in shown
    assert "moved aside by the environment's change: a.py.kept" in session.flow("edits").stdout
    (flow(session) / "a.py.kept").unlink()
    assert "kept" not in edits(session)


def test_packed_edits_have_what_they_were_made_on(session: Agent) -> None:
    folder = flow(session)
    (folder / "a.py").write_bytes(b"print(2)")
    (folder / "old.txt").unlink()
    (folder / "large.bin").write_bytes(bytes(10_000_000))
    command, environment = session.command("edits", "--pack")
    packed = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        contents = {member.name: file.read() for member in tar if (file := tar.extractfile(member))}
    assert list(contents) == ["edits.json", "pushed/a.py", "files/a.py", "files/large.bin", "pushed/old.txt"]
    assert (contents["pushed/a.py"], contents["files/a.py"]) == (b"print(1)", b"print(2)")
    listed = {edit["path"]: (edit["kind"], edit["pushed"]) for edit in json.loads(contents["edits.json"])["edits"]}
    assert listed == {
        "a.py": ("file", digests.of_content(b"print(1)")),
        "large.bin": ("file", None),
        "old.txt": ("deleted", digests.of_content(b"old")),
    }


def test_differences_from_what_was_pushed(session: Agent) -> None:
    folder = flow(session)
    (folder / "a.py").write_bytes(b"print(2)")
    (folder / "new.txt").write_text("new\n")
    (folder / "blob.bin").write_bytes(bytes(10))
    (folder / "link").symlink_to("a.py")
    (folder / "old.txt").unlink()
    shown = session.flow("edits", "--diff").stdout
    assert "--- pushed/a.py\n+++ a.py\n@@ -1 +1 @@\n-print(1)\n+print(2)\n" in shown
    assert "--- /dev/null\n+++ new.txt\n@@ -0,0 +1 @@\n+new\n" in shown
    assert "/dev/null and blob.bin differ; they are too large, or no text, to be compared" in shown
    assert "link is a link to a.py now" in shown
    assert "--- pushed/old.txt\n+++ /dev/null\n@@ -1 +0,0 @@\n-old\n" in shown
    assert session.flow("edits", "--diff").returncode == 0


@pytest.fixture
def offered(start: StartAgent, tmp_path: Path) -> Agent:
    """A session with edits to an earlier version of the flow, whose a.py has since changed in the environment too."""
    first = start(folder=_folder(tmp_path, "first"))
    first.put("p1", "f1", files=PUSHED)
    (flow(first) / "a.py").write_bytes(b"print('edited')\n")
    (flow(first) / "new.txt").write_text("new\n")
    (flow(first) / "old.txt").unlink()
    taken = take(first)
    given = {name: taken[name] for name in ("flowRevision", "archive", "deleted", "base")}
    given |= {"name": "saved-1", "savedAt": "2026-01-01T00:00:00Z"}
    second = start(folder=_folder(tmp_path, "second"))
    second.put("p1", "f2", files={**PUSHED, "a.py": b"print('newer')\n"}, savedEdits=given)
    return second


def _folder(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


def test_a_restore_never_overwrites_what_the_environment_has_changed_since(offered: Agent) -> None:
    refused = offered.flow("restore")
    assert refused.returncode == 1
    assert "a.py" in refused.stderr
    assert "old.txt" not in refused.stderr, "the environment did not change it"
    assert (flow(offered) / "a.py").read_bytes() == b"print('newer')\n"
    assert "-print('newer')\n+print('edited')\n" in offered.flow("edits", "--diff").stdout
    done = offered.flow("restore", "--force")
    assert done.returncode == 0, done.stderr
    assert (flow(offered) / "a.py").read_bytes() == b"print('edited')\n"
    assert (flow(offered) / "a.py.kept").read_bytes() == b"print('newer')\n"
    assert not (flow(offered) / "old.txt").exists()


@pytest.mark.parametrize(("answer", "restored"), [("y", True), ("", False), ("n", False)])
def test_people_at_a_terminal_are_asked(offered: Agent, answer: str, restored: bool) -> None:
    near, far = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "FLOWSESSION_HOME": str(offered.home)}
    command = subprocess.Popen([sys.executable, "-IS", "-c", FLOW, "restore"], env=environment, stdin=far, stdout=far, stderr=far)
    os.close(far)
    said = b""
    while b"[y/N]" not in said:
        said += os.read(near, 1024)
    os.write(near, f"{answer}\n".encode())
    assert command.wait(30) == (0 if restored else 1)
    os.close(near)
    assert (flow(offered) / "a.py.kept").exists() is restored
