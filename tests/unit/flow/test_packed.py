"""The memory that flow folders cost the operator: packed, shared by content, and unpacked piece by piece while they are sent."""

import asyncio
import base64
import gzip
import io
import json
import random
import tarfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsession.cluster.agent import http
from flowsession.engine.snapshots import Snapshots
from flowsession.engine.store.cache import Cache
from flowsession.flow import packed as packedfolder
from flowsession.flow.packed import Blob, EncodedFolder, PackedFolder
from flowsession.model.resolved import Resolved
from flowsession_protocol.limits import FLOW_BYTES
from unit.builders import DAG, NAMESPACE, NOW, stamp
from unit.engine.store.test_cache import snapshots

MIB = 1024 * 1024


def packed(files: dict[str, bytes], shared: Any = None) -> PackedFolder:
    return PackedFolder.of(files, {} if shared is None else shared)


@contextmanager
def at_most(bound: int, *, peak: bool = False) -> Iterator[None]:
    """Fail if the memory that the block allocated and kept, or with `peak` its highest use, reaches `bound` bytes."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield
        kept, most = tracemalloc.get_traced_memory()
        found = (most if peak else kept) - before
    finally:
        tracemalloc.stop()
    assert found < bound, f"{found:,} bytes"


FILES = st.dictionaries(st.text(max_size=8), st.one_of(st.binary(max_size=20), st.builds(lambda n: b"ab\n" * n, st.integers(100, 70_000))))


@given(FILES)
def test_a_packed_folder_is_the_folder(files):
    folder = packed(files)
    assert dict(folder) == files
    assert folder == files
    assert folder == packed(files)
    assert folder != packed({**files, "one more": b""})


@given(FILES, st.booleans())
def test_in_pieces_it_is_the_json_that_it_was(files, alone):
    folder, more = EncodedFolder(packed(files)), {} if alone else {"packagesRevision": "p", "requirements": None}
    length, pieces = packedfolder.as_json({**more, "files": folder})
    sent = b"".join(pieces)
    assert len(sent) == length
    assert json.loads(sent) == {**more, "files": {name: base64.b64encode(content).decode() for name, content in files.items()}}
    assert json.loads(sent)["files"] == dict(folder)


def test_other_bodies_are_sent_as_they_are():
    assert [b"".join(packedfolder.as_json(body)[1]) for body in (None, {"a": None})] == [b"", b'{"a": null}']


def test_pieces_are_few_and_none_is_large():
    random.seed(1)
    files = {f"f{n}": random.randbytes(100) for n in range(2000)} | {
        "large": bytes(FLOW_BYTES - 200_000),
        "noise": random.randbytes(MIB),
    }
    _, pieces = packedfolder.as_json({"a": 1, "files": EncodedFolder(packed(files))})
    sizes = [len(piece) for piece in pieces]
    assert len(sizes) < 250
    assert max(sizes) <= 2 * MIB, "what can't be packed has at most the megabyte of a ConfigMap"


def test_equal_contents_are_kept_once_and_only_for_as_long_as_they_are_used():
    shared: WeakValueDictionary[bytes, Blob] = WeakValueDictionary()
    one, two = packed({"a": b"x" * 1000, "b": b"x" * 1000}, shared), packed({"c": b"x" * 1000}, shared)
    assert len(shared) == 1
    assert one.blobs()["a"] is two.blobs()["c"]
    del one, two
    assert len(shared) == 0


def folder_of_8_mib() -> bytes:
    """8 KB as a .tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in (("flow.dag.yaml", DAG), ("data", bytes(FLOW_BYTES - 10_000))):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), 9)


def known(environments: int) -> Snapshots:
    cache = Cache(clock=lambda: NOW)
    meta = {"namespace": NAMESPACE, "resourceVersion": "1", "generation": 1, "creationTimestamp": stamp(NOW)}
    spec = {"source": {"archive": {"configMap": {"name": "flow", "key": "flow.tar.gz"}}}}
    for number in range(environments):
        name = f"env-{number}"
        cache.observe("FlowEnvironment", {"metadata": {**meta, "name": name, "uid": name}, "spec": spec})
    archive = base64.b64encode(folder_of_8_mib()).decode()
    cache.observe("ConfigMap", {"metadata": {**meta, "name": "flow"}, "binaryData": {"flow.tar.gz": archive}})
    return snapshots(cache)


def resolved(found: Snapshots, number: int) -> Resolved:
    answer = found.environment((NAMESPACE, f"env-{number}"))
    assert answer is not None and isinstance(answer[1], Resolved)
    return answer[1]


def test_twenty_environments_on_one_small_config_map_cost_little():
    """This once took 166 MB."""
    found = known(20)
    resolved(found, 0)
    with at_most(2 * MIB):
        for number in range(20):
            assert len(resolved(found, number).wire["files"]) == 2


class Agents:
    """Agents that read slowly, and record the length of each body."""

    def __init__(self) -> None:
        self.bodies: list[int] = []
        self.go_on = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        await self.go_on.wait()
        left = length
        while left:
            left -= len(await reader.read(min(left, 65_536)))
        self.bodies.append(length)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()


async def put(port: int, body: Any) -> tuple[int, bytes]:
    connection = await http.connect("127.0.0.1", port)
    try:
        return await connection.exchange("PUT", "/v1/environment", {}, body, largest=1000)
    finally:
        connection.close()


@pytest.mark.parametrize("starts", [3, 10])
async def test_sessions_that_start_together_cost_a_piece_each(starts):
    """Three with a folder of 8 MiB once took 290 MB."""
    found, agents = known(starts), Agents()
    bodies = [resolved(found, number).wire for number in range(starts)]
    server = await asyncio.start_server(agents.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with at_most(starts * MIB, peak=True):
        calls = [asyncio.ensure_future(put(port, body)) for body in bodies]
        agents.go_on.set()
        assert await asyncio.gather(*calls) == [(200, b"{}")] * starts
    server.close()
    assert agents.bodies == [packedfolder.as_json(bodies[0])[0]] * starts
    assert agents.bodies[0] > FLOW_BYTES * 4 / 3 - 100_000


def test_what_is_told_holds_no_copy_of_the_folder():
    body = resolved(known(1), 0).wire
    assert isinstance(body["files"], EncodedFolder)
    assert body["files"]["flow.dag.yaml"] == base64.b64encode(DAG).decode()
    assert json.loads(json.dumps(packedfolder.plain(body)))["files"] == dict(body["files"]), "as the API server's proxy gets it"
    assert packedfolder.plain(None) is None
