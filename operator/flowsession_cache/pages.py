"""An index's page of one project: parsed from the index's own (PEP 691 JSON or PEP 503 HTML), and written with the cache's addresses."""

import gzip
import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, unquote, urldefrag, urljoin, urlsplit

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
HTML_TYPE = "text/html"
ACCEPT = f"{JSON_TYPE}, application/vnd.pypi.simple.v1+html;q=0.2, {HTML_TYPE};q=0.01"
_ABSOLUTE = re.compile(r"https?://[^\s/@#]+/[^\s#]*")  # without credentials, which nobody else may use
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*")


class PageError(Exception):
    """The index's response is not a page of a package index; the text says why."""


@dataclass(frozen=True)
class File:
    """A file that an index names with its SHA-256. The cache never fetches a file without a hash."""

    name: str
    url: str
    sha256: str


@dataclass(frozen=True)
class Page:
    """The cache's response for a project, and the project's files by hash, including `.metadata` files (PEP 658).

    Kept compressed: PyPI's pages of 70 packages are 100 MB, and clients accept them compressed.
    """

    packed: bytes
    """The document, compressed by gzip."""
    prefix: str
    _files: bytes

    @property
    def document(self) -> bytes:
        """The page as JSON."""
        return gzip.decompress(self.packed)

    @property
    def size(self) -> int:
        """Bytes that it takes in memory."""
        return len(self.packed) + len(self._files)

    def file(self, key: str) -> File | None:
        """Return the file with this SHA-256 (with `.metadata` appended: the wheel's metadata), or None if the page names none."""
        found = json.loads(gzip.decompress(self._files)).get(key)
        return File(*found) if found else None

    def offering(self, metadata: Mapping[str, str]) -> "Page":
        """Return this page with the metadata of held wheels, so that a resolver needn't read it from the wheels' ends."""
        files, document = json.loads(gzip.decompress(self._files)), self.document
        for sha256, digest in metadata.items():
            if sha256 in files and f"{sha256}.metadata" not in files:
                anchor = f'"url":"{_link(self.prefix, sha256, files[sha256][0])}"'.encode()
                fields = _compact(_offer(digest))[1:-1]
                if anchor + b"," + fields not in document:
                    document = document.replace(anchor, anchor + b"," + fields, 1)
        return replace(self, packed=_pack(document))

    def html(self) -> bytes:
        """Return the page for clients that accept no JSON (pip before 22.2)."""
        lines = ["<!DOCTYPE html>", '<html><head><meta name="pypi:repository-version" content="1.0"></head><body>']
        lines += [_anchor(file) for file in json.loads(self.document)["files"]]
        return "\n".join([*lines, "</body></html>", ""]).encode()


def read(body: bytes, *, content_type: str, base: str, prefix: str, metadata: Mapping[str, str]) -> Page:
    """Parse the index's response from the address `base`. Files with a SHA-256 get addresses below `prefix`.

    `metadata`: the SHA-256 of metadata that the cache itself can offer, by the wheel's hash. Raises PageError.
    """
    document = _from_html(body) if "html" in content_type else _from_json(body)
    scheme = urlsplit(base).scheme
    files: dict[str, File] = {}
    for file in document["files"]:
        url = file["url"] if _ABSOLUTE.fullmatch(file["url"]) else urldefrag(urljoin(base, file["url"]))[0]
        file["url"] = url
        file.pop("gpg-sig", None)
        sha256, name = file["hashes"].get("sha256", ""), file["filename"]
        secure = url.startswith("https:") or scheme == "http"
        if not (secure and _ABSOLUTE.fullmatch(url) and _DIGEST.fullmatch(sha256) and _FILENAME.fullmatch(name)):
            continue
        files[sha256] = File(name, url, sha256)
        file["url"] = _link(prefix, sha256, name)
        offered = file.pop("dist-info-metadata", None)
        offered = file.pop("core-metadata", None) or offered
        digest = offered.get("sha256", "") if isinstance(offered, dict) else ""
        if isinstance(digest, str) and _DIGEST.fullmatch(digest):
            # Fetched from next to the file's own address, where clients look for it too.
            files[f"{sha256}.metadata"] = File(f"{name}.metadata", f"{url}.metadata", digest)
            file.update(_offer(digest))
        elif sha256 in metadata:
            file.update(_offer(metadata[sha256]))
    sources = _compact({key: (file.name, file.url, file.sha256) for key, file in files.items()})
    return Page(_pack(_compact(document)), prefix, _pack(sources))


def _link(prefix: str, sha256: str, name: str) -> str:
    return f"{prefix}/{sha256}/{quote(name)}"


def _offer(digest: str) -> dict[str, Any]:
    """Return the field by PEP 714's name only: at the older one, `dist-info-metadata`, pip 22.3 to 23.0 stop with a TypeError."""
    return {"core-metadata": {"sha256": digest}}


def _pack(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


def _compact(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _from_json(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
        files = document["files"]
        usable = all(
            isinstance(file["url"], str) and isinstance(file["filename"], str) and isinstance(file["hashes"], dict) for file in files
        )
    except (ValueError, KeyError, TypeError) as error:
        raise PageError(f"not a page of a package index ({type(error).__name__}: {error})") from None
    if not usable or not str(document.get("meta", {}).get("api-version", "1.")).startswith("1."):
        raise PageError("not a page of a package index of version 1")
    return dict(document)


def _from_html(body: bytes) -> dict[str, Any]:
    parser = _Anchors()
    parser.feed(body.decode("utf-8", errors="replace"))
    files = []
    for attributes in parser.found:
        url, fragment = urldefrag(attributes["href"])
        algorithm, _, digest = fragment.partition("=")
        file: dict[str, Any] = {"filename": unquote(urlsplit(url).path.rpartition("/")[2]), "url": url, "hashes": {}}
        if digest:
            file["hashes"] = {algorithm: digest.partition("&")[0]}
        if "data-requires-python" in attributes:
            file["requires-python"] = attributes["data-requires-python"]
        if "data-yanked" in attributes:
            file["yanked"] = attributes["data-yanked"] or True
        fingerprint = attributes.get("data-core-metadata") or attributes.get("data-dist-info-metadata") or ""
        algorithm, _, digest = fingerprint.partition("=")
        if digest:
            file["core-metadata"] = {algorithm: digest}
        files.append(file)
    # A page without `<a>` may be an empty project's, but then it is HTML.
    if not files and b"<html" not in body.lower():
        raise PageError("not a page of a package index (no HTML)")
    return {"meta": {"api-version": "1.0"}, "name": "", "files": files}


class _Anchors(HTMLParser):
    """The attributes of the page's links."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "a" and "href" in attributes:
            self.found.append(attributes)


def _anchor(file: Mapping[str, Any]) -> str:
    hashes = file["hashes"]
    algorithm = "sha256" if "sha256" in hashes else next(iter(hashes), "")
    attributes = {"href": file["url"] + (f"#{algorithm}={hashes[algorithm]}" if algorithm else "")}
    if file.get("requires-python"):
        attributes["data-requires-python"] = file["requires-python"]
    if file.get("yanked"):
        attributes["data-yanked"] = file["yanked"] if isinstance(file["yanked"], str) else ""
    if isinstance(file.get("core-metadata"), dict):
        attributes["data-core-metadata"] = f"sha256={file['core-metadata'].get('sha256', '')}"
    inside = " ".join(f'{name}="{html.escape(str(value))}"' for name, value in attributes.items())
    return f"<a {inside}>{html.escape(file['filename'])}</a><br>"
