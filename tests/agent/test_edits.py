"""Changes to a session's flow folder are found, handed over, and never lost in a push."""

import base64
import io
import os
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

from .conftest import StartAgent
from .editing import EVERYTHING, NONE, PUSHED, edit_everything, edits, flow, listing
from .support import Agent, processor_seconds


def test_without_a_flow_folder_there_are_no_edits(agent: Agent) -> None:
    assert edits(agent) == NONE
    (flow(agent) / "mine.txt").write_text("x")
    assert agent.put("p1", "f0", files=None)[1]["edits"] == NONE
    for method, path in (("GET", "/v1/edits"), ("POST", "/v1/edits/restore"), ("POST", "/v1/edits/discard")):
        status, answer = agent.call(method, path)
        assert (status, answer["code"]) == (404, "NoEdits")


def test_a_folder_as_it_was_pushed_has_no_edits(session: Agent) -> None:
    assert edits(session) == NONE
    (flow(session) / "a.py").write_bytes(PUSHED["a.py"])  # rewritten with the same content
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
    before = processor_seconds(session.pid)
    first = edits(session)
    assert (first["bytes"], first["files"]) == (10 * 1024**3, ["huge.bin"])
    assert session.call("GET", "/v1/edits")[0] == 413
    assert processor_seconds(session.pid) - before < 0.5
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
    before = processor_seconds(session.pid)
    assert edits(session)["revision"] == found["revision"]
    assert processor_seconds(session.pid) - before < 1
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
