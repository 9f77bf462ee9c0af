"""Reads a flow folder as prompt flow does: which flow it holds, what it includes, and the image and requirements that it asks for.

The rules are those of promptflow-core's `resolve_flow_path` and promptflow-azure's `Flow._resolve_requirements` (1.18.5).
"""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from flowsession.decide import flowyaml
from flowsession.decide.flowyaml import LARGEST as LARGEST_FLOW_FILE
from flowsession.decide.flowyaml import FolderError, kind_of, text_of

DAG_FILES = ("flow.dag.yaml", "flow.dag.yml")
FLEX_FILES = ("flow.flex.yaml", "flow.flex.yml")

_FRONT_MATTER = re.compile(r"\A\s*-{3,}[^\S\n]*\n(.*?)^-{3,}[^\S\n]*$", re.DOTALL | re.MULTILINE)
"""As promptflow-core's `Prompty._parse_prompty` finds it."""


@dataclass(frozen=True)
class FlowFile:
    """The folder's flow file, and what it says: all of a dag or flex flow, the front matter of a prompty."""

    name: str
    kind: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Flow:
    """What a flow folder asks for."""

    kind: str
    file: str
    nodes: int | None
    image: str
    requirements_path: str | None
    """File of the folder that holds the requirements; None: there is none."""


def read(files: Mapping[str, bytes]) -> Flow:
    """What the folder asks for. Raises FolderError."""
    return judge(open_flow(files), files)


def open_flow(files: Mapping[str, bytes]) -> FlowFile:
    """The folder's one flow file. Raises FolderError."""
    name, kind = flow_file(files)
    values = _front_matter(name, files[name]) if kind == "prompty" else flowyaml.document(name, files[name])
    if kind != "prompty":  # what makes a flex flow for prompt flow is the key, whatever the file's name
        kind = "flex" if "entry" in values or (kind == "flex" and "nodes" not in values) else "dag"
    return FlowFile(name, kind, values)


def judge(flow: FlowFile, files: Mapping[str, bytes]) -> Flow:
    """What the flow file asks for, in a folder that is complete: includes are merged first. Raises FolderError."""
    environment = flow.values.get("environment")
    if environment is None:
        environment = {}
    if not isinstance(environment, dict):
        raise FolderError(
            f"{flow.name}: environment is {kind_of(environment)}, but must be a mapping with keys such as image and python_requirements_txt"
        )
    image = environment.get("image")
    if image is not None and not isinstance(image, str):
        raise FolderError(f"{flow.name}: environment.image is {kind_of(image)}, but must be the name of an image")
    nodes = flow.values.get("nodes")
    return Flow(
        kind=flow.kind,
        file=flow.name,
        nodes=len(nodes) if flow.kind == "dag" and isinstance(nodes, list) else None,
        image=(image or "").strip(),
        requirements_path=_requirements(flow.name, environment.get("python_requirements_txt"), files),
    )


def flow_file(files: Mapping[str, bytes]) -> tuple[str, str]:
    """Name and kind of the folder's one flow file. Raises FolderError."""
    found = [(name, kind) for names, kind in ((DAG_FILES, "dag"), (FLEX_FILES, "flex")) for name in names if name in files]
    if len(found) > 1:
        raise FolderError(f"the flow folder holds {' and '.join(name for name, _ in found)}; keep one of them")
    if found:
        return found[0]
    prompties = sorted(name for name in files if name.endswith(".prompty") and "/" not in name)
    if len(prompties) == 1:
        return prompties[0], "prompty"
    here = ", ".join(sorted(files)[:10]) or "nothing"
    deeper = sorted({folder for folder, name in map(posixpath.split, files) if folder and name in DAG_FILES + FLEX_FILES})
    advice = f"set flowPath: there is one in {', '.join(deeper[:5])}" if deeper else "check source and flowPath"
    raise FolderError(f"the flow folder has neither flow.dag.yaml nor flow.flex.yaml (it holds: {here}); {advice}")


def _front_matter(name: str, content: bytes) -> dict[str, Any]:
    """The YAML between the first two lines of dashes. A prompty without it is left to prompt flow, which says so when it runs."""
    if len(content) > LARGEST_FLOW_FILE:
        raise FolderError(f"{name} has {len(content):,} bytes; at most {LARGEST_FLOW_FILE:,} are read: keep data in files of its own")
    found = _FRONT_MATTER.match(text_of(name, content).replace("\r\n", "\n"))
    return flowyaml.document(name, b"\n" + found.group(1).encode()) if found and found.group(1).strip() else {}


def _requirements(file: str, named: object, files: Mapping[str, bytes]) -> str | None:
    if named is None or named == "":
        return "requirements.txt" if "requirements.txt" in files else None
    if not isinstance(named, str):
        raise FolderError(f"{file}: environment.python_requirements_txt is {kind_of(named)}, but must be the name of a file")
    path = PurePosixPath(named.strip())
    if path.is_absolute() or ".." in path.parts:
        raise FolderError(
            f"{file}: environment.python_requirements_txt is {named!r}, outside of the flow folder; put the file into the folder,"
            " or name it in additional_includes",
            reason="RequirementsRejected",
        )
    if str(path) not in files:
        raise FolderError(
            f"{file} names the requirements file {named!r}, but the flow folder has no such file; add it or correct the name",
            reason="RequirementsRejected",
        )
    return str(path)
