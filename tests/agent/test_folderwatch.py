"""Which changes to the flow folder are noticed, with inotify and without."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowsession_agent.session import inotify
from flowsession_agent.session.folder_watch import FolderWatch
from flowsession_agent.session.inotify import Inotify


class Folder:
    """A watched folder and the clock of its watch."""

    def __init__(self, root: Path, notices: Inotify | None) -> None:
        self.root = root
        self.now = 100.0
        self.watch = FolderWatch(str(root), notices=notices, clock=lambda: self.now)

    def changed(self) -> str:
        """Return what changed since the last look, or an empty string."""
        self.now += 10
        return self.watch.changed if self.watch.look(now=True) == self.now else ""


@pytest.fixture(params=["notices", "walks"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    (tmp_path / "flow" / "lib").mkdir(parents=True)
    (tmp_path / "flow" / "a.py").write_text("1")
    (tmp_path / "flow" / "lib" / "b.py").write_text("1")
    notices = Inotify() if request.param == "notices" else None
    found = Folder(tmp_path / "flow", notices)
    assert found.changed() == ""
    yield found
    if notices:
        notices.close()


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("x")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a.py": lambda root: append(root / "a.py"),
    "new.txt": lambda root: (root / "new.txt").write_text("new"),
    "lib/b.py": lambda root: (root / "lib" / "b.py").chmod(0o755),
    "lib/c.py": lambda root: (root / "lib" / "b.py").rename(root / "lib" / "c.py"),
    "link": lambda root: (root / "link").symlink_to("/nowhere"),
    "folder": lambda root: (root / "folder").mkdir(),
}


@pytest.mark.parametrize("path", CHANGES)
def test_each_change_is_noticed_once_and_named(folder: Folder, path: str) -> None:
    CHANGES[path](folder.root)
    assert folder.changed() == path
    assert folder.changed() == ""


def test_a_deleted_file_is_a_change(folder: Folder) -> None:
    (folder.root / "lib" / "b.py").unlink()
    assert folder.changed() == "lib/b.py"


def test_folders_made_renamed_and_replaced_later_are_watched_too(folder: Folder) -> None:
    for name in ("new", "new/deeper"):
        (folder.root / name).mkdir()
        assert folder.changed()
    (folder.root / "new").rename(folder.root / "moved")
    assert folder.changed()
    (folder.root / "moved" / "deeper" / "x").write_text("1")
    assert folder.changed() == "moved/deeper/x"
    folder.root.rename(folder.root.with_name("old"))
    folder.changed()
    folder.root.mkdir()
    folder.changed()
    (folder.root / "again").write_text("1")
    assert folder.changed() == "again"


@pytest.mark.parametrize("name", ["__pycache__/a.pyc", ".promptflow/run.json", "a.pyc", ".flowsession.1.tmp"])
def test_what_python_prompt_flow_and_the_agent_leave_there_is_no_change(folder: Folder, name: str) -> None:
    for path in (folder.root / name, folder.root / "lib" / name):
        path.parent.mkdir(exist_ok=True)
        assert folder.changed() == ""
        path.write_text("1")
        assert folder.changed() == ""


def test_reading_is_no_change(folder: Folder) -> None:
    for path in folder.root.rglob("*.py"):
        path.read_text()
    list(folder.root.iterdir())
    assert folder.changed() == ""


def test_what_the_agent_writes_does_not_count_and_what_others_wrote_before_does(folder: Folder) -> None:
    with folder.watch.own():
        (folder.root / "pushed").mkdir()
        (folder.root / "pushed" / "a.py").write_text("2")
    assert folder.changed() == ""
    append(folder.root / "a.py")
    changed_at = folder.now
    with folder.watch.own():
        (folder.root / "lib" / "b.py").unlink()
    assert (folder.watch.look(), folder.watch.changed) == (changed_at, "a.py")
    append(folder.root / "pushed" / "a.py")
    assert folder.changed() == "pushed/a.py"


def test_a_push_before_the_first_look_is_none_of_the_sessions_changes(tmp_path: Path) -> None:
    for notices in (Inotify(), None):
        watch = FolderWatch(str(tmp_path), notices=notices)
        with watch.own():
            (tmp_path / f"pushed-{notices}").write_text("1")
        assert (watch.look(), watch.look(now=True)) == (0, 0)


def test_a_folder_that_is_a_link_is_followed_and_links_in_it_are_not(tmp_path: Path, folder: Folder) -> None:
    (tmp_path / "elsewhere").mkdir()
    (folder.root / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in-place").symlink_to(folder.root)
    linked = Folder(tmp_path / "in-place", Inotify() if folder.watch._notices else None)
    assert linked.changed() == ""
    (tmp_path / "elsewhere" / "x").write_text("1")
    assert linked.changed() == ""
    append(folder.root / "a.py")
    assert linked.changed() == "a.py"


def test_a_storm_of_changes_is_one_change(tmp_path: Path) -> None:
    folder = Folder(tmp_path, Inotify())
    assert folder.changed() == ""
    for number in range(3 * inotify.EVENTS_LIMIT):
        (tmp_path / f"file{number}").write_text("1")
    assert folder.watch.look() == folder.now
    assert folder.changed() == ""
    append(tmp_path / "file7")
    assert folder.changed() == "file7"


class Refusing(Inotify):
    """A node whose inotify watches or instances are used up for this user."""

    def watch(self, path: str, mask: int, take: Callable[[int, str], None]) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_without_watches_left_on_the_node_the_files_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    folder = Folder(tmp_path, Refusing())
    assert folder.changed() == ""
    append(tmp_path / "a.py")
    assert folder.changed() == "a.py"


def test_looking_at_the_files_takes_a_hundredth_of_a_core_unless_somebody_must_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = iter(range(100))
    monkeypatch.setattr("time.thread_time", lambda: next(spent) / 10)  # each walk takes 0.1 s
    folder = Folder(tmp_path, None)
    folder.changed()
    assert folder.changed() == ""
    (tmp_path / "a.py").write_text("1")
    folder.now += 9
    assert folder.watch.look() == 0
    assert folder.watch.look(now=True) == folder.now
    (tmp_path / "b.py").write_text("1")
    folder.now += 10.5
    assert folder.watch.look() == folder.now


def test_a_file_that_comes_while_the_folder_does_not_exist_is_found(tmp_path: Path) -> None:
    for notices in (Inotify(), None):
        root = tmp_path / f"later-{notices is None}"
        folder = Folder(root, notices)
        assert folder.changed() == ""
        root.mkdir()
        folder.changed()
        (root / "a.py").write_text("1")
        assert folder.changed() == "a.py"
