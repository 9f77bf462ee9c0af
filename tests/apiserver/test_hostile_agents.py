"""Agents that session code has replaced: each may harm its own session, but not the operator, the API server or etcd."""

import asyncio
import contextlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apiserver.agents import PORT, HttpAgent
from apiserver.api import stays
from apiserver.background import Background
from apiserver.lab import Lab

WATCHED_SECONDS = 6.0
MOST_SHARE = 0.25
"""The operator's share of one processor with two such agents. Without protection, a single one takes all of it."""

Poll = Callable[["Hostile", asyncio.StreamWriter], Any]


class Hostile:
    """Report an install in progress, each time in a new version, and respond to long polls as the test's `poll` does."""

    def __init__(self, background: Background, poll: Poll) -> None:
        self._background = background
        self._poll = poll
        self.version = 1
        self.calls = 0
        self.order: dict[str, Any] = {}

    def start(self, pod: dict[str, Any], ip: str) -> None:
        self.uid = pod["metadata"]["uid"]
        self._server = self._background.run(asyncio.start_server(self._serve, ip, PORT, limit=16 * 1024 * 1024))

    def stop(self) -> None:
        self._background.loop.call_soon_threadsafe(self._server.close)

    def state(self) -> dict[str, Any]:
        self.version += 1
        wanted = self.order.get("packagesRevision", "")
        install = {"state": "Running", "packagesRevision": wanted, "tool": "uv", "seconds": self.version}
        environment = {"packagesRevision": "", "flowRevision": ""}
        return {"podUID": self.uid, "version": self.version, "environment": environment, "install": install}

    def answer(self, writer: asyncio.StreamWriter, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.calls += 1
            if found := re.search(r"content-length: (\d+)", head, re.IGNORECASE):
                body = await reader.readexactly(int(found[1]))
                self.order = json.loads(body) if head.startswith("PUT /v1/environment") else self.order
            if "since=" in head:
                await self._poll(self, writer)
            else:
                self.answer(writer, self.state())
            await writer.drain()
        writer.close()


async def interim(agent: Hostile, writer: asyncio.StreamWriter) -> None:
    """Send endless interim responses."""
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 500)
        await writer.drain()


async def extensions(agent: Hostile, writer: asyncio.StreamWriter) -> None:
    """Send an endless chunk extension."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")
    while True:
        writer.write(b"x=y;" * 4000)
        await writer.drain()


async def drip(agent: Hostile, writer: asyncio.StreamWriter) -> None:
    """Send a byte at a time, without a pause."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0)


async def news(agent: Hostile, writer: asyncio.StreamWriter) -> None:
    """Send a new state each time, at once."""
    agent.answer(writer, agent.state())


class Namer(HttpAgent):
    """Report new packages and a new flow folder in each response."""

    waits_for_news = False

    def state(self) -> dict[str, Any]:
        found, name = super().state(), f"{len(self.calls):064x}"
        return found | {"version": len(self.calls), "environment": {"packagesRevision": name, "flowRevision": name}}


class Turncoat(HttpAgent):
    """Alternate between the ordered names and others, and between failure and success."""

    waits_for_news = False

    def state(self) -> dict[str, Any]:
        found, turn = super().state(), len(self.calls)
        if turn % 2:
            found["environment"]["packagesRevision"] = f"{turn:064x}"
        found["install"] |= {"state": ("Running", "Succeeded", "Failed")[turn % 3], "tool": "uv", "message": f"turn {turn}"}
        found["check"] = {"state": "Running", "verdict": "Invalid", "problems": [{"code": "X", "message": f"turn {turn}"}]}
        return found | {"version": turn}


@pytest.mark.parametrize("agent", [Namer, Turncoat], ids=lambda agent: agent.__name__)
def test_what_it_says_fills_neither_etcd_nor_the_api_server(started: Lab, background: Background, agent: type[HttpAgent]) -> None:
    """An agent that named a new packagesRevision in each response caused 139 ConfigMaps in 10 s."""
    started.kubelet.make_agent = lambda: agent(background=background)
    started.create_environment(requirementsText="pandas")
    mark = started.recorder.mark()
    started.create_session()
    stays(lambda: True, seconds=WATCHED_SECONDS)
    assert len(started.agent().calls) >= 2
    assert len(started.package_lists()) <= 1
    assert len(started.lines(since=mark)) <= 40
    assert "0" * 50 not in json.dumps(started.session()["status"]), "no name that it made up"
    assert started.operator.lines("error") == []


def processor_seconds(pid: int) -> float:
    """Return the user and system time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("poll", [interim, extensions, drip, news], ids=lambda poll: poll.__name__)
def test_it_costs_the_operator_next_to_no_processor_time(started: Lab, background: Background, poll: Poll) -> None:
    agents: list[Hostile] = []

    def make() -> Hostile:
        agents.append(Hostile(background, poll))
        return agents[-1]

    started.kubelet.make_agent = make
    started.create_environment(requirementsText="pandas")
    before, mark = processor_seconds(started.operator.pid), started.recorder.mark()
    for name in ("mallory", "mallet"):
        started.create_session(name)
    stays(lambda: True, seconds=WATCHED_SECONDS)
    assert all(agent.calls >= 2 for agent in agents), "they were told, and followed"
    used = processor_seconds(started.operator.pid) - before
    assert used < MOST_SHARE * WATCHED_SECONDS, f"{used:.2f} s of a processor within {WATCHED_SECONDS:.0f} s"
    assert len(started.lines(since=mark)) <= 16
    assert started.operator.lines("error") == []
