"""Finds an environment's requirements: the spec's lines, or the file that its flow names, inside or outside the flow folder."""

import posixpath
import re
from collections.abc import Mapping

from flowsession.api.environment import FlowEnvironmentSpec
from flowsession.api.source import SourceWarning
from flowsession.flow import folder as flowfolder
from flowsession.flow import includes, yaml
from flowsession.flow.yaml import FolderError
from flowsession.model.resolved import IN_SPEC, Requirements, leads_outside
from flowsession.reconcile.environment.sources import SourceFiles, normalised
from flowsession.requirements import review as requirements

_LONE_FILE = re.compile(r"^[\w./-]+\.txt$")


def find(
    spec: FlowEnvironmentSpec, flow: flowfolder.Flow | None, files: Mapping[str, bytes] | None, source: SourceFiles | None
) -> Requirements:
    """Return the requirements of `spec`, else of `flow`, whose folder has the `files`. Raises FolderError if they can't be used."""
    text, path, warnings = spec.requirements_text, None, list[SourceWarning]()
    if text is None and files is not None and flow and source and flow.requirements_path:
        path = flow.requirements_path
        content = files.get(path)
        if leads_outside(path):
            content = _outside_content(path, normalised(spec.flow_path), source)
            warnings.append(_outside(flow, path, found=content is not None))
        elif content is None:
            warnings.append(_missing(flow, path))
        text, path = (None, None) if content is None else (_text(path, content), path)
    elif text is not None and _LONE_FILE.match(text.strip()):
        message = f"{IN_SPEC} is {text.strip()!r}, but takes the lines themselves: to pip that is the name of a package"
        raise FolderError(f"{message}; write the lines, or put the file into the flow folder", reason="RequirementsRejected")
    inside = path is not None and not leads_outside(path)
    review = requirements.review(text or "", path=path if inside else None, files=files)
    where = path or IN_SPEC
    if review.errors:
        shown = "; ".join(f"{one.file or where} line {one.line}: {one.message}" for one in review.errors[:5])
        more = f" (and {len(review.errors) - 5} more)" if len(review.errors) > 5 else ""
        raise FolderError(f"{shown}{more}", reason="RequirementsRejected")
    warnings += [SourceWarning(file=one.file or where, line=one.line, code=one.code, message=one.message) for one in review.warnings]
    return Requirements(text or "", path, review, tuple(warnings))


def _text(path: str, content: bytes) -> str:
    if len(content) > requirements.LARGEST:
        message = f"{path} has {len(content):,} bytes; at most {requirements.LARGEST:,} are read"
        raise FolderError(f"{message}: split the environment, or lock fewer platforms", reason="RequirementsRejected")
    return yaml.text_of(path, content)


def _outside_content(path: str, folder: str, source: SourceFiles) -> bytes | None:
    """Return the content of a file of the source, by its path relative to the flow folder, or None if it is missing."""
    return source.files.get(includes.real(folder, path, source.links))


def _outside(flow: flowfolder.Flow, path: str, *, found: bool) -> SourceWarning:
    advice = f"add it to additional_includes and name it {posixpath.basename(path)!r}"
    if found:
        message = f"the requirements file {_shown(path)} lies outside of the flow folder, where prompt flow's cloud does not look; {advice}"
        return SourceWarning(file=flow.file, code="RequirementsOutside", message=message)
    message = f"the requirements file {_shown(path)} is not in the source, so nothing of it is installed; put it there, then {advice}"
    return SourceWarning(file=flow.file, code="RequirementsMissing", message=message)


def _missing(flow: flowfolder.Flow, path: str) -> SourceWarning:
    hint = ", and write / instead of \\" if "\\" in path else ": it must be relative to the flow folder" if path.startswith("/") else ""
    message = f"the flow folder has no requirements file {_shown(path)}, so nothing of it is installed; add it or correct the name{hint}"
    return SourceWarning(file=flow.file, code="RequirementsMissing", message=message)


def _shown(path: str) -> str:
    return repr(path if len(path) <= 120 else f"{path[:120]}...")
