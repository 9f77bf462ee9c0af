"""Installs through the package cache, and without it when it is missing or can't help."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localcluster.ports import free_port

from .conftest import StartAgent
from .fakeindex import FakeIndex, RunningCache, fake_index, wheel
from .support import Agent, eventually

# Only the test's index: this machine's settings would add others.
ALONE = {"PIP_FIND_LINKS": "", "UV_FIND_LINKS": "", "PIP_RETRIES": "1", "UV_HTTP_RETRIES": "1"}
LARGE = 1_000_000


@pytest.fixture
def index() -> Iterator[FakeIndex]:
    with fake_index() as running:
        running.add("top", requires=("low",))
        running.add("low", size=LARGE)
        yield running


@pytest.fixture
def cache(tmp_path: Path, index: FakeIndex) -> Iterator[RunningCache]:
    running = RunningCache(tmp_path / "cache", index.url)
    yield running
    running.close()


@pytest.fixture(params=["Uv", "Pip"])
def tool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def session(start: StartAgent, plain_base: str, tmp_path: Path) -> Callable[[], Agent]:
    """Starts sessions that share nothing."""
    numbers = iter(range(10))

    def begin() -> Agent:
        folder = tmp_path / f"session-{next(numbers)}"
        folder.mkdir()
        return start(python=plain_base, folder=folder, FLOWSESSION_HOME=str(folder / "session"))

    return begin


def install(agent: Agent, index: FakeIndex, through: RunningCache | None, text: str = "top\n", **installer: Any) -> dict[str, Any]:
    settings = {"indexURL": index.url, "environment": ALONE, "cache": {index.url: through.of(index.url)} if through else {}, **installer}
    return agent.install("p1", text, **settings)


def test_the_second_session_asks_the_index_for_nothing(
    session: Callable[[], Agent], index: FakeIndex, cache: RunningCache, tool: str
) -> None:
    first = install(session(), index, cache, tool=tool)
    assert (first["state"], first["changed"], first["warnings"]) == ("Succeeded", 2, []), first
    assert cache.kept() == {index.sha256(filename) for filename in index.files}
    index.asked.clear()
    second = install(session(), index, cache, tool=tool)
    assert (second["state"], second["changed"], second["warnings"]) == ("Succeeded", 2, [])
    files = [line for line in index.asked if "/files/" in line]
    assert files == []
    assert index.asked == [] or tool == "Pip", "pip wants to hear what is newest, uv takes a page that is ten minutes old"


def test_two_sessions_at_once(session: Callable[[], Agent], index: FakeIndex, cache: RunningCache) -> None:
    agents = [session(), session()]
    installs: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda agent=agent: installs.append(install(agent, index, cache))) for agent in agents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found["state"] for found in installs] == ["Succeeded"] * 2, installs
    assert index.fetched("low-1.0-py3-none-any.whl") == 1


def test_a_session_with_a_changed_copy_changes_nobody_s_but_its_own(
    session: Callable[[], Agent], index: FakeIndex, cache: RunningCache
) -> None:
    first = session()
    install(first, index, cache)
    for found in first.home.rglob("low.py"):  # the layer's and that of uv's cache, which are one file
        found.write_text("poison\n")
    second = session()
    install(second, index, cache)
    assert [path.read_text() for path in (second.home / "venv").resolve().rglob("low.py")] == ["name = 'low'\n"]


def test_a_cache_that_is_not_there_is_done_without(session: Callable[[], Agent], index: FakeIndex, tool: str) -> None:
    found = install(session(), index, None, tool=tool, cache={index.url: f"http://127.0.0.1:{free_port()}/x/simple"})
    assert (found["state"], found["changed"]) == ("Succeeded", 2)
    assert [warning for warning in found["warnings"] if "package cache" in warning and "Connection refused" in warning], found["warnings"]


def test_a_cache_that_dies_in_the_middle_is_done_without(
    session: Callable[[], Agent], index: FakeIndex, cache: RunningCache, tool: str
) -> None:
    agent, found = session(), dict[str, Any]()
    index.held.clear()
    thread = threading.Thread(target=lambda: found.update(install(agent, index, cache, tool=tool)))
    thread.start()
    eventually("a wheel is half there", lambda: any("/files/" in line for line in index.asked), seconds=60)
    os.kill(cache.process.pid, signal.SIGKILL)
    index.held.set()
    thread.join()
    assert (found["state"], found["changed"]) == ("Succeeded", 2), found
    assert [warning for warning in found["warnings"] if "package cache" in warning], found["warnings"]


def test_what_the_cache_refuses_is_for_the_installer_to_judge(
    session: Callable[[], Agent], index: FakeIndex, cache: RunningCache, tool: str
) -> None:
    """A file whose hash is not the index's fails as it does without a cache."""
    index.lies["low-1.0-py3-none-any.whl"] = wheel("low", content="name = 'another'\n")
    found = install(session(), index, cache, tool=tool)
    assert index.sha256("low-1.0-py3-none-any.whl") not in cache.kept()
    assert any("could not bring a file" in warning for warning in found["warnings"]), found
    assert (found["state"], found["code"]) == ("Failed", "HashMismatch"), found


def test_failures_say_the_same_as_without_a_cache(session: Callable[[], Agent], index: FakeIndex, cache: RunningCache, tool: str) -> None:
    for text in ("top\nnowhere==1.0\n", "top==2.0\n", f"low==1.0 --hash=sha256:{'0' * 64}\n"):
        direct, cached = (
            install(session(), index, None, text, tool=tool),
            install(session(), index, cache, text, tool=tool),
        )
        assert (cached["state"], cached["code"], cached["message"]) == (direct["state"], direct["code"], direct["message"])


def test_an_index_that_the_cache_has_not_is_asked_itself(session: Callable[[], Agent], index: FakeIndex, cache: RunningCache) -> None:
    found = install(session(), index, None, cache={"https://elsewhere.example/simple": f"{cache.url}/x/simple"})
    assert (found["state"], found["warnings"]) == ("Succeeded", [])
    assert cache.kept() == set()


def test_an_order_with_a_cache_that_makes_no_sense_is_refused(session: Callable[[], Agent]) -> None:
    agent = session()
    for wrong in ({"x": 1}, {"x": "ftp://a"}, {"x": "http://a b"}, "http://a"):
        status, answer = agent.put("p1", requirements={"text": "six", "path": None}, installer={"cache": wrong})
        assert status == 400, answer
        assert "cache" in answer["message"]
