"""The last reading of a source that a pod reads. The status refers to it, so sessions get it without that pod."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pydantic import ValidationError

from flowsession.api.environment import FlowEnvironmentSpec
from flowsession.api.source import Source, SourceStatus, SourceWarning
from flowsession.model.resolved import Claim

KEY = "source.tar.gz"
"""Key of the archive in its ConfigMap."""


@dataclass(frozen=True)
class LastReading:
    """The last reading of the present spec.source."""

    config_map: str = ""
    """Name of the ConfigMap with the archive; empty: nothing was read yet."""
    digest: str = ""
    revision: str = ""
    commit: str = ""
    reason: str = ""
    """Why the last attempt failed; empty: it succeeded."""
    message: str = ""
    warnings: tuple[SourceWarning, ...] = ()


def is_read_by_a_pod(source: Source | None) -> bool:
    """Return whether the source is foreign content, which a pod reads instead of the operator."""
    return source is not None and bool(source.git or source.persistent_volume_claim or source.oci_artifact)


def of(spec: FlowEnvironmentSpec, status: Mapping[str, Any]) -> LastReading | None:
    """Return the last reading of the present source, from the status, or None if no pod reads this source."""
    if not is_read_by_a_pod(spec.source):
        return None
    try:
        known = SourceStatus.model_validate(status.get("source") or {})
    except ValidationError:
        known = SourceStatus()
    if spec.source is None or known.spec_hash != hash_of(spec.source):
        return LastReading()
    return LastReading(
        config_map=known.config_map_name or "",
        digest=known.digest or "",
        revision=known.revision or "",
        commit=known.commit or "",
        reason=known.reason or "",
        message=known.message or "",
        warnings=tuple(known.warnings or ()),
    )


def hash_of(source: Source) -> str:
    """Return the hash of the source, without its polling interval."""
    wire = source.to_wire()
    for member in wire.values():
        member.pop("pollSeconds", None)
    return hashlib.sha256(json.dumps(wire, sort_keys=True).encode()).hexdigest()[:16]


def named(source: Source) -> str:
    """Return the source in a few words, for messages."""
    if source.git:
        return f"{source.git.revision or 'the default branch'} of {source.git.url}"
    if source.oci_artifact:
        return f"OCI artifact {source.oci_artifact.reference}"
    assert source.persistent_volume_claim is not None, "the last of the kinds that a pod reads"
    return f"PersistentVolumeClaim {source.persistent_volume_claim.claim_name!r}"


def in_place(spec: FlowEnvironmentSpec) -> Claim | None:
    """Return the claim that sessions mount, or None if they get copies of the files."""
    claim = spec.source.persistent_volume_claim if spec.source else None
    if claim is None or claim.read_only:
        return None
    return Claim(claim.claim_name, str(PurePosixPath(claim.path)), str(PurePosixPath(spec.flow_path)))
