"""The package cache: what it serves, and that no client can change what others get."""

import contextlib
import hashlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from .fakeindex import FakeIndex, RunningCache, fake_index
from .support import eventually

StartCache = Callable[..., RunningCache]
JSON = {"Accept": "application/vnd.pypi.simple.v1+json"}
LARGE = 1_000_000


@pytest.fixture
def index() -> Iterator[FakeIndex]:
    with fake_index() as running:
        yield running


@pytest.fixture
def start_cache(tmp_path: Path) -> Iterator[StartCache]:
    with contextlib.ExitStack() as stack:

        def begin(*indexes: str, **arguments: Any) -> RunningCache:
            cache = RunningCache(arguments.pop("folder", tmp_path / "cache"), *indexes, **arguments)
            stack.callback(cache.close)
            return cache

        yield begin


@pytest.fixture
def cache(start_cache: StartCache, index: FakeIndex) -> RunningCache:
    return start_cache(index.url)


def ask(url: str, *, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """Send one request without following redirects. Raises http.client.IncompleteRead or OSError if the response breaks off."""
    parts = urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=30)) as connection:
        connection.request(method, parts.path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read(), {name.lower(): value for name, value in response.getheaders()}


def page(cache: RunningCache, index: FakeIndex, project: str, **headers: str) -> dict[str, Any]:
    status, body, _ = ask(f"{cache.of(index.url)}/{project}/", **{**JSON, **headers})
    assert status == 200, body
    document: dict[str, Any] = json.loads(body)
    return document


def address(cache: RunningCache, index: FakeIndex, filename: str) -> str:
    """Return the URL of the file on the cache's page."""
    files = page(cache, index, filename.partition("-")[0])["files"]
    return cache.url + str(next(file["url"] for file in files if file["filename"] == filename))


def test_a_file_is_fetched_from_the_index_once(cache: RunningCache, index: FakeIndex) -> None:
    filename = index.add("one", size=LARGE)
    for _ in range(3):
        status, body, headers = ask(address(cache, index, filename))
        assert (status, body) == (200, index.files[filename])
        assert "immutable" in headers["cache-control"]
    assert index.fetched(filename) == 1


def test_a_part_of_a_file_that_is_held(cache: RunningCache, index: FakeIndex) -> None:
    filename = index.add("one")
    url = address(cache, index, filename)
    assert ask(url, Range="bytes=0-9")[0] == 302, "what isn't here is its index's to give: nobody waits for the whole"
    ask(url)
    status, body, _ = ask(url, Range="bytes=0-9")
    assert (status, body) == (206, index.files[filename][:10])
    assert ask(url, method="HEAD")[2]["content-length"] == str(len(index.files[filename]))


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE", "MKCOL"])
def test_nobody_can_write(cache: RunningCache, index: FakeIndex, method: str) -> None:
    filename = index.add("one")
    good = address(cache, index, filename)
    ask(good)
    for url in (good, f"{cache.of(index.url)}/one/", f"{cache.url}/healthz"):
        assert ask(url, method=method, body=b"poison")[0] == 405
    assert ask(good)[1] == index.files[filename]
    assert cache.kept() == {index.sha256(filename)}


def test_only_what_an_index_names_is_fetched(cache: RunningCache, index: FakeIndex) -> None:
    filename = index.add("one")
    good = urlsplit(address(cache, index, filename)).path
    key = good.split("/")[1]
    sha256 = index.sha256(filename)
    for path in (
        f"/{key}/files/one/{'0' * 64}/{filename}",
        f"/{key}/files/one/{sha256}/other-1.0-py3-none-any.whl",
        f"/{key}/files/one/..%2f..%2fetc/{filename}",
        f"/{key}/simple/..%2f..%2fadmin/",
        f"/{key}/simple/One/",
        f"/{key}/simple/",
        f"/{'0' * 16}/simple/one/",
        f"/{'0' * 16}/files/one/{sha256}/{filename}",
        "/http:%2f%2f127.0.0.1/simple/one/",
    ):
        assert ask(cache.url + path)[0] == 404, path
    assert {line for line in index.asked if not line.startswith("GET /simple/one/")} == set()


def test_what_a_client_sends_is_not_passed_on(cache: RunningCache, index: FakeIndex) -> None:
    filename = index.add("one")
    status, body, _ = ask(
        f"{cache.of(index.url)}/one/?url=http://127.0.0.1/", X_Forwarded_Host="evil", Authorization="Basic eA==", Host="evil", **JSON
    )
    assert status == 200
    assert b"evil" not in body
    assert index.asked == ["GET /simple/one/"]
    assert filename.encode() in body


def test_a_file_that_is_not_what_its_hash_says_reaches_nobody(cache: RunningCache, index: FakeIndex) -> None:
    small, large = index.add("small"), index.add("large", size=LARGE)
    for filename in (small, large):
        index.lies[filename] = bytes(len(index.files[filename]))
    status, said, _ = ask(address(cache, index, small))
    assert status == 502
    assert index.sha256(small) in said.decode()
    with pytest.raises((http.client.IncompleteRead, OSError)):
        ask(address(cache, index, large))
    assert cache.kept() == set()
    index.lies.clear()
    for filename in (small, large):
        assert ask(address(cache, index, filename))[1] == index.files[filename]


def test_a_download_that_breaks_off_is_not_kept(cache: RunningCache, index: FakeIndex) -> None:
    filename = index.add("one", size=LARGE)
    index.cut[filename] = LARGE // 2
    with pytest.raises((http.client.IncompleteRead, OSError)):
        ask(address(cache, index, filename))
    assert cache.kept() == set()
    eventually("nothing is left of it", lambda: not list((cache.folder / "incoming").iterdir()))
    index.cut.clear()
    assert ask(address(cache, index, filename))[1] == index.files[filename]


def test_two_at_once_share_one_download_and_get_it_as_it_comes(cache: RunningCache, index: FakeIndex) -> None:
    filename = index.add("one", size=LARGE)
    url = urlsplit(address(cache, index, filename))
    index.held.clear()
    connections = [http.client.HTTPConnection(url.netloc, timeout=30) for _ in range(3)]
    for connection in connections:
        connection.request("GET", url.path)
    responses = [connection.getresponse() for connection in connections]
    begun = [response.read(LARGE // 4) for response in responses]
    assert begun == [index.files[filename][: LARGE // 4]] * 3, "while the index has sent only half of it"
    connections[0].close()  # the client that started the download disconnects
    index.held.set()
    for response, first in list(zip(responses, begun, strict=True))[1:]:
        assert first + response.read() == index.files[filename]
    assert index.fetched(filename) == 1
    for connection in connections:
        connection.close()


def test_many_at_once(cache: RunningCache, index: FakeIndex) -> None:
    filenames = [index.add(f"p{number}", size=100_000) for number in range(40)]
    urls = [address(cache, index, filename) for filename in filenames] * 2
    found: dict[int, bytes] = {}
    threads = [threading.Thread(target=lambda n=n, u=u: found.update({n: ask(u)[1]})) for n, u in enumerate(urls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(80)] == [index.files[filename] for filename in filenames] * 2
    assert [index.fetched(filename) for filename in filenames] == [1] * 40


def test_what_was_used_longest_ago_makes_room(start_cache: StartCache, index: FakeIndex) -> None:
    cache = start_cache(index.url, limit=5 * LARGE)
    first, *others = [index.add(f"p{number}", size=LARGE) for number in range(5)]
    for filename in others[:3]:
        ask(address(cache, index, filename))
    ask(address(cache, index, first))
    ask(address(cache, index, others[0]))  # used again
    ask(address(cache, index, others[3]))
    assert cache.kept() == {index.sha256(filename) for filename in (first, others[0], others[2], others[3])}
    assert sum(path.stat().st_size for path in (cache.folder / "files").iterdir()) <= 5 * LARGE


def test_a_file_too_large_to_hold_is_its_index_s_to_give(start_cache: StartCache, index: FakeIndex) -> None:
    cache = start_cache(index.url, limit=LARGE)
    kept, filename = index.add("kept"), index.add("one", size=LARGE // 2)
    ask(address(cache, index, kept))
    status, _, headers = ask(address(cache, index, filename))
    assert (status, headers["location"]) == (302, f"{index.url.removesuffix('/simple')}/files/{filename}")
    assert cache.kept() == {index.sha256(kept)}, "nobody else's files had to go for it"


def test_a_full_disk(start_cache: StartCache, index: FakeIndex, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size=1m tmpfs {folder} && exec "$0" "$@"')
    cache = start_cache(index.url, folder=folder, prefix=mount)
    filename, small = index.add("one", size=3 * LARGE), index.add("small")
    with contextlib.suppress(http.client.IncompleteRead, OSError):
        assert ask(address(cache, index, filename))[0] == 302
    assert ask(address(cache, index, filename))[0] == 302, "the next try goes to the index"
    assert ask(address(cache, index, small))[1] == index.files[small], "there is room again for others"


def test_a_restart_keeps_what_was_proved_only(start_cache: StartCache, index: FakeIndex) -> None:
    first = start_cache(index.url)
    whole, partial = index.add("one"), index.add("two", size=LARGE)
    ask(address(first, index, whole))
    index.held.clear()
    url = urlsplit(address(first, index, partial))
    connection = http.client.HTTPConnection(url.netloc, timeout=30)
    connection.request("GET", url.path)
    connection.getresponse().read(1000)
    first.close()
    index.held.set()
    connection.close()
    second = start_cache(index.url)
    assert second.kept() == {index.sha256(whole)}
    assert not list((second.folder / "incoming").iterdir())
    for filename in (whole, partial):
        assert ask(address(second, index, filename))[1] == index.files[filename]
    assert index.fetched(whole) == 1


def test_a_page_is_good_for_as_long_as_its_index_says(cache: RunningCache, index: FakeIndex) -> None:
    index.add("one")
    for _ in range(3):
        page(cache, index, "one")
    assert index.asked == ["GET /simple/one/"], "ten minutes where it says nothing"
    index.page_headers = {"ETag": '"1"', "Cache-Control": "max-age=600"}
    page(cache, index, "one", Cache_Control="max-age=0")
    page(cache, index, "one", Cache_Control="no-cache")
    assert len(index.asked) == 3, "pip always asks for the newest"
    index.page_headers = {"ETag": '"1"', "Cache-Control": "no-cache"}
    index.add("fresh")
    page(cache, index, "fresh")
    page(cache, index, "fresh")
    assert index.asked.count("GET /simple/fresh/") == 2
    assert ask(f"{cache.of(index.url)}/nowhere/")[0] == 404


def test_pages_in_html_from_and_for_those_that_know_no_other(cache: RunningCache, index: FakeIndex) -> None:
    index.as_json = False
    filename = index.add("one")
    assert ask(address(cache, index, filename))[1] == index.files[filename]
    status, body, headers = ask(f"{cache.of(index.url)}/one/", Accept="text/html")
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/html")
    assert f"/files/one/{index.sha256(filename)}/{filename}#sha256={index.sha256(filename)}" in body.decode()


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"hashes": {}}, id="no hash"),
        pytest.param({"hashes": {"sha256": "../../etc"}}, id="no real hash"),
        pytest.param({"url": "http://user:secret@127.0.0.1/x.whl"}, id="credentials"),
        pytest.param({"url": "file:///etc/passwd"}, id="no web address"),
        pytest.param({"filename": "../x-1.0-py3-none-any.whl"}, id="no plain name"),
    ],
)
def test_a_file_that_can_not_be_proved_stays_the_index_s(cache: RunningCache, index: FakeIndex, fields: dict[str, Any]) -> None:
    filename = index.add("one")
    index.file_fields[filename] = fields
    (file,) = page(cache, index, "one")["files"]
    assert not file["url"].startswith("/"), file
    assert ask(f"{cache.of(index.url).removesuffix('simple')}files/one/{index.sha256(filename)}/{filename}")[0] == 404


def test_the_metadata_of_a_held_wheel_is_offered(cache: RunningCache, index: FakeIndex) -> None:
    filename = index.add("one", requires=("two>=1",))
    (before,) = page(cache, index, "one")["files"]
    assert "core-metadata" not in before
    ask(address(cache, index, filename))
    (file,) = page(cache, index, "one")["files"]
    _, metadata, _ = ask(f"{cache.url}{file['url']}.metadata")
    assert b"Requires-Dist: two>=1" in metadata
    assert hashlib.sha256(metadata).hexdigest() == file["core-metadata"]["sha256"]
    assert "dist-info-metadata" not in file, "pip 23.0 ends with a TypeError there"


def test_metadata_is_offered_once_however_often_a_wheel_comes(start_cache: StartCache, index: FakeIndex) -> None:
    """uv refuses a page with duplicate members."""
    cache = start_cache(index.url, limit=5 * LARGE)
    filename, *others = [index.add(f"p{number}", size=LARGE) for number in range(6)]
    for one in (filename, *others, filename):
        ask(address(cache, index, one))
    for headers in ({}, {"Cache_Control": "no-cache"}):
        page(cache, index, "p0", **headers)
        assert ask(f"{cache.of(index.url)}/p0/", **JSON)[1].count(b'"core-metadata"') == 1


def test_what_is_no_index_says_so(start_cache: StartCache, index: FakeIndex) -> None:
    cache = start_cache(f"{index.url}/nothing-here", "http://127.0.0.1:9/simple")
    assert ask(f"{cache.of(f'{index.url}/nothing-here')}/one/")[0] in (404, 502)
    status, said, _ = ask(f"{cache.of('http://127.0.0.1:9/simple')}/one/")
    assert status == 502
    assert b"127.0.0.1:9" in said
