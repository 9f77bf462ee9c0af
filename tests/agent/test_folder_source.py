"""How a resolver's agent reads a folder mounted into its pod, and how a session's agent uses a flow folder in place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from . import support
from .conftest import StartAgent
from .support import Operator
from .test_git_source import failed, unpacked

Answer = dict[str, Any]
Read = Callable[..., Answer]


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """A folder in place of the mounted volume."""
    root = tmp_path / "mount"
    for name, content in {
        "chat/flow.dag.yaml": b"nodes: []\n",
        "chat/requirements.txt": b"pandas\n",
        "chat/data.bin": b"\0" * 300_000,
        "shared/x.py": b"X = 1\n",
        ".git/config": b"[core]\n",
        "chat/__pycache__/x.pyc": b"",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.fixture
def read(start: StartAgent, mount: Path, tmp_path: Path) -> Read:
    made: list[int] = []

    def once(path: str = ".", *, outline: bool = False) -> Answer:
        folder = tmp_path / f"agent-{len(made)}"
        made.append(1)
        folder.mkdir()
        agent = start(folder=folder, FLOWSESSION_RESOLVER="1", FLOWSESSION_SOURCE=str(mount))
        status, answer = agent.call("PUT", "/v1/source?wait=60", {"folder": {"path": path, "outline": outline}})
        assert status == 200, answer
        if "archive" in answer:
            answer["files"], answer["links"] = unpacked(answer["archive"])
        return answer

    return once


def test_all_of_it(read: Read, mount: Path) -> None:
    (mount / "chat" / "link.py").symlink_to("../shared/x.py")
    answer = read()
    assert answer["files"].keys() == {"chat/flow.dag.yaml", "chat/requirements.txt", "chat/data.bin", "shared/x.py"}
    assert answer["files"]["chat/data.bin"] == b"\0" * 300_000
    assert answer["links"] == {"chat/link.py": "../shared/x.py"}
    assert "commit" not in answer


def test_a_folder_of_it(read: Read) -> None:
    assert read("shared")["files"] == {"x.py": b"X = 1\n"}


def test_an_outline_has_every_name_and_the_small_texts(read: Read, mount: Path) -> None:
    (mount / "chat" / "link.txt").symlink_to("requirements.txt")
    (mount / "chat" / "away.txt").symlink_to("/etc/hostname")
    (mount / "chat" / "gone.txt").symlink_to("nowhere")
    answer = read(outline=True)
    assert answer["files"] == {
        "chat/flow.dag.yaml": b"nodes: []\n",
        "chat/requirements.txt": b"pandas\n",
        "chat/link.txt": b"pandas\n",
        "chat/data.bin": b"<300,000 bytes, which are not read>\n",
        "shared/x.py": b"X = 1\n",
    }
    assert answer["links"] == {}


def test_an_outline_is_taken_of_a_folder_of_any_size(read: Read, mount: Path) -> None:
    (mount / "data" / "deep").mkdir(parents=True)
    for number in range(3100):
        (mount / "data" / "deep" / f"{number}.csv").write_bytes(b"1")
    with (mount / "data" / "huge.parquet").open("wb") as file:
        file.truncate(10**11)
    answer = read(outline=True)
    assert len(answer["files"]) == 3000
    assert answer["files"]["chat/requirements.txt"] == b"pandas\n"
    assert answer["files"]["data/huge.parquet"] == b"<100,000,000,000 bytes, which are not read>\n"
    assert [warning["code"] for warning in answer["warnings"]] == ["ManyFiles"]


def test_texts_come_before_the_rest_where_there_is_no_room_for_all(read: Read, mount: Path) -> None:
    for number in range(40):
        (mount / f"{number}.py").write_bytes(b"#" * 100_000)
    (mount / "chat" / "lock.txt").write_bytes(b"#" * 200_000)
    answer = read(outline=True)
    assert len(answer["files"]["chat/lock.txt"]) == 200_000
    assert sum(map(len, answer["files"].values())) < 2_200_000


def test_what_can_not_be_read_is_named(read: Read, mount: Path) -> None:
    failed(read("nope"), "PathNotFound", "no folder 'nope' (path)", "it holds: chat, shared")
    (mount / "out").symlink_to("/etc")
    failed(read("out"), "PathNotFound", "is a link out of it")
    (mount / "chat" / "big.bin").write_bytes(b"\0" * 9_000_000)
    failed(read(), "TooLarge", "the largest: chat/big.bin 9,000,000")
    for number in range(3001):
        (mount / "shared" / f"{number}").touch()
    failed(read(), "TooLarge", "at most 3,000 are taken")


def test_what_only_others_may_read_is_named(mount: Path, operator: Operator) -> None:
    (mount / "chat" / "flow.dag.yaml").chmod(0o600)
    for folder in mount.parents:  # pytest's folders belong to root, one level more if tests run in several processes
        if folder.name.startswith(("pytest-", "popen-")) or folder == mount.parent:
            folder.chmod(0o755)
    with support.folder_of(1000) as folder:
        agent = support.start(
            folder, operator=operator, prefix=("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"),
            FLOWSESSION_RESOLVER="1", FLOWSESSION_SOURCE=str(mount),
        )  # fmt: skip
        try:
            answer = agent.call("PUT", "/v1/source?wait=60", {"folder": {"path": "."}})[1]
            failed(answer, "NotReadable", "chat/flow.dag.yaml of the source can't be read by user 1000")
        finally:
            agent.close()


def test_a_session_on_a_claim_uses_the_folder_itself(start: StartAgent, mount: Path) -> None:
    agent = start(FLOWSESSION_FLOW=str(mount / "chat"))
    status, state = agent.put("p1", "none", files=None)
    assert status == 200, state
    assert (agent.home / "flow").readlink() == mount / "chat"
    (agent.home / "flow" / "mine.py").write_text("x")
    assert (mount / "chat" / "mine.py").read_text() == "x"
    assert (mount / "chat" / "requirements.txt").read_bytes() == b"pandas\n", "nothing is taken away"
    assert agent.state()["edits"]["count"] == 0
    agent.close()
    assert start(FLOWSESSION_FLOW=str(mount / "chat")).put("p1", "none", files=None)[0] == 200, "on the same home again"


def test_requirements_of_a_claim_are_installed_in_place(start: StartAgent, mount: Path, plain_base: str) -> None:
    (mount / "chat" / "requirements.txt").write_text("-r more.txt\n")
    (mount / "chat" / "more.txt").write_text("iniconfig==2.0.0\n")
    agent = start(python=plain_base, FLOWSESSION_FLOW=str(mount / "chat"))
    install = agent.install("p1", "-r more.txt\n", path="requirements.txt", flow="none")
    assert install["state"] == "Succeeded", install
    assert install["changed"] == 1
    assert {path.name for path in (mount / "chat").iterdir()} >= {"requirements.txt", "more.txt"}
    assert not list((mount / "chat").glob(".flowsession*"))
