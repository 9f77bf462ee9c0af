"""Asks an image's registry for its tag's present digest and the base image that it names (OCI distribution and image specs)."""

import asyncio
import hashlib
import json
import re
from typing import Any

import aiohttp

from flowsession.cluster.registry.http import Access, Answer, RegistryError, RegistryHttp
from flowsession.images import check
from flowsession.images import reference as imageref
from flowsession.images.check import Base, ImageCheck, Question
from flowsession.settings import Settings

SECONDS = 20.0
"""Timeout of one question, for all its requests together."""

LARGEST = 4 * 1024 * 1024
"""Maximum bytes of a manifest or an image's configuration; registries accept no larger manifests."""

BASE_NAME, BASE_DIGEST = "org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = (
    *_INDEXES,
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_ACCEPT = ", ".join(_MANIFESTS)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class RegistryClient:
    """Asks registries. Whatever they answer is hostile input."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http = RegistryHttp(settings)

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()

    async def ask(self, question: Question) -> ImageCheck:
        """Return the registry's answer, or why it is missing. Never raises for what a registry does."""
        reference = imageref.parse(question.image)
        if reference is None or not check.may_ask(reference, self._settings):
            return ImageCheck(question, reason="RegistryNotAllowed", message=f"the operator does not ask the registry of {question.image}")
        access, again = Access(reference), f"see whether the operator's pod reaches {reference.registry}, and ask again"
        try:
            async with asyncio.timeout(SECONDS):
                return await self._ask(question, access)
        except RegistryError as error:
            return ImageCheck(question, reason=error.reason, message=str(error))
        except TimeoutError:
            message = f"{reference.registry} has not answered within {SECONDS:.0f} s; {again}"
        except (aiohttp.ClientError, OSError) as error:
            words = " ".join(str(error).split())[:300] or type(error).__name__
            message = f"{reference.registry} can't be reached ({words}); {again}"
        return ImageCheck(question, reason="RegistryUnreachable", message=message)

    async def _ask(self, question: Question, access: Access) -> ImageCheck:
        digest = await self._digest(access, access.reference.tag)
        manifest = await self._manifest(access, digest)
        entries = _list(manifest.get("manifests"))
        platforms = {entry.get("digest") for entry in entries if isinstance(entry, dict)}
        base = await self._base(access, manifest, entries)
        return ImageCheck(question, digest=digest, same=question.known in {digest, *platforms}, base=base)

    async def _digest(self, access: Access, tag: str) -> str:
        """Return the tag's digest, preferably by HEAD, which registries don't count as a pull."""
        answer = await self._http.request("HEAD", access, f"manifests/{tag}", accept=_ACCEPT, limit=0)
        named = answer.headers.get("Docker-Content-Digest", "")
        if _DIGEST.fullmatch(named):
            return named
        answer = await self._http.request("GET", access, f"manifests/{tag}", accept=_ACCEPT, limit=LARGEST)
        return f"sha256:{hashlib.sha256(answer.body).hexdigest()}"

    async def _manifest(self, access: Access, digest: str) -> dict[str, Any]:
        answer = await self._http.request("GET", access, f"manifests/{digest}", accept=_ACCEPT, limit=LARGEST)
        return _document(answer, digest, access)

    async def _base(self, access: Access, manifest: dict[str, Any], entries: list[Any]) -> Base | None:
        """Return the base image, with its tag's present digest if possible. Failures here do not withhold the rest of the answer."""
        try:
            base = _base_of(manifest.get("annotations")) or await self._labelled(access, manifest, entries)
        except (RegistryError, aiohttp.ClientError, OSError):
            return None
        if base is None:
            return None
        reference = imageref.parse(base.name)
        if reference is None or reference.digest or not base.digest or not check.may_ask(reference, self._settings):
            return base
        try:
            return Base(base.name, base.digest, await self._digest(Access(reference), reference.tag))
        except (RegistryError, aiohttp.ClientError, OSError):
            return base

    async def _labelled(self, access: Access, manifest: dict[str, Any], entries: list[Any]) -> Base | None:
        """Return the base image named by the labels in the image's configuration; of an index, in that of its first image."""
        if entries:
            first = next((entry for entry in entries if isinstance(entry, dict) and _DIGEST.fullmatch(str(entry.get("digest")))), None)
            if first is None:
                return None
            manifest = await self._manifest(access, first["digest"])
            if base := _base_of(manifest.get("annotations")):
                return base
        digest = str(_dict(manifest.get("config")).get("digest"))
        if not _DIGEST.fullmatch(digest):
            return None
        answer = await self._http.request("GET", access, f"blobs/{digest}", accept="*/*", limit=LARGEST)
        return _base_of(_dict(_document(answer, digest, access).get("config")).get("Labels"))


def _document(answer: Answer, digest: str, access: Access) -> dict[str, Any]:
    """Return the JSON object in the answer, after checking its digest. Raises RegistryError."""
    if f"sha256:{hashlib.sha256(answer.body).hexdigest()}" != digest:
        raise RegistryError("RegistryRefused", f"{access.reference.registry} sent something else than the {digest} that it was asked for")
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise RegistryError("RegistryRefused", f"{access.reference.registry} sent no manifest for {digest}")
    return document


def _base_of(labels: object) -> Base | None:
    """Return the base image that labels or annotations name, or None."""
    found = _dict(labels)
    name, digest = found.get(BASE_NAME), found.get(BASE_DIGEST)
    if not isinstance(name, str) or len(name) > 500 or imageref.parse(name) is None:
        return None
    return Base(name, digest if isinstance(digest, str) and _DIGEST.fullmatch(digest) else "")


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value[:1000] if isinstance(value, list) else []
