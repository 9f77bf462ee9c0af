"""Prompt flow's own code and ours resolve generated flow folders to the same files, image and requirements, except where
docs/flow-folders.md says otherwise."""

import base64
import io
import json
import posixpath
import subprocess
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from flowsession.api.environment import FlowEnvironmentSpec
from flowsession.flow import yaml as flowyaml
from flowsession.model.resolved import Resolved, Unresolved
from flowsession.reconcile.environment import resolve as resolution
from flowsession.reconcile.environment.sources import ConfigMapView
from flowsession.settings import Settings

from .conftest import StartAgent

IMAGE = "the/default:image"
SEEN: Counter[str] = Counter()


class Upstream:
    """Prompt flow, in one process for all examples, since its imports take seconds."""

    def __init__(self, python: str, home: Path) -> None:
        environment = {"PF_HOME_DIRECTORY": str(home), "HOME": str(home), "PATH": "/usr/bin:/bin", "PF_DISABLE_TRACING": "true"}
        (home / "pf.yaml").write_text("telemetry: {enabled: false}\ntrace: {destination: none}\n")
        command = [python, str(Path(__file__).parent / "upstream.py")]
        self._process = subprocess.Popen(
            command, env=environment, cwd=home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def resolve(self, archive: bytes, flow: str) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        print(json.dumps({"archive": base64.b64encode(archive).decode(), "flow": flow}), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=30)


@pytest.fixture(scope="module")
def upstream(flow_base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    process = Upstream(flow_base, tmp_path_factory.mktemp("pf"))
    yield process
    process.close()


# -- the corpus

NAMES = [
    "a.py",
    "b.txt",
    "util",
    "shared",
    "data",
    "x.zip",
    "requirements.txt",
    "ü ß.txt",
    ".hidden",
    "we[i]rd*.txt",
    "no",
    "1",
    "-dash",
    "a.b",
]
PARTS = st.sampled_from(NAMES)
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
CONTENTS = st.sampled_from([b"", b"pandas\nnumpy\n", b"print()\n", b"requests==2.32.3\n", bytes(range(256))])
FLOWS = st.sampled_from(["flow", "top/flow", "."])
FLOW_FILES = st.sampled_from(["flow.dag.yaml"] * 5 + ["flow.dag.yml", "flow.flex.yaml", "flow.flex.yml"])
ODD = [
    "",
    ".",
    "..",
    "../..",
    "../../../x",
    "nope.txt",
    "../nope",
    "*.py",
    "../*",
    "/etc/hostname",
    "~",
    "x/../a.py",
    "a.py/",
    "../util.zip",
]


@st.composite
def sources(draw: st.DrawFn) -> tuple[dict[str, bytes], dict[str, str], str, str]:
    """Generate files, links, the flow folder, and the name of its flow file."""
    flow, name = draw(FLOWS), draw(FLOW_FILES)
    files: dict[str, bytes] = {}
    places = st.sampled_from([flow, flow, ".", "shared", "top", "top/shared"])
    for place, path, content in draw(st.lists(st.tuples(places, PATHS, CONTENTS), max_size=8)):
        add(files, posixpath.normpath(f"{place}/{path}"), content)
    if draw(st.integers(0, 9)) == 0:
        add(files, posixpath.normpath(f"{flow}/flow.flex.yaml"), b"entry: a:b\n")
    if draw(st.integers(0, 9)) == 0:
        add(files, "shared/flow.dag.yaml", b"environment: {image: brought/along}\nadditional_includes: [nowhere]\n")
    links: dict[str, str] = {}
    ends: dict[str, str] = {}
    for path in draw(st.lists(PATHS, max_size=2)):
        if files:
            target = draw(st.sampled_from(sorted({*files, *folders(files)})))
            if not clash(files, path) and not any(clash(dict.fromkeys(links, b""), one) for one in (path, target)):
                targets = [*ends.values(), target]
                # Links into folders that hold links may form a cycle, which prompt flow follows until it crashes. Refused here.
                if not any(link.startswith(f"{end}/") for link in (*links, path) for end in targets):
                    links[path], ends[path] = posixpath.relpath(target, posixpath.dirname(path) or "."), target
    there = sorted({*files, *folders(files), *links})
    real = [draw(written(posixpath.relpath(path, flow))) for path in draw(st.lists(st.sampled_from(there), max_size=4))] if there else []
    odd = draw(st.lists(st.sampled_from(ODD), max_size=1)) if draw(st.integers(0, 3)) == 0 else []
    entries = draw(st.permutations([*real, *odd]))
    flex = "flex" in name or draw(st.integers(0, 9)) == 0
    add(files, posixpath.normpath(f"{flow}/{name}"), draw(flow_texts(entries, flex=flex)).encode())
    return files, links, flow, name


@st.composite
def written(draw: st.DrawFn, path: str) -> str:
    """Generate one of the ways to write a path."""
    packed = path if path.endswith(".") else f"{path}.zip"  # prompt flow takes "..zip" for the folder itself, which nobody means
    return draw(st.sampled_from([path, path, path, f"./{path}", f"{path}/", packed, path.replace("/", "//"), f"util/../{path}"]))


@st.composite
def flow_texts(draw: st.DrawFn, entries: list[str], *, flex: bool) -> str:
    """Generate a flow file that includes the entries, in one of the ways to write YAML."""
    document: dict[str, Any] = {"inputs": {"q": {"type": "string"}}, **({"entry": "a:b"} if flex else {"nodes": []})}
    environment = draw(
        st.sampled_from(
            [
                None,
                {},
                {"image": "own/image:1"},
                {"python_requirements_txt": "requirements.txt"},
                {"python_requirements_txt": "b.txt"},
                {"python_requirements_txt": ""},
                {"python_requirements_txt": "shared/requirements.txt", "image": "on"},
            ]
        )
    )
    if environment is not None:
        document["environment"] = environment
    if entries or draw(st.booleans()):
        document["additional_includes"] = list(entries)
    keys = draw(st.permutations(list(document)))
    style = draw(st.sampled_from([None, False, True]))
    text: str = yaml.safe_dump({key: document[key] for key in keys}, default_flow_style=style, sort_keys=False, allow_unicode=True)
    return draw(st.sampled_from([text, f"# a comment\n{text}", text.replace("\nnodes:", "  # why\nnodes:")]))


def clash(files: dict[str, bytes], path: str) -> bool:
    return any(path == one or path.startswith(f"{one}/") or one.startswith(f"{path}/") for one in files)


def add(files: dict[str, bytes], path: str, content: bytes) -> None:
    if path in files or not clash(files, path):
        files[path] = content


def folders(files: dict[str, bytes]) -> set[str]:
    found = set()
    for path in files:
        while path := posixpath.dirname(path):
            found.add(path)
    return found


def pack(files: dict[str, bytes], links: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), 1_000_000_000  # zip files can't hold times before 1980
            packed.addfile(member, io.BytesIO(content))
        for name, target in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            packed.addfile(member)
    return buffer.getvalue()


# -- the comparison


def ours(archive: bytes, flow: str) -> Resolved | Unresolved:
    spec = FlowEnvironmentSpec.model_validate({"source": {"archive": {"configMap": {"name": "flow", "key": "flow"}}}, "flowPath": flow})
    view = ConfigMapView("flow", {"flow": archive}, 0.0, watched=True)
    found = resolution.resolve(spec, {"flow": view}, Settings(runtime_image=IMAGE))
    assert found is not None
    return found


STRICTER = {
    "is an absolute path": "absolute",
    "leads out of the source": "outside",
    "is the whole source": "whole source",
    "points at a folder that holds links": "links in links",
    "is not text": "binary requirements",
    "is not a requirement": "bad requirements",
}
"""What is refused here though prompt flow accepts it, as docs/flow-folders.md says."""

LENIENT = {
    "FileNotFoundError": "sub-folders in a zip, or no such requirements file",
    "IsADirectoryError": "a folder as requirements file",
    "NotADirectoryError": "a requirements file below a file",
}
"""What is accepted here though prompt flow fails on it, as docs/flow-folders.md says."""


def content(name: str, data: bytes, flow_file: str) -> Any:
    """Return what is compared of a file. Of a flow file, its parsed content, since prompt flow rewrites it. Of a zip, the files
    directly in its root folder, since prompt flow looks for files of sub-folders there too."""
    if name == flow_file:
        return {key: value for key, value in flowyaml.document(name, data).items() if key != "additional_includes"}
    if data.startswith(b"PK"):
        packed = zipfile.ZipFile(io.BytesIO(data))
        return {member: packed.read(member) for member in packed.namelist() if member.count("/") == 1}
    return data


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(source=sources())
def test_a_folder_resolves_as_upstream_resolves_it(upstream: Upstream, source: tuple[dict[str, bytes], dict[str, str], str, str]) -> None:
    files, links, flow, _ = source
    archive = pack(files, links)
    theirs, found = upstream.resolve(archive, flow), ours(archive, flow)
    SEEN[outcome := verdict(theirs, found)] += 1
    event(outcome)


def verdict(theirs: dict[str, Any], found: Resolved | Unresolved) -> str:
    """Return a short name of the outcome. Fails if the two differ and no rule allows it."""
    if "error" in theirs:
        if isinstance(found, Unresolved):
            return "refused by both"
        assert any(theirs["error"].startswith(kind) for kind in LENIENT), theirs["error"]
        return f"taken here only: {next(word for kind, word in LENIENT.items() if theirs['error'].startswith(kind))}"
    if isinstance(found, Unresolved):
        why = next((word for said, word in STRICTER.items() if said in found.message), None)
        assert why is not None, found.message
        return f"refused here only: {why}"
    assert found.files is not None and found.flow is not None
    file = theirs["file"]
    assert found.flow.kind == theirs["kind"]
    expected = {name: content(name, base64.b64decode(data), file) for name, data in theirs["files"].items()}
    assert {name: content(name, data, file) for name, data in found.files.items()} == expected
    assert found.base_image == (theirs["image"] or IMAGE)
    assert found.requirements_path == (theirs["requirements"] or None)
    if found.requirements_count:
        assert (found.requirements_text or "").splitlines() == theirs["lines"]
    told = sum(warning.code == "DuplicateInclude" for warning in found.warnings)
    assert bool(told) >= bool(theirs["duplicates"])
    return "the same, with includes" if found.flow.includes else "the same"


def test_the_corpus_shows_something() -> None:
    """Runs after the test above. A corpus of which all or nothing is refused would prove nothing."""
    assert SEEN["the same, with includes"] > 100, SEEN
    assert SEEN["refused by both"] > 30, SEEN
    assert {"refused here only: outside", "taken here only: sub-folders in a zip, or no such requirements file"} <= set(SEEN), SEEN


SHARED_FLOW = {
    "flows/greet/flow.dag.yaml": b"""
inputs:
  name: {type: string, default: world}
outputs:
  greeting: {type: string, reference: "${hello.output}"}
additional_includes:
- ../../shared
- ../../requirements.txt
nodes:
- name: hello
  type: python
  source: {type: code, path: hello.py}
  inputs: {name: "${inputs.name}"}
""",
    "flows/greet/hello.py": b"""
from promptflow.core import tool
from shared.greeting import greet

@tool
def hello(name: str) -> str:
    return greet(name)
""",
    "shared/greeting.py": b"""
from importlib.metadata import version
import iniconfig

def greet(name):
    return f"hello {name}, prompt flow {version('promptflow')}, iniconfig {version('iniconfig')}"
""",
    "shared/base.txt": b"iniconfig==2.1.0\npromptflow-core==1.10.0\n",
    "requirements.txt": b"-r shared/base.txt\npromptflow==1.10.0\n",
}


def test_what_was_merged_and_judged_installs_and_runs(start: StartAgent, flow_base: str) -> None:
    """From end to end: an archive with includes and included requirements, pins of prompt flow in both, and the flow's answer."""
    found = ours(pack(SHARED_FLOW, {}), "flows/greet")
    assert isinstance(found, Resolved) and found.files is not None
    assert [warning.code for warning in found.warnings] == ["PinnedPromptflow"] * 2
    agent = start(python=flow_base)
    install = agent.install("p1", found.requirements_text or "", path=found.requirements_path, files=found.files, flow=found.flow_revision)
    assert install["state"] == "Succeeded", install
    ran = agent.flow("test", "--inputs", "name=Ada")
    assert json.loads(ran.stdout) == {"greeting": "hello Ada, prompt flow 1.18.5, iniconfig 2.1.0"}, ran.stderr
