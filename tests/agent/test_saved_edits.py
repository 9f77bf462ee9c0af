"""What a session does with the edits that an earlier session saved, honest or hostile."""

import base64
import gzip
import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from .conftest import StartAgent
from .editing import EVERYTHING, NONE, PUSHED, edit_everything, edits, flow, listing
from .support import Agent


def saved_of(agent: Agent, **changes: Any) -> dict[str, Any]:
    """Return what the operator saves from a session and gives to the next one."""
    status, answer = agent.call("GET", "/v1/edits")
    assert status == 200, answer
    members = {name: answer[name] for name in ("flowRevision", "deleted", "base", "archive")}
    return {"name": "demo-edits-1", "savedAt": "2026-01-01T00:00:00Z", **members, **changes}


def packed(*members: tuple[tarfile.TarInfo, bytes], **changes: Any) -> dict[str, Any]:
    """Return saved edits with an archive of these members."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    archive = base64.b64encode(target.getvalue()).decode()
    return {"name": "demo-edits-1", "savedAt": "", "flowRevision": "f1", "deleted": [], "archive": archive, **changes}


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, link
    return found


def zeros(count: int) -> bytes:
    """Return a compressed tar of one file with `count` zeros."""
    target = io.BytesIO()
    with gzip.GzipFile(fileobj=target, mode="wb") as compressed:
        header = tarfile.TarInfo("zeros")
        header.size = count
        compressed.write(header.tobuf())
        for _ in range(count // 2**20):
            compressed.write(bytes(2**20))
    return target.getvalue()


def sparse(size: int) -> bytes:
    """Return a compressed tar of one sparse member, which unpacks to `size` bytes from no data."""
    header = tarfile.TarInfo("sparse")
    header.type = tarfile.GNUTYPE_SPARSE
    raw = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    raw[483:495] = b"%011o\0" % size
    raw[148:156] = b"        "
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    return gzip.compress(bytes(raw) + bytes(1024))


def encoded(content: bytes) -> dict[str, Any]:
    return packed(archive=base64.b64encode(content).decode())


HOSTILE: Mapping[str, tuple[Callable[[], Any], str]] = {
    "not an object": (lambda: ["x"], "is missing"),
    "nothing in it": (dict, "not base64"),
    "not base64": (lambda: packed(archive="äöü"), "not base64"),
    "not gzip": (lambda: encoded(b"hello"), "not a .tar.gz"),
    "gzip of no tar": (lambda: encoded(gzip.compress(b"hello" * 1000)), "not a .tar.gz"),
    "cut short": (lambda: encoded(zeros(2**20)[:-20]), "not a .tar.gz"),
    "up": (lambda: packed((member("good"), b"x"), (member("../up"), b"x")), "not a path inside"),
    "absolute": (lambda: packed((member("good"), b"x"), (member("/etc/cron.d/x"), b"x")), "not a path inside"),
    "through a link": (lambda: packed((member("d", tarfile.SYMTYPE, "/tmp"), b""), (member("d/x"), b"x")), "as a file and as a folder"),
    "twice": (lambda: packed((member("a"), b"1"), (member("a"), b"2")), "twice"),
    "a device": (lambda: packed((member("good"), b"x"), (member("null", tarfile.CHRTYPE), b"")), "neither a file nor a link"),
    "a pipe": (lambda: packed((member("good"), b"x"), (member("pipe", tarfile.FIFOTYPE), b"")), "neither a file nor a link"),
    "a hard link": (lambda: packed((member("hard", tarfile.LNKTYPE, "../environment.json"), b"")), "neither a file nor a link"),
    "sparse": (lambda: encoded(sparse(10 * 2**30)), "neither a file nor a link"),
    "a bomb": (lambda: encoded(zeros(200 * 2**20)), "unpacks to more than 67,108,864 bytes"),
    "5,001 files": (lambda: packed(*((member(f"f{number}"), b"") for number in range(5001))), "more than 5,000 files"),
    "a long name": (lambda: packed((member("x" * 300), b"")), "too long"),
    "deleted up": (lambda: packed(deleted=["../environment.json"]), "can't be meant"),
    "deleted numbers": (lambda: packed(deleted=[5]), "list of deleted files"),
    "no unicode": (lambda: packed(name="\ud800", archive="\ud800"), "not base64"),
    "deleted without unicode": (lambda: packed(deleted=["\ud800"]), "can't be meant"),
}


def test_the_next_session_has_them_at_once_on_the_same_flow(start: StartAgent, session: Agent, tmp_path: Path, python: str) -> None:
    edit_everything(session)
    other = start(python=python, FLOWSESSION_HOME=str(tmp_path / "other"))
    status, state = other.put("p1", "f1", files=PUSHED, savedEdits=saved_of(session))
    assert status == 200
    assert state["edits"] == {**edits(session), "restored": True}
    assert listing(other) == listing(session)
    other.close()
    again = start(python=python, FLOWSESSION_HOME=str(tmp_path / "other"))
    assert again.state()["edits"] == state["edits"]
    assert "were restored" in again.flow("edits").stderr


def test_on_another_flow_they_are_offered(start: StartAgent, session: Agent, tmp_path: Path, python: str) -> None:
    edit_everything(session)
    other = start(python=python, FLOWSESSION_HOME=str(tmp_path / "other"))
    newer = {**PUSHED, "more.txt": b"more"}
    _, state = other.put("p1", "f2", files=newer, savedEdits=saved_of(session))
    assert state["edits"] == {**NONE, "offered": "demo-edits-1"}
    other.close()
    other = start(python=python, FLOWSESSION_HOME=str(tmp_path / "other"))
    assert other.state()["edits"]["offered"] == "demo-edits-1"
    assert "run `flow restore`" in other.flow("edits").stderr
    assert "run `flow restore`" in other.flow("status").stdout
    ran = other.flow("restore")
    assert ran.returncode == 0, ran.stderr
    assert sorted(ran.stdout.split("\n")) == sorted(
        ["", "deleted  old.txt", *(f"written  {name}" for name in EVERYTHING if "deleted" not in name)]
    )
    (flow(session) / "more.txt").write_bytes(b"more")
    assert listing(other) == listing(session)
    (flow(session) / "more.txt").unlink()
    assert edits(other) == {**edits(session), "restored": True}
    assert "has the edits of demo-edits-1 already" in other.flow("restore").stdout


def test_restoring_over_what_was_edited_since_needs_force_and_keeps_it(start: StartAgent, session: Agent, tmp_path: Path) -> None:
    edit_everything(session)
    other = start(FLOWSESSION_HOME=str(tmp_path / "other"))
    other.put("p1", "f2", files=PUSHED, savedEdits=saved_of(session))
    folder = flow(other)
    (folder / "a.py").write_text("mine")
    (folder / "old.txt").write_text("mine too")
    (folder / "new").write_text("where a folder is saved")
    (folder / "run.sh").mkdir()
    (folder / "run.sh" / "x").write_text("where a file is saved")
    (folder / "other").write_text("in nobody's way")
    before = listing(other)
    ran = other.flow("restore")
    assert ran.returncode == 1
    assert all(name in ran.stderr for name in ("a.py", "old.txt", "new", "run.sh/x", "--force")), ran.stderr
    assert "other" not in ran.stderr
    assert listing(other) == before
    ran = other.flow("restore", "--force")
    assert ran.returncode == 0, ran.stderr
    moved = {"a.py.kept": "a.py", "old.txt.kept": "old.txt", "new.kept": "new", "run.sh.kept/x": "run.sh/x", "other": "other"}
    assert listing(other) == {**listing(session), **{kept: before[name] for kept, name in moved.items()}}
    assert "kept     old.txt.kept" in ran.stdout


def test_saved_edits_come_with_the_first_push_only(start: StartAgent, session: Agent, tmp_path: Path) -> None:
    edit_everything(session)
    other = start(FLOWSESSION_HOME=str(tmp_path / "other"))
    other.put("p1", "f0", files=PUSHED)
    assert other.put("p1", "f1", files=PUSHED, savedEdits=saved_of(session))[1]["edits"] == NONE
    assert other.flow("restore").returncode == 1


def test_a_session_that_is_being_ended_restores_nothing_but_hands_over_and_discards(
    start: StartAgent, session: Agent, tmp_path: Path
) -> None:
    edit_everything(session)
    other = start(FLOWSESSION_HOME=str(tmp_path / "other"))
    other.put("p1", "f2", files=PUSHED, savedEdits=saved_of(session))
    (flow(other) / "mine").write_text("x")
    status, state = other.call("POST", "/v1/retire", {"idleAtLeast": 0})
    assert (status, state["edits"]["files"]) == (200, ["mine"])
    assert other.call("POST", "/v1/edits/restore")[1]["code"] == "Retired"
    assert other.call("GET", "/v1/edits")[1]["files"] == ["mine"]
    assert other.call("POST", "/v1/edits/discard")[1]["edits"]["revision"] == ""


@pytest.mark.parametrize("case", HOSTILE)
def test_an_archive_that_is_not_what_a_session_saved_is_refused_and_breaks_nothing(start: StartAgent, tmp_path: Path, case: str) -> None:
    make, words = HOSTILE[case]
    agent = start()
    status, state = agent.put("p1", "f1", files=PUSHED, savedEdits=make())
    assert status == 200
    assert state["environment"]["flowRevision"] == "f1"
    problem = state["edits"].pop("problem")
    assert words in problem
    assert problem.endswith(".")
    assert not problem.endswith("..")
    assert state["edits"] == NONE
    assert set(listing(agent)) == set(PUSHED)
    assert not (agent.home / "edits.tar.gz").exists()
    peak = int(Path(f"/proc/{agent.pid}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    assert peak < 80, f"{peak} MiB"
    ran = agent.flow("restore")
    assert (ran.returncode, "not taken" in ran.stderr) == (1, True), ran.stderr
    agent.close()
    again = start()
    assert again.state()["edits"]["problem"] == problem
