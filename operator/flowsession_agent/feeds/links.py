"""Rewrites pages of a package index (PEP 503 and PEP 691): makes links absolute, those to the feed's own files through the gate."""

from __future__ import annotations

import html
import json
import re
from urllib.parse import urljoin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Match

PAGES = ("text/html", "application/vnd.pypi.simple.v1+html")
LISTS = ("application/vnd.pypi.simple.v1+json", "application/json")
TAG = re.compile(r"<(a|base)\b((?:[^<>\"']|\"[^\"]*\"|'[^']*')*)>", re.IGNORECASE)
"""A tag ends before the next one begins, so that a page of nothing but unclosed tags doesn't take quadratic time."""

HREF = re.compile(r"(?P<before>(?:^|\s)href\s*=\s*)(?P<value>\"[^\"]*\"|'[^']*'|[^\s>\"']+)", re.IGNORECASE)


def is_page(content_type: str) -> bool:
    """Return whether an answer of this Content-Type has links to rewrite."""
    return content_type.partition(";")[0].strip().lower() in (*PAGES, *LISTS)


def rewritten(body: bytes, *, content_type: str, url: str, local: Callable[[str], str]) -> bytes:
    """Return the page at `url` with each link replaced by `local` of its absolute URL. An unreadable page is returned unchanged."""
    kind, _, parameters = content_type.partition(";")
    if kind.strip().lower() in LISTS:
        return _list(body, url, local)
    charset = re.search(r"charset=\"?([\w.-]+)", parameters, re.IGNORECASE)
    try:
        text = body.decode(charset.group(1) if charset else "utf-8")
    except (LookupError, UnicodeDecodeError):
        return body
    return _page(text, url, local).encode(charset.group(1) if charset else "utf-8", errors="xmlcharrefreplace")


def _page(text: str, url: str, local: Callable[[str], str]) -> str:
    base = url
    for one in TAG.finditer(text):
        if one.group(1).lower() == "base" and (found := HREF.search(one.group(2))):
            base = urljoin(url, _value(found))
            break

    def link(found: Match[str]) -> str:
        return f'{found.group("before")}"{html.escape(local(urljoin(base, _value(found))), quote=True)}"'

    def tag(found: Match[str]) -> str:
        return f"<{found.group(1)}{HREF.sub(link, found.group(2), count=1)}>"

    return TAG.sub(tag, text)


def _value(found: Match[str]) -> str:
    value = found.group("value")
    return html.unescape(value[1:-1] if value[:1] in ("'", '"') else value).strip()


def _list(body: bytes, url: str, local: Callable[[str], str]) -> bytes:
    try:
        document = json.loads(body)
        for file in document["files"]:
            file["url"] = local(urljoin(url, file["url"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return body  # not the list of a project's files
    return json.dumps(document, separators=(",", ":")).encode()
