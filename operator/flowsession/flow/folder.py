"""Reads a flow folder as prompt flow does: which flow it holds, what it includes, and the image and requirements that it asks for.

The rules are those of promptflow-core's `resolve_flow_path` and promptflow-azure's `Flow._resolve_requirements` (1.18.5).
"""

import difflib
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flowsession.api.source import SourceWarning
from flowsession.flow import yaml
from flowsession.flow.yaml import LARGEST as LARGEST_FLOW_FILE
from flowsession.flow.yaml import FolderError, text_of
from flowsession_protocol import flow_files
from flowsession_protocol.flow_files import kind_of

READ = ("image", "python_requirements_txt")
NOT_READ = {
    "conda_file": "put its pip packages into requirements.txt, and what conda alone has into an image of yours",
    "setup_sh": "build what it sets up into an image of yours, and name that as environment.image",
    "runtime_image": "it is the service's own; name an image of yours as environment.image",
}
"""Keys of `environment` that prompt flow knows (`pf flow build`, its cloud's REST model) but sessions ignore, each with the alternative."""

MOST_KEYS = 20

_FRONT_MATTER = re.compile(r"\A\s*-{3,}[^\S\n]*\n(.*?)^-{3,}[^\S\n]*$", re.DOTALL | re.MULTILINE)
"""Front matter up to the first closing line of dashes. promptflow-core and the agent's check read up to the last one, and the check reports
it if that is not YAML: text in a template must not keep an environment from being Ready."""


@dataclass(frozen=True)
class FlowFile:
    """The folder's flow file and its values: all of a dag or flex flow, the front matter of a prompty."""

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
    """Normalized path from the folder to the requirements file; None: the flow asks for none."""
    warnings: tuple[SourceWarning, ...] = ()


def read(files: Mapping[str, bytes]) -> Flow:
    """Return what the folder asks for. Raises FolderError."""
    return judge(open_flow(files), files)


def open_flow(files: Mapping[str, bytes]) -> FlowFile:
    """Return the folder's only flow file. Raises FolderError."""
    name = flow_file(files)
    values = _front_matter(name, files[name]) if name.endswith(flow_files.PROMPTY) else yaml.document(name, files[name])
    return FlowFile(name, flow_files.kind(name, values), values)


def judge(flow: FlowFile, files: Mapping[str, bytes]) -> Flow:
    """Return what the flow file asks for. `files` is the complete folder, with includes merged. Raises FolderError."""
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
    warnings = list(_not_read(flow.name, environment))
    path = _requirements(flow.name, environment.get("python_requirements_txt"), files, warnings)
    return Flow(
        kind=flow.kind,
        file=flow.name,
        nodes=len(nodes) if flow.kind == "dag" and isinstance(nodes, list) else None,
        image=(image or "").strip(),
        requirements_path=path,
        warnings=tuple(warnings),
    )


def flow_file(files: Mapping[str, bytes]) -> str:
    """Return the name of the folder's only flow file. Raises FolderError."""
    found = flow_files.candidates(files)
    if len(found) > 1:
        raise FolderError(f"the flow folder holds {' and '.join(found)}; keep one of them")
    if found:
        return found[0]
    here = ", ".join(sorted(files)[:10]) or "nothing"
    deeper = sorted({folder for folder, name in map(posixpath.split, files) if folder and name in (*flow_files.DAG, *flow_files.FLEX)})
    advice = f"set flowPath: there is one in {', '.join(deeper[:5])}" if deeper else "check source and flowPath"
    raise FolderError(f"the flow folder has neither flow.dag.yaml nor flow.flex.yaml (it holds: {here}); {advice}")


def _front_matter(name: str, content: bytes) -> dict[str, Any]:
    """Return the YAML between the first two lines of dashes. A prompty without it is left to prompt flow, which reports it at run time."""
    if len(content) > LARGEST_FLOW_FILE:
        raise FolderError(f"{name} has {len(content):,} bytes; at most {LARGEST_FLOW_FILE:,} are read: keep data in files of its own")
    found = _FRONT_MATTER.match(text_of(name, content).replace("\r\n", "\n"))
    return yaml.document(name, b"\n" + found.group(1).encode()) if found and found.group(1).strip() else {}


def _not_read(file: str, environment: Mapping[Any, Any]) -> Iterator[SourceWarning]:
    """Yield a warning for each key that prompt flow uses elsewhere or not at all: its own schema accepts any key."""
    for key in list(environment)[:MOST_KEYS]:
        if key in READ:
            continue
        name = str(key)[:80]
        near = difflib.get_close_matches(name, READ, n=1)
        advice = NOT_READ.get(name) or (f"did you mean {near[0]}?" if near else f"{' and '.join(READ)} are")
        yield SourceWarning(file=file, code="NotRead", message=f"environment.{name} is not read: {advice}")


def _requirements(file: str, named: object, files: Mapping[str, bytes], warnings: list[SourceWarning]) -> str | None:
    if named is None or named == "":
        return "requirements.txt" if "requirements.txt" in files else None
    if isinstance(named, str):
        return posixpath.normpath(named.strip())
    # As in prompt flow's cloud, which warns of what it can't read and continues.
    message = f"environment.python_requirements_txt is {kind_of(named)}, so nothing is installed; write the name of a file"
    warnings.append(SourceWarning(file=file, code="RequirementsMissing", message=message))
    return None
