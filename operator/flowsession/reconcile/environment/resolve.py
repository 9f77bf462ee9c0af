"""Resolves an environment: turns its spec and source into what its sessions get."""

import hashlib
import json
from collections.abc import Mapping

from flowsession.api.environment import FlowEnvironmentSpec, FlowSummary, ImageOrigin
from flowsession.api.environment import Tracing as TracingSpec
from flowsession.api.source import SourceWarning
from flowsession.flow import folder as flowfolder
from flowsession.flow import includes, outside, yaml
from flowsession.images import reference
from flowsession.images.image import Image, ImageInUse
from flowsession.model.resolved import Connection, Resolved, Tracing, Unresolved
from flowsession.reconcile.environment import image as images
from flowsession.reconcile.environment import requirements_source, sources
from flowsession.reconcile.environment.last_reading import LastReading, in_place
from flowsession.reconcile.environment.sources import ConfigMapView
from flowsession.requirements import private_feeds
from flowsession.settings import PackageCache, Settings, TracingDefaults
from flowsession_cache import addresses
from flowsession_protocol.messages import Installer

MOST_WARNINGS = 50
"""Maximum number of warnings in a status, whose size is limited."""

NO_IMAGE_YET = ImageInUse()


def needed_config_maps(spec: FlowEnvironmentSpec, reading: LastReading | None = None) -> tuple[str, ...]:
    """Return the names of the ConfigMaps that the spec refers to, or that hold the last reading of its source."""
    names = list(sources.needed_config_maps(spec.source, reading))
    if spec.installer.ca_bundle_config_map_name:
        names.append(spec.installer.ca_bundle_config_map_name)
    return tuple(names)


def resolve(
    spec: FlowEnvironmentSpec,
    config_maps: Mapping[str, ConfigMapView],
    settings: Settings,
    reading: LastReading | None = None,
    in_use: ImageInUse = NO_IMAGE_YET,
) -> Resolved | Unresolved | None:
    """Return what the spec resolves to, or None if something was not read yet.

    `reading`: a pod's last reading of the source, None if no pod reads it. `in_use`: the environment's present image.
    """
    if refused := sources.refusal(spec.source, settings):
        return Unresolved(*refused)
    if any(name not in config_maps for name in needed_config_maps(spec, reading)):
        return None
    try:
        return _resolve(spec, config_maps, settings, reading, in_use)
    except yaml.FolderError as error:
        return Unresolved(error.reason, str(error))
    except sources.SourceError as error:
        return Unresolved(error.reason, str(error))


def _resolve(
    spec: FlowEnvironmentSpec,
    config_maps: Mapping[str, ConfigMapView],
    settings: Settings,
    reading: LastReading | None,
    in_use: ImageInUse,
) -> Resolved | Unresolved:
    warnings: list[SourceWarning] = []
    source = sources.read(spec.source, config_maps, reading)
    files, flow, included = _flow_folder(spec, source, warnings)
    warnings += flow.warnings if flow else ()
    if spec.base_image and flow and flow.image and flow.image != spec.base_image:
        warnings.append(
            SourceWarning(
                file=flow.file,
                code="Overridden",
                message=f"environment.image {flow.image} is overridden by spec.baseImage {spec.base_image}",
            )
        )
    image = images.choose(spec.base_image, flow.image if flow else "", in_use, settings)
    if image.origin is not ImageOrigin.DEFAULT:
        asked_by = "spec.baseImage" if image.origin is ImageOrigin.SPEC else "environment.image of flow.dag.yaml"
        if refused := reference.refusal(image.name, asked_by, settings):
            return Unresolved(*refused)
    asked = requirements_source.find(spec, flow, files, source)
    warnings += asked.warnings
    installer = _installer(spec, config_maps, settings)
    if isinstance(installer, Unresolved):
        return installer
    count, path = asked.review.count, asked.path
    if count:
        warnings += private_feeds.warnings(asked.texts, installer, secret=spec.installer.credentials_secret_name or "")
    connections = tuple(Connection(connection.name, connection.secret_name) for connection in spec.connections or ())
    own, claim, inner = spec.installer.model_dump(mode="json"), in_place(spec), sorted(asked.review.included.items())
    pushed = None if claim else files
    digests = None if pushed is None else {name: hashlib.sha256(data).hexdigest() for name, data in pushed.items()}
    return Resolved(
        image=image,
        requirements=asked,
        packages_revision=_hash([image.name, *([asked.text, own] if count else [None, None]), *inner]),
        flow_revision="none" if digests is None else _hash(digests),
        files=pushed,
        flow=FlowSummary(kind=flow.kind, nodes=flow.nodes, includes=included) if flow else None,
        warnings=_few(warnings),
        installer=installer,
        content=_digest(
            [
                *(_chosen(image), asked.text, path, inner, own, installer["caBundle"], digests, str(claim)),
                *([sorted((connection.name, connection.secret) for connection in connections)] if connections else []),
                *([{"tracing": spec.tracing.model_dump(mode="json")}] if spec.tracing else []),
            ]
        ),
        outside_modules=outside.modules(source.files, sources.normalised(spec.flow_path), pushed) if source and pushed is not None else {},
        feed_secret=spec.installer.credentials_secret_name or "" if count else "",
        claim=claim,
        connections=connections,
        tracing=_tracing(spec.tracing, settings.tracing),
    )


def _flow_folder(
    spec: FlowEnvironmentSpec, source: sources.SourceFiles | None, warnings: list[SourceWarning]
) -> tuple[Mapping[str, bytes] | None, flowfolder.Flow | None, int | None]:
    """Return the flow folder's files with includes merged, its flow, and the number of includes. Adds to `warnings`."""
    if source is None:
        return None, None, None
    warnings += source.warnings
    folder = sources.normalised(spec.flow_path)
    files: Mapping[str, bytes] = sources.inside(source.files, folder)
    opened = flowfolder.open_flow(files)
    entries = () if opened.kind == "prompty" else includes.named_by(opened.name, opened.values.get(includes.KEY))
    if not entries:
        return files, flowfolder.judge(opened, files), None
    merged = includes.merge(source.files, folder, entries, file=opened.name, links=source.links)
    for duplicate in merged.duplicates:
        warnings.append(_replaced(duplicate))
    # An include may bring another flow file, whose own includes are ignored, as in prompt flow.
    if merged.files[flowfolder.flow_file(merged.files)] is not files[opened.name]:
        opened = flowfolder.open_flow(merged.files)
    files = merged.files
    if includes.KEY in opened.values:
        files = {**files, opened.name: yaml.with_empty_list(opened.name, files[opened.name], includes.KEY, opened.values)}
    return files, flowfolder.judge(opened, files), merged.count


def _replaced(duplicate: includes.Duplicate) -> SourceWarning:
    count, few = len(duplicate.files), ", ".join(duplicate.files[:5])
    what = duplicate.files[0] if count == 1 else f"{count} files ({few}{', ...' if count > 5 else ''})"
    return SourceWarning(
        file=duplicate.files[0],
        code="DuplicateInclude",
        message=f"additional_includes entry {duplicate.entry!r} replaces {what} of the flow folder; the last one wins: rename one of them",
    )


def _few(warnings: list[SourceWarning]) -> tuple[SourceWarning, ...]:
    if len(warnings) <= MOST_WARNINGS:
        return tuple(warnings)
    rest = len(warnings) - MOST_WARNINGS + 1
    return (*warnings[: MOST_WARNINGS - 1], SourceWarning(code="More", message=f"{rest} more warnings are not shown"))


def _installer(spec: FlowEnvironmentSpec, config_maps: Mapping[str, ConfigMapView], settings: Settings) -> Installer | Unresolved:
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
        "cache": _cached(settings.package_cache),
        "identityFeedHosts": list(default.identity_feed_hosts),
    }


def _tracing(own: TracingSpec | None, default: TracingDefaults) -> Tracing | None:
    """Return where spans are sent. The chart's Secret and its setting for content apply only to the chart's endpoint."""
    wanted = own is None or own.capture_message_content is not False
    if own is not None and own.otlp_endpoint is not None:
        return Tracing(own.otlp_endpoint, own.headers_secret_name or "", wanted) if own.otlp_endpoint else None
    if not default.otlp_endpoint:
        return None
    return Tracing(default.otlp_endpoint, default.headers_secret_name, wanted and default.capture_message_content)


def _cached(cache: PackageCache) -> dict[str, str]:
    """Return the cache's address for each index. It is not part of the revision: the packages are the same without the cache."""
    return {index: addresses.cached(cache.url, index) for index in cache.indexes} if cache.url else {}


def _chosen(image: Image) -> str:
    """Return the image that the environment's author chose; empty if it is the platform's default."""
    return "" if image.origin is ImageOrigin.DEFAULT else image.name


def _hash(value: object) -> str:
    return _digest(value)[:16]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
