"""The files of a release: the program as one file, krew's manifest, the k9s plugin file, and the reference page."""

import hashlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
import zipfile

import click
import pytest
import yaml

from flowsession import __version__
from flowsession_cli import app
from release import __main__ as release
from release import pyz, reference

ADDRESS = "https://files.example.com/x"


@pytest.fixture(scope="module")
def made():
    return release.files(ADDRESS)


@pytest.fixture
def program(made, tmp_path):
    """Return a function that calls the single-file program with a Python that sees no installed libraries."""
    path = tmp_path / "kubectl-flow"
    path.write_bytes(made[release.PROGRAM])

    def call(*words, path=path, **environ):
        base = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        return subprocess.run(
            [sys.executable, "-I", "-S", str(path), *words], capture_output=True, text=True, check=False, env=base | environ
        )

    return call


def test_the_one_file_needs_no_installed_library_and_is_unpacked_once(program, tmp_path):
    first = program("--help")
    assert first.returncode == 0, first.stderr
    assert "kubectl flow start" in first.stdout
    (unpacked,) = (tmp_path / ".cache" / "kubectl-flow").iterdir()
    before = unpacked.stat().st_mtime_ns
    assert program("run", "create", "--help").returncode == 0
    assert [unpacked.stat().st_mtime_ns] == [before]
    wrong = program("run", "create")
    assert (wrong.returncode, wrong.stderr.startswith("kubectl flow: a run needs data")) == (2, True)


def test_what_the_program_imports_of_this_project_is_in_the_one_file(made):
    with zipfile.ZipFile(io.BytesIO(made[release.PROGRAM])) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist() if name.startswith("flowsession")}
    wanted = {module for text in texts.values() for module in re.findall(r"^ *from (flowsession[\w.]*) import", text, re.MULTILINE)}
    assert "flowsession.api.quantity" in wanted
    paths = [module.replace(".", "/") for module in wanted]
    assert [path for path in paths if not {f"{path}.py", f"{path}/__init__.py"} & texts.keys()] == []


def test_the_one_file_starts_where_nothing_can_be_written(program, tmp_path):
    (tmp_path / "file").write_text("")
    done = program("start", "/nowhere", XDG_CACHE_HOME=str(tmp_path / "file"))
    assert (done.returncode, done.stderr.startswith("kubectl flow: ")) == (1, True), done.stderr


def test_the_one_file_draws_without_the_libraries_that_are_left_out(program, tmp_path):
    kubectl = tmp_path / "kubectl"
    session = {"metadata": {"name": "chat", "creationTimestamp": "2026-11-29T10:00:00Z"}, "spec": {"environmentRef": {"name": "c"}}}
    sessions = json.dumps({"items": [session]})
    kubectl.write_text(f"#!/bin/sh\necho '{sessions}'\n")
    kubectl.chmod(0o755)
    listed = program("ls", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.splitlines()[1].split()[:2] == ["chat", "New"]


def test_called_by_kubectl_for_completion_it_completes(program, made, tmp_path):
    path = tmp_path / "kubectl_complete-flowsession"
    path.write_bytes(made[release.PROGRAM])
    assert program("keep", path=path).stdout.startswith("keep-alive\t")


def test_the_same_modules_give_the_same_bytes(made):
    assert hashlib.sha256(pyz.build(release.CHECKOUT / "operator")).digest() == hashlib.sha256(made[release.PROGRAM]).digest()


def test_its_start_is_understood_by_old_pythons(made):
    with zipfile.ZipFile(io.BytesIO(made[release.PROGRAM])) as archive:
        text = archive.read("__main__.py").decode()
        names = archive.namelist()
    compile(text, "start", "exec", flags=0, dont_inherit=True)
    assert not re.search(r"\bf['\"]|:=|\bnonlocal\b|->", text)
    assert {"licenses/click/LICENSE.txt", "licenses/rich/LICENSE", "licenses/pathspec/LICENSE", "licenses/PyYAML/LICENSE"} <= set(names)
    assert all(name.endswith(".py") or name.startswith("licenses/") for name in names)


def test_krews_manifest_names_the_archive_and_what_is_in_it(made):
    manifest = yaml.safe_load(made[release.MANIFEST])
    assert "${" not in made[release.MANIFEST].decode()
    spec = manifest["spec"]
    assert (manifest["metadata"]["name"], spec["version"]) == ("flowsession", f"v{__version__}")
    assert len(spec["shortDescription"]) <= 50
    (platform,) = spec["platforms"]
    assert platform["uri"] == f"{ADDRESS}/v{__version__}/kubectl-flow.tar.gz"
    assert platform["sha256"] == hashlib.sha256(made[release.ARCHIVE]).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(made[release.ARCHIVE])) as archive:
        assert {member.name: member.mode for member in archive} == {"kubectl-flow.pyz": 0o755, "LICENSE": 0o644}
        assert {entry["from"] for entry in platform["files"]} == set(archive.getnames())
    assert platform["bin"] in {entry["from"] for entry in platform["files"]}


K9S_MEMBERS = {"shortCut", "override", "description", "confirm", "dangerous", "scopes", "command", "background", "overwriteOutput", "args"}
K9S_NEEDED = {"shortCut", "description", "scopes", "command"}
K9S_KNOWN = {"NAME", "NAMESPACE", "CONTEXT"}
PLUGINS = yaml.safe_load((release.CHECKOUT / "integrations" / release.K9S).read_text())["plugins"]


@pytest.mark.parametrize("name", PLUGINS)
def test_k9s_plugins_are_as_its_schema_has_them_and_their_commands_are_there(name):
    plugin = PLUGINS[name]
    assert K9S_NEEDED <= plugin.keys() <= K9S_MEMBERS
    words = [plugin["command"], *plugin["args"]]
    assert {found for word in words for found in re.findall(r"\$(\w+)", word)} == K9S_KNOWN, "k9s refuses names that it doesn't know"
    if words[0] == "sh":
        words = shlex.split(words[2].partition(" 2>&1 |")[0])
    assert words[:2] == ["kubectl", "flow"]
    command, rest = app.cli, words[2:]
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), rest.pop(0))
        assert command is not None, words
    context = command.make_context("x", rest)
    assert context.params["namespace"] == "$NAMESPACE"
    assert plugin.get("confirm", False) == any(word in words for word in ("suspend", "stop", "cancel"))


def test_no_two_k9s_plugins_of_a_view_have_one_key():
    keys = [(scope, plugin["shortCut"]) for plugin in PLUGINS.values() for scope in plugin["scopes"]]
    assert len(keys) == len(set(keys))


def test_the_reference_has_every_command_and_its_stale_page_is_told(tmp_path, monkeypatch, capsys):
    page = reference.page()
    for words in ("## start", "### run create", "| `--resume-from NAME` |", "### env check-version", "kubectl flow top [OPTIONS]"):
        assert words in page, words
    monkeypatch.setattr(reference, "PAGE", tmp_path / "page.md")
    assert reference.main(["--check"]) == 1
    assert "make docs writes it anew" in capsys.readouterr().err
    assert (reference.main([]), reference.main(["--check"])) == (0, 0)
