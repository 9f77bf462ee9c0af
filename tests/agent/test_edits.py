"""What a session changes in its flow folder: found, handed over, taken back by the next session, and never lost to a push."""

import base64
import gzip
import io
import os
import tarfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from .conftest import StartAgent
from .support import Agent

PUSHED = {"flow.dag.yaml": b"nodes: []", "a.py": b"print(1)", "lib/b.py": b"pass", "old.txt": b"old"}
NONE = {"count": 0, "files": [], "bytes": 0, "revision": "", "offered": "", "restored": False}


@pytest.fixture
def session(agent: Agent) -> Agent:
    """A session into which PUSHED was pushed."""
    assert agent.put("p1", "f1", files=PUSHED)[0] == 200
    return agent


def edits(agent: Agent) -> dict[str, Any]:
    found: dict[str, Any] = agent.state()["edits"]
    return found


def flow(agent: Agent) -> Path:
    return agent.home / "flow"


def edit_everything(agent: Agent) -> None:
    folder = flow(agent)
    (folder / "a.py").write_bytes(b"print(2)")
    (folder / "new").mkdir()
    (folder / "new" / "ünï.bin").write_bytes(bytes(range(256)))
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("/nowhere/at all")
    (folder / "lib" / "b.py").chmod(0o755)
    (folder / "old.txt").unlink()


EVERYTHING = ["a.py", "lib/b.py", "link", "new/ünï.bin", "old.txt (deleted)", "run.sh"]


def listing(agent: Agent) -> dict[str, Any]:
    """Every file of the flow folder with its kind, exec bit and content."""
    found: dict[str, Any] = {}
    for path in flow(agent).rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(flow(agent)))] = str(path.readlink())
        elif path.is_file():
            found[str(path.relative_to(flow(agent)))] = (bool(path.stat().st_mode & 0o100), path.read_bytes())
    return found


def saved_of(agent: Agent, **changes: Any) -> dict[str, Any]:
    """What the operator saves of a session, as it gives it to the next one."""
    status, answer = agent.call("GET", "/v1/edits")
    assert status == 200, answer
    members = {name: answer[name] for name in ("flowRevision", "deleted", "archive")}
    return {"name": "demo-edits-1", "savedAt": "2026-01-01T00:00:00Z", **members, **changes}


def packed(*members: tuple[tarfile.TarInfo, bytes], **changes: Any) -> dict[str, Any]:
    """Saved edits with an archive of any members."""
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


def test_without_a_flow_folder_there_are_no_edits(agent: Agent) -> None:
    assert edits(agent) == NONE
    (flow(agent) / "mine.txt").write_text("x")
    assert agent.put("p1", "f0", files=None)[1]["edits"] == NONE
    for method, path in (("GET", "/v1/edits"), ("POST", "/v1/edits/restore"), ("POST", "/v1/edits/discard")):
        status, answer = agent.call(method, path)
        assert (status, answer["code"]) == (404, "NoEdits")


def test_a_folder_as_it_was_pushed_has_no_edits(session: Agent) -> None:
    assert edits(session) == NONE
    (flow(session) / "a.py").write_bytes(PUSHED["a.py"])  # written again, the same
    assert edits(session) == NONE
    assert session.call("GET", "/v1/edits")[1]["code"] == "NoEdits"


def test_an_edit_is_what_is_not_as_pushed(session: Agent) -> None:
    edit_everything(session)
    found = edits(session)
    assert (found["count"], found["files"]) == (6, EVERYTHING)
    assert found["bytes"] == len(b"print(2)") + 256 + len(b"#!/bin/sh\n") + len("/nowhere/at all") + len(PUSHED["lib/b.py"])
    assert len(found["revision"]) == 16
    assert int(found["revision"], 16)


def test_each_change_is_another_revision_and_undoing_it_is_none(session: Agent) -> None:
    seen = set()
    folder = flow(session)
    changes: list[Callable[[], object]] = [
        lambda: (folder / "a.py").write_bytes(b"print(2)"),
        lambda: (folder / "a.py").write_bytes(b"print(3)"),  # the same size
        lambda: (folder / "a.py").chmod(0o755),
        (folder / "a.py").unlink,
        lambda: (folder / "a.py").symlink_to("b"),
        lambda: ((folder / "a.py").unlink(), (folder / "a.py").symlink_to("c")),
        lambda: ((folder / "a.py").unlink(), (folder / "a.py").mkdir(), (folder / "a.py" / "x").touch()),
    ]
    for change in changes:
        change()
        seen.add(edits(session)["revision"])
    assert len(seen) == len(changes)
    (folder / "a.py" / "x").unlink()
    (folder / "a.py").rmdir()
    (folder / "a.py").write_bytes(PUSHED["a.py"])
    assert edits(session) == NONE


def test_what_python_and_prompt_flow_write_is_no_edit_and_special_files_are_none(session: Agent, tmp_path: Path) -> None:
    folder = flow(session)
    for name in ("__pycache__/a.pyc", "lib/__pycache__/b.txt", ".promptflow/flow.log", "lib/.promptflow/x/y", "lib/c.pyc"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    os.mkfifo(folder / "pipe")
    assert edits(session) == NONE
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("not the flow's")
    (folder / "away").symlink_to(outside)
    assert edits(session)["files"] == ["away"]


def test_a_restarted_container_knows_its_edits(start: StartAgent, python: str) -> None:
    first = start(python=python)
    first.put("p1", "f1", files=PUSHED)
    edit_everything(first)
    before = edits(first)
    first.close()
    second = start(python=python)
    assert edits(second) == before
    assert second.call("GET", "/v1/edits")[1]["revision"] == before["revision"]


def test_a_record_of_an_agent_that_kept_names_only(start: StartAgent, tmp_path: Path) -> None:
    home = tmp_path / "session"
    (home / "flow").mkdir(parents=True)
    (home / "flow" / "a.py").write_bytes(b"pushed, or edited: nobody knows")
    (home / "environment.json").write_text(
        '{"packagesRevision": "p1", "flowRevision": "f1", "venv": "", "install": null, "pushed": ["a.py", "old.txt"], "names": []}'
    )
    agent = start()
    assert agent.state()["environment"]["flowRevision"] == "f1"
    (home / "flow" / "new.py").touch()
    assert edits(agent)["files"] == ["new.py", "old.txt (deleted)"]
    agent.put("p1", "f2", files={"a.py": b"2"})
    assert edits(agent)["files"] == ["new.py"]


def test_the_same_edits_are_the_same_archive(session: Agent) -> None:
    edit_everything(session)
    first = session.call("GET", "/v1/edits")[1]
    for path in flow(session).rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    second = session.call("GET", "/v1/edits")[1]
    assert first == second
    assert first["revision"] == edits(session)["revision"]
    assert (first["flowRevision"], first["files"], first["deleted"]) == ("f1", EVERYTHING, ["old.txt"])
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(first["archive"]))) as tar:
        assert tar.getnames() == ["a.py", "lib/b.py", "link", "new/ünï.bin", "run.sh"]


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
    newer = {**PUSHED, "a.py": b"print('newer')"}
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
    assert listing(other) == listing(session)
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


def test_discarded_edits_stay_and_need_no_saving_until_the_next_change(start: StartAgent, session: Agent) -> None:
    edit_everything(session)
    before = listing(session)
    ran = session.flow("edits", "--discard")
    assert ran.returncode == 0, ran.stderr
    assert "not to be saved" in ran.stderr
    assert listing(session) == before
    found = edits(session)
    assert (found["revision"], found["count"], found["discarded"]) == ("", 6, True)
    assert session.call("GET", "/v1/edits")[1]["code"] == "NoEdits"
    session.close()
    again = start()
    assert edits(again)["revision"] == ""
    (flow(again) / "one more").touch()
    assert edits(again)["revision"] != ""
    assert len(again.call("GET", "/v1/edits")[1]["files"]) == 7


def test_too_large_names_the_size_and_the_largest(session: Agent) -> None:
    (flow(session) / "noise.bin").write_bytes(os.urandom(1_200_000))
    (flow(session) / "small.txt").write_text("x")
    status, answer = session.call("GET", "/v1/edits")
    assert (status, answer["code"]) == (413, "TooLarge")
    assert all(words in answer["message"] for words in ("1,200,001 bytes", "noise.bin 1,200,000", "1,000,000", "kubectl cp", "--discard"))
    assert session.call("POST", "/v1/edits/discard")[1]["edits"]["revision"] == ""


def test_ten_gigabytes_are_neither_read_nor_packed(session: Agent) -> None:
    with (flow(session) / "huge.bin").open("wb") as file:
        file.truncate(10 * 1024**3)
    started = time.monotonic()
    first = edits(session)
    assert (first["bytes"], first["files"]) == (10 * 1024**3, ["huge.bin"])
    assert session.call("GET", "/v1/edits")[0] == 413
    assert time.monotonic() - started < 5
    peak = int(Path(f"/proc/{session.pid}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    assert peak < 80, f"{peak} MiB"


def test_six_thousand_files(session: Agent) -> None:
    for number in range(6000):
        (flow(session) / f"n{number:04}").touch()
    (flow(session) / "a.py").write_bytes(b"print(2)")
    found = edits(session)
    assert (found["more"], len(found["files"])) == (True, 50)
    assert 4000 < found["count"] <= 5000
    assert not any("deleted" in name for name in found["files"])
    started = time.monotonic()
    assert edits(session)["revision"] == found["revision"]
    assert time.monotonic() - started < 2
    status, answer = session.call("GET", "/v1/edits")
    assert (status, "more than 5,000" in answer["message"]) == (413, True)


def test_what_changes_while_it_is_packed_is_never_half_of_each(session: Agent) -> None:
    path, ended = flow(session) / "busy.txt", threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            temporary = flow(session) / "__pycache__"
            temporary.mkdir(exist_ok=True)
            (temporary / "next").write_bytes(str(number).encode() * 200_000)
            (temporary / "next").replace(path)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        codes = set()
        for _ in range(5):
            status, answer = session.call("GET", "/v1/edits")
            codes.add(answer.get("code", "ok"))
            if status == 200 and answer["files"] == ["busy.txt"]:
                with tarfile.open(fileobj=io.BytesIO(base64.b64decode(answer["archive"]))) as tar:
                    file = tar.extractfile("busy.txt")
                    assert file is not None
                    content = file.read()
                number = content[: len(content) // 200_000]
                assert content == number * 200_000
    finally:
        ended.set()
        writer.join()
    assert codes <= {"ok", "Changing", "NoEdits"}
    assert session.call("GET", "/v1/edits")[1]["revision"] == edits(session)["revision"]


def zeros(count: int) -> bytes:
    """A tar of one file with `count` zeros, compressed."""
    target = io.BytesIO()
    with gzip.GzipFile(fileobj=target, mode="wb") as compressed:
        header = tarfile.TarInfo("zeros")
        header.size = count
        compressed.write(header.tobuf())
        for _ in range(count // 2**20):
            compressed.write(bytes(2**20))
    return target.getvalue()


def sparse(size: int) -> bytes:
    """A tar whose one member is sparse: 10 GiB of it unpack from nothing."""
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


def test_a_push_keeps_what_was_edited(session: Agent) -> None:
    folder = flow(session)
    (folder / "a.py").write_text("mine")
    (folder / "lib" / "b.py").write_text("mine too")
    (folder / "old.txt").write_text("mine as well")
    (folder / "flow.dag.yaml").write_text("mine and unchanged there")
    newer = {"flow.dag.yaml": PUSHED["flow.dag.yaml"], "a.py": b"print('newer')", "lib/b.py": b"mine too", "fresh": b"x"}
    (folder / "fresh").symlink_to("a.py")
    status, state = session.put("p1", "f2", files=newer)
    assert status == 200
    assert state["edits"]["files"] == ["a.py.kept", "flow.dag.yaml", "fresh.kept", "old.txt.kept"]
    assert {name: content for name, (_, content) in ((n, c) for n, c in listing(session).items() if isinstance(c, tuple))} == {
        "flow.dag.yaml": b"mine and unchanged there",
        "a.py": b"print('newer')",
        "a.py.kept": b"mine",
        "lib/b.py": b"mine too",
        "old.txt.kept": b"mine as well",
        "fresh": b"x",
    }
    log = session.log.read_text()
    assert all(f"'{name}.kept'" in log for name in ("a.py", "old.txt", "fresh"))


def test_a_push_leaves_what_was_deleted_unless_it_changed(session: Agent) -> None:
    for name in ("a.py", "old.txt"):
        (flow(session) / name).unlink()
    _, state = session.put("p1", "f2", files={**PUSHED, "a.py": b"newer"})
    assert state["edits"]["files"] == ["old.txt (deleted)"]


def test_a_push_keeps_the_exec_bit(session: Agent) -> None:
    (flow(session) / "a.py").chmod(0o755)
    _, state = session.put("p1", "f2", files={**PUSHED, "a.py": b"newer"})
    assert state["edits"]["files"] == ["a.py"]
    assert listing(session)["a.py"] == (True, b"newer")


def test_what_can_not_be_read_is_told(start: StartAgent, tmp_path: Path) -> None:
    from . import support

    with support.folder_of(65534) as folder:
        prefix = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all")
        agent = start(folder=folder, prefix=prefix, command=support.as_file(folder, "/usr/bin/python3"))
        agent.put("p1", "f1", files=PUSHED)
        (flow(agent) / "secret").write_text("root's")
        (flow(agent) / "secret").chmod(0o600)
        (flow(agent) / "mine").write_text("x")
        found = edits(agent)
        assert (found["files"], "secret can't be read" in found["problem"]) == (["mine"], True)
        assert agent.call("GET", "/v1/edits")[1]["files"] == ["mine"]
        agent.close()


def test_edited_requirements_stay_while_the_environment_s_are_installed(start: StartAgent, plain_base: str) -> None:
    agent = start(python=plain_base)
    files = {"requirements.txt": b"pip\n"}
    assert agent.install("p1", "pip\n", path="requirements.txt", files=files, flow="f1")["state"] == "Succeeded"
    (flow(agent) / "requirements.txt").write_text("mine\n")
    install = agent.install("p2", "no such thing\n", path="requirements.txt", files=files, flow="f1")
    assert (install["code"], "line 1 of requirements.txt" in install["message"]) == ("InvalidRequirement", True), install
    assert listing(agent) == {"requirements.txt": (False, b"mine\n")}
