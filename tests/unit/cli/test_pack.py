"""Packing a flow folder: what goes in, what stays out, and when it is refused."""

import io
import os
import tarfile

import pytest

from flowsession_cli import naming, pack
from flowsession_cli.errors import CliError


@pytest.fixture
def folder(tmp_path):
    """A flow folder in a repository."""
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    flow = tmp_path / "repo" / "chat"
    flow.mkdir()
    (flow / "flow.dag.yaml").write_text("nodes: []\n")
    (flow / "a.py").write_text("A = 1\n")
    return flow


def names(packed):
    with tarfile.open(fileobj=io.BytesIO(packed.archive)) as archive:
        return sorted(archive.getnames())


def test_the_same_folder_gives_the_same_bytes(folder):
    first = pack.pack(folder)
    os.utime(folder / "a.py", (1, 1))
    assert pack.pack(folder).archive == first.archive
    assert (names(first), first.flow_path, first.root) == (["a.py", "flow.dag.yaml"], ".", folder)
    assert pack.unpacked(first.archive) == first.files


def test_what_the_ignore_files_leave_out_stays_here(folder):
    for name in ("b.log", "keep.log", "secret.env", "data/big.bin", "data/small.csv", "__pycache__/a.pyc", ".runs/r"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    (folder.parent / ".gitignore").write_text("*.env\n")
    (folder / ".gitignore").write_text("*.log\n")
    (folder / ".amlignore").write_text("!keep.log\n/data/*.bin\n")
    assert names(pack.pack(folder)) == [".amlignore", ".gitignore", "a.py", "data/small.csv", "flow.dag.yaml", "keep.log"]


def test_what_it_includes_goes_along_and_nothing_else_of_there(folder):
    (folder / "flow.dag.yaml").write_text(
        "additional_includes: [../shared/tool.py, ../lib, ../missing, /etc/passwd, .., ../lib/../z.zip]\n"
    )
    for name in ("shared/tool.py", "shared/other.py", "lib/x.py", "z/in.txt"):
        path = folder.parent / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    packed = pack.pack(folder)
    assert names(packed) == ["chat/a.py", "chat/flow.dag.yaml", "lib/x.py", "shared/tool.py", "z/in.txt"]
    assert packed.flow_path == "chat"


def test_links_are_copied_inside_and_told_outside(folder):
    (folder / "inside.py").symlink_to("a.py")
    (folder / "outside").symlink_to("/etc/hostname")
    (folder / "there").symlink_to(folder.parent)
    packed = pack.pack(folder)
    assert "inside.py" in packed.files
    assert packed.links == ["outside", "there"]


def test_large_folders_are_refused_by_what_is_large(folder):
    (folder / "model.bin").write_bytes(os.urandom(1_100_000))
    with pytest.raises(CliError, match=r"chat has 1\.1 MB when packed.*model\.bin \(1\.1 MB\).*PersistentVolumeClaim or in git"):
        pack.pack(folder)
    with (folder / "model.bin").open("wb") as file:
        file.truncate(300_000_000)
    with pytest.raises(
        CliError, match=r"the folder has 300\.0 MB, and a flow at most 8\.4 MB; the largest is model\.bin \(300\.0 MB\): name"
    ):
        pack.pack(folder)


def test_many_files_are_refused(folder):
    for number in range(3001):
        (folder / f"{number}.txt").touch()
    with pytest.raises(CliError, match="3003 files, and a flow at most 3000"):
        pack.pack(folder)


def test_a_folder_without_a_flow_names_the_nearest(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    with pytest.raises(CliError, match=r"repo is no flow folder.*the nearest flow is in chat: kubectl flow start chat"):
        pack.flow_folder(folder.parent)
    (folder / "data").mkdir()
    with pytest.raises(CliError, match=r"the nearest flow is in chat"):
        pack.flow_folder(folder / "data")
    with pytest.raises(CliError, match="nothing is not there: name the folder"):
        pack.flow_folder(folder / "nothing")
    with pytest.raises(CliError, match=r"flow\.dag\.yaml is no folder: name the folder"):
        pack.flow_folder(folder / "flow.dag.yaml")
    folder.rename(folder.parent / "my chat")
    with pytest.raises(CliError, match="kubectl flow start 'my chat'"):
        pack.flow_folder(folder.parent)


def test_a_sessions_version_of_a_file_stays_here(tmp_path):
    for name in ("flow.dag.yaml", "a.py", "a.py.session", "a.py.session2", "notes.session", "a.py.kept", "a.py.kept2", "b.kept"):
        (tmp_path / name).write_text("x")
    packed = pack.pack(tmp_path)
    assert packed.asides == ["a.py.kept", "a.py.kept2", "a.py.session", "a.py.session2"]
    assert sorted(packed.files) == ["a.py", "b.kept", "flow.dag.yaml", "notes.session"]


def test_what_changed_is_told_apart():
    change = pack.difference({"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"})
    assert (change.added, change.changed, change.removed) == (["d"], ["b"], ["c"])
    assert not pack.difference({"a": "1"}, {"a": "1"})
    assert pack.unpacked(b"no archive") == {}


@pytest.mark.parametrize(("folder", "name"), [("/x/My Flow_2", "my-flow-2"), ("/x/chat/flow", "chat"), ("/x/" + "a" * 60, "a" * 50)])
def test_folders_give_names(folder, name):
    assert naming.of_folder(pack.Path(folder)) == name


def test_names_that_objects_cannot_have_are_refused():
    with pytest.raises(CliError, match="give one by --name"):
        naming.of_folder(pack.Path("/x/流れ"))
    with pytest.raises(CliError, match=r"small letters"):
        naming.checked("My_Flow")


def test_two_flows_are_refused_before_anything_is_written(folder):
    (folder / "flow.flex.yaml").write_text("entry: a:b")
    with pytest.raises(CliError, match=r"holds flow\.\S+ and flow\.flex\.yaml: keep one of them"):
        pack.pack(folder)
