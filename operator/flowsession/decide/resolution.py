"""Resolves an environment: from the spec and its source to what its sessions shall have."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from flowsession.api.environment import FlowEnvironmentSpec, FlowSummary, SourceWarning
from flowsession.decide import flowfolder, requirements
from flowsession.settings import Settings

_LONE_FILE = re.compile(r"^[\w./-]+\.txt$")


@dataclass(frozen=True)
class ConfigMapView:
    """A ConfigMap as it was last seen. `files` None: there is no such ConfigMap."""

    name: str
    files: Mapping[str, bytes] | None
    read_at: float
    watched: bool


@dataclass(frozen=True)
class Unresolved:
    """Why there is no answer yet, as the Ready condition says it."""

    reason: str
    message: str


@dataclass(frozen=True)
class Resolved:
    """What a session of this environment shall have."""

    base_image: str
    requirements_text: str | None
    requirements_path: str | None
    requirements_count: int
    packages_revision: str
    flow_revision: str
    files: Mapping[str, bytes] | None
    flow: FlowSummary | None
    warnings: tuple[SourceWarning, ...]
    installer: Mapping[str, Any] = field(hash=False)

    @property
    def keeps_something(self) -> bool:
        """Whether a session has something that must survive a container's death: a flow folder or packages."""
        return self.files is not None or self.requirements_count > 0

    @cached_property
    def wire(self) -> Mapping[str, Any]:
        """The body of PUT /v1/environment."""
        files = None if self.files is None else {name: base64.b64encode(data).decode() for name, data in self.files.items()}
        wanted = None if self.requirements_count == 0 else {"text": self.requirements_text, "path": self.requirements_path}
        return {
            "packagesRevision": self.packages_revision,
            "flowRevision": self.flow_revision,
            "files": files,
            "requirements": wanted,
            # A CA bundle may be larger than all the rest together, and nobody reads it where nothing is installed.
            "installer": self.installer if wanted else {**self.installer, "caBundle": ""},
        }


def needed_config_maps(spec: FlowEnvironmentSpec) -> tuple[str, ...]:
    """Names of the ConfigMaps that the spec refers to."""
    names = []
    if spec.source and spec.source.config_map:
        names.append(spec.source.config_map.name)
    if spec.installer.ca_bundle_config_map_name:
        names.append(spec.installer.ca_bundle_config_map_name)
    return tuple(names)


def resolve(spec: FlowEnvironmentSpec, config_maps: Mapping[str, ConfigMapView], settings: Settings) -> Resolved | Unresolved | None:
    """What the spec comes to; None while something was not read yet."""
    if any(name not in config_maps for name in needed_config_maps(spec)):
        return None
    try:
        return _resolve(spec, config_maps, settings)
    except flowfolder.FolderError as error:
        return Unresolved(error.reason, str(error))


def _resolve(spec: FlowEnvironmentSpec, config_maps: Mapping[str, ConfigMapView], settings: Settings) -> Resolved | Unresolved:
    files = _source_files(spec, config_maps)
    if isinstance(files, Unresolved):
        return files
    flow = flowfolder.read(files) if files is not None else None
    warnings: list[SourceWarning] = []
    if spec.base_image and flow and flow.image and flow.image != spec.base_image:
        warnings.append(
            SourceWarning(
                file=flow.file,
                code="Overridden",
                message=f"environment.image {flow.image} is overridden by spec.baseImage {spec.base_image}",
            )
        )
    image = spec.base_image or (flow.image if flow else "") or settings.runtime_image
    text, path = spec.requirements_text, None
    if text is None and files is not None and flow and flow.requirements_path:
        path = flow.requirements_path
        text = flowfolder.text_of(path, files[path])
    where = path or "spec.requirementsText"
    if path is None and _LONE_FILE.match((text or "").strip()):
        said = f"spec.requirementsText is {(text or '').strip()!r}, but takes the lines themselves: to pip that is the name of a package"
        return Unresolved("RequirementsRejected", f"{said}; write the lines, or put the file into the flow folder")
    review = requirements.review(text or "")
    if review.errors:
        shown = "; ".join(f"line {f.line}: {f.message}" for f in review.errors[:5])
        more = f" (and {len(review.errors) - 5} more)" if len(review.errors) > 5 else ""
        return Unresolved("RequirementsRejected", f"{where} {shown}{more}")
    warnings += [SourceWarning(file=where, line=f.line, code=f.code, message=f.message) for f in review.warnings]
    installer = _installer(spec, config_maps, settings)
    if isinstance(installer, Unresolved):
        return installer
    own = spec.installer.model_dump(mode="json")
    return Resolved(
        base_image=image,
        requirements_text=text if review.count else None,
        requirements_path=path,
        requirements_count=review.count,
        packages_revision=_hash([image, text if review.count else None, own if review.count else None]),
        flow_revision=_hash({name: hashlib.sha256(data).hexdigest() for name, data in files.items()}) if files is not None else "none",
        files=files,
        flow=FlowSummary(kind=flow.kind, nodes=flow.nodes) if flow else None,
        warnings=tuple(warnings),
        installer=installer,
    )


def _source_files(spec: FlowEnvironmentSpec, config_maps: Mapping[str, ConfigMapView]) -> Mapping[str, bytes] | Unresolved | None:
    source = spec.source.config_map if spec.source else None
    if source is None:
        return None
    view = config_maps[source.name]
    if view.files is None:
        return Unresolved(
            "SourceNotFound", f"ConfigMap {source.name!r} of spec.source.configMap does not exist in this namespace; create it"
        )
    keys = view.files
    if source.items is not None:
        absent = [item.key for item in source.items if item.key not in keys]
        if absent:
            return Unresolved(
                "SourceNotFound",
                f"ConfigMap {source.name!r} has no key {', '.join(map(repr, absent[:5]))}, named in spec.source.configMap.items"
                f" (it has: {', '.join(sorted(keys)[:10]) or 'none'})",
            )
        keys = {item.path.removeprefix("./"): view.files[item.key] for item in source.items}
    prefix = str(PurePosixPath(spec.flow_path))
    if prefix == ".":
        return keys
    inside = {name.removeprefix(f"{prefix}/"): data for name, data in keys.items() if name.startswith(f"{prefix}/")}
    if not inside:
        return Unresolved(
            "FlowInvalid", f"the source has no folder {spec.flow_path!r} (spec.flowPath); it holds: {', '.join(sorted(keys)[:10])}"
        )
    return inside


def _installer(spec: FlowEnvironmentSpec, config_maps: Mapping[str, ConfigMapView], settings: Settings) -> dict[str, Any] | Unresolved:
    own, default = spec.installer, settings.installer
    bundle = default.ca_bundle
    if own.ca_bundle_config_map_name:
        view = config_maps[own.ca_bundle_config_map_name]
        if view.files is None or "ca.crt" not in view.files:
            return Unresolved(
                "SourceNotFound",
                f"ConfigMap {own.ca_bundle_config_map_name!r} of spec.installer.caBundleConfigMapName"
                f" {'does not exist' if view.files is None else 'has no key ca.crt'}; create it with the certificates under ca.crt",
            )
        bundle = "\n".join(part for part in (bundle, view.files["ca.crt"].decode(errors="replace")) if part)
    return {
        "tool": own.tool if own.tool != "Auto" else default.tool,
        "timeoutSeconds": own.timeout_seconds or default.timeout_seconds,
        "indexURL": own.index_url or default.index_url,
        "extraIndexURLs": list(own.extra_index_urls if own.extra_index_urls is not None else default.extra_index_urls),
        "caBundle": bundle,
        "onlyBinary": own.only_binary or default.only_binary,
        "environment": dict(default.environment),
    }


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
