"""Rewriting an index's pages: links to the feed itself lead through the gate, all others stay unchanged."""

import json

import pytest

from flowsession_agent.feeds import links
from flowsession_agent.feeds.urls import Address, Feed, Feeds, asked_for

URL = "https://feed.example.com/a/simple/x/"


@pytest.fixture
def feeds() -> Feeds:
    address = Address()
    address.port, address.secret = 4000, "secret"
    feeds = Feeds(address)
    assert feeds.local("https://{private}@feed.example.com/a/simple/") == "http://127.0.0.1:4000/secret/0/a/simple/"
    return feeds


def rewritten(feeds: Feeds, page: str, kind: str = "text/html; charset=utf-8") -> str:
    (feed,) = feeds

    def local(url: str) -> str:
        path = feed.serves(url)
        return url if path is None else feeds.address_of(feed, path)

    return links.rewritten(page.encode(), content_type=kind, url=URL, local=local).decode()


HERE = "http://127.0.0.1:4000/secret/0"


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("../../files/x-1.whl#sha256=ab", f"{HERE}/a/files/x-1.whl#sha256=ab"),
        ("/files/x-1.whl?a=1&amp;b=2", f"{HERE}/files/x-1.whl?a=1&amp;b=2"),
        ("../../../../../../x-1.whl", f"{HERE}/x-1.whl"),
        ("https://feed.example.com/x-1.whl", f"{HERE}/x-1.whl"),
        ("https://FEED.example.com:443/x-1.whl", f"{HERE}/x-1.whl"),
        ("//feed.example.com/x-1.whl", f"{HERE}/x-1.whl"),
        ("http://feed.example.com/x-1.whl", "http://feed.example.com/x-1.whl"),
        ("https://feed.example.com:8443/x-1.whl", "https://feed.example.com:8443/x-1.whl"),
        ("https://feed.example.com.evil.example/x-1.whl", "https://feed.example.com.evil.example/x-1.whl"),
        ("https://feed.example.com@evil.example/x-1.whl", "https://feed.example.com@evil.example/x-1.whl"),
        ("//evil.example/x-1.whl", "https://evil.example/x-1.whl"),
        ("https://feed.example.com:none/x-1.whl", "https://feed.example.com:none/x-1.whl"),
    ],
)
def test_a_link(feeds: Feeds, link: str, expected: str) -> None:
    assert rewritten(feeds, f'<a href="{link}">x-1.whl</a>') == f'<a href="{expected}">x-1.whl</a>'


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("<A HREF='/x.whl'>", f'<A HREF="{HERE}/x.whl">'),
        ("<a href=/x.whl>", f'<a href="{HERE}/x.whl">'),
        ('<a data-requires-python=">=3.8" href="/x.whl" data-core-metadata="sha256=0">', None),
        ("<a\n  rel=internal\n  href = '/x.whl'>", f'<a\n  rel=internal\n  href = "{HERE}/x.whl">'),
        ('<a data-href="/x.whl">', '<a data-href="/x.whl">'),
        ("<a name=top>", "<a name=top>"),
        ("<abbr href='/x.whl'>", "<abbr href='/x.whl'>"),
    ],
)
def test_a_tag(feeds: Feeds, tag: str, expected: str | None) -> None:
    assert rewritten(feeds, tag) == (expected or f'<a data-requires-python=">=3.8" href="{HERE}/x.whl" data-core-metadata="sha256=0">')


def test_a_page_with_a_base(feeds: Feeds) -> None:
    page = rewritten(feeds, '<base href="https://files.example.com/"><a href="x.whl"></a><a href="https://feed.example.com/y.whl"></a>')
    assert page == f'<base href="https://files.example.com/"><a href="https://files.example.com/x.whl"></a><a href="{HERE}/y.whl"></a>'


def test_a_list_of_files(feeds: Feeds) -> None:
    """In PEP 691's JSON, hashes and PEP 658's metadata stay unchanged."""
    files = [
        {"filename": "x-1.whl", "url": "/x-1.whl", "hashes": {"sha256": "ab"}, "core-metadata": {"sha256": "cd"}},
        {"url": "https://o.example/y"},
    ]
    document = {"meta": {"api-version": "1.1"}, "name": "x", "files": files, "versions": ["1"]}
    found = json.loads(rewritten(feeds, json.dumps(document), "application/vnd.pypi.simple.v1+json"))
    assert found == {**document, "files": [{**files[0], "url": f"{HERE}/x-1.whl"}, files[1]]}


@pytest.mark.parametrize("text", ["no json", "[]", '{"files": 1}', '{"files": [1]}', '{"files": [{"url": 1}]}', '{"projects": []}'])
def test_another_document_is_left_alone(feeds: Feeds, text: str) -> None:
    assert rewritten(feeds, text, "application/json") == text


@pytest.mark.parametrize(
    ("url", "user", "path"),
    [
        ("https://{private}@feed.example.com/simple", "flowsession", "/simple"),
        ("https://{private}:@feed.example.com/simple", "flowsession", "/simple"),
        ("https://me%40corp:{private}@feed.example.com/simple", "me@corp", "/simple"),
        ("HTTPS://%7Bprivate%7D@feed.example.com:8443", "flowsession", ""),
        ("https://{Private}@[::1]:8443/simple/", "flowsession", "/simple/"),
    ],
)
def test_where_a_token_stands(url: str, user: str, path: str) -> None:
    feeds = Feeds(Address())
    assert feeds.local(f"-i {url} x").endswith(f"/0{path} x")
    (feed,) = feeds
    assert (feed.user, feed.scheme) == (user, "https")


@pytest.mark.parametrize("url", ["https://private@feed.example.com/", "https://feed.example.com/{private}@x", "ssh://{private}@feed/"])
def test_where_none_stands(url: str) -> None:
    feeds = Feeds(Address())
    assert (feeds.local(url), list(feeds)) == (url, [])
    assert not asked_for({"PIP_INDEX_URL": url, "OTHER": "https://{private}@feed.example.com"}, [])


def test_what_tools_say_names_the_feed(feeds: Feeds) -> None:
    said = f"Looking in {HERE}/a/simple/x/ and retrying /secret/0/a/simple/y/ of .flowsession.requirements.txt, secret"
    shown = "https://{private}@feed.example.com/a/simple"
    assert feeds.restored(said) == f"Looking in {shown}/x/ and retrying {shown}/y/ of requirements.txt, ..."


def test_two_users_of_a_server_are_two_feeds() -> None:
    feeds = Feeds(Address())
    feeds.local(
        "https://a:{private}@f.example/ https://b:{private}@f.example/ https://a:{private}@F.example/x http://a:{private}@f.example/"
    )
    assert [(feed.number, feed.user, feed.scheme) for feed in feeds] == [(0, "a", "https"), (1, "b", "https"), (2, "a", "http")]


def test_a_port_that_is_none_is_left_to_the_tool() -> None:
    assert Feeds(Address()).local("https://{private}@feed:none/") == "https://{private}@feed:none/"
    assert isinstance(Feed(number=0, scheme="http", user="", place="f").port, int)
