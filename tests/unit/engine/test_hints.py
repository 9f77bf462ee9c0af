"""An agent's hints are a reason to call it, and nothing else. Whatever is sent costs next to nothing."""

import asyncio
import time

import pytest

from flowsession.engine.hints import ADDRESSES, ENDINGS, MOST_OF_ADDRESS, Hints, listen
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.keys import Key
from flowsession.model.agent_views import Hint
from unit.builders import NOW, stamp

UID = "8f6f2d1e-0000-4000-8000-000000000001"
WAITING = f"flowsession-edits 1 {UID} waiting\n".encode()
JUNK = (
    b"",
    b"\n",
    WAITING.replace(b"001 ", b"002 "),
    WAITING.replace(b"edits 1", b"edits 2"),
    WAITING + b"more",
    WAITING.replace(b"waiting", b"delete"),
    b"x" * 65000,
    b"\xff" * 100,
)


class Queue:
    def __init__(self):
        self.keys = []
        self.came = asyncio.Event()

    def add(self, key):
        self.keys.append(key)
        self.came.set()

    def add_all(self, keys):
        self.keys += keys


class Bed:
    def __init__(self):
        self.now = NOW
        self.cache, self.queue = Cache(clock=lambda: self.now), Queue()
        labels = {"app.kubernetes.io/managed-by": "flowsession", "flowsession.dev/session": "s"}
        owner = {"kind": "ComputeSession", "name": "s", "uid": "s-uid", "controller": True}
        meta = {"name": "s-1", "namespace": "team", "uid": UID, "resourceVersion": "5", "labels": labels, "ownerReferences": [owner]}
        self.cache.observe("Pod", {"metadata": meta | {"creationTimestamp": stamp(NOW)}})
        self.hints = Hints(self.cache, self.queue)

    def say(self, data=WAITING, address="10.0.0.5"):
        before = len(self.queue.keys)
        self.hints.datagram_received(data, (address, 4000))
        return len(self.queue.keys) - before

    def ends(self):
        return self.say(f"flowsession-edits 1 {UID} ending\n".encode())


def test_a_hint_brings_up_the_session_of_the_pod():
    bed = Bed()
    assert bed.say() == 1
    assert bed.queue.keys == [Key("ComputeSession", "team", "s")]
    assert (bed.cache.hints[UID].at, bed.cache.hints[UID].ending) == (NOW, False)
    bed.now += 1
    assert bed.ends() == 1
    assert bed.cache.hints[UID].ending


def test_a_kill_is_taken_beside_edits_that_wait():
    bed, killed = Bed(), f"flowsession-edits 1 {UID} killed\n".encode()
    assert [bed.say(), bed.say(killed), bed.say(killed)] == [1, 1, 0]
    bed.now += 1
    assert (bed.ends(), bed.say(killed)) == (1, 1)
    assert bed.cache.hints[UID] == Hint(at=bed.now, ending=True, killed_at=bed.now)


def test_another_verdict_is_taken_beside_edits_that_wait():
    bed, checked = Bed(), f"flowsession-edits 1 {UID} checked\n".encode()
    assert [bed.say(), bed.say(checked), bed.say(checked)] == [1, 1, 0]
    assert bed.cache.hints[UID] == Hint(at=bed.now, checked_at=bed.now)


@pytest.mark.parametrize("data", JUNK, ids=range(len(JUNK)))
def test_what_is_not_a_hint_of_a_known_pod_does_nothing(data):
    bed = Bed()
    assert bed.say(data) == 0
    assert bed.cache.hints == {}


def test_one_sender_is_heard_so_often_and_others_all_the_same():
    bed = Bed()
    for _ in range(1000):
        bed.say(b"junk", address="10.6.6.6")
    assert bed.say(address="10.6.6.6") == 0
    assert bed.say(address="10.0.0.5") == 1


def test_a_pod_brings_its_session_up_twice_a_second_at_most():
    bed = Bed()
    taken = 0
    for n in range(1000):
        bed.now += 0.01
        taken += bed.say(address=f"10.0.0.{n % 250}")
    assert taken <= 21


def test_a_pod_that_says_for_ever_that_it_ends_is_not_believed_for_ever():
    bed, accepted_state = Bed(), 0
    for _ in range(600):
        bed.now += 1
        bed.ends()
        accepted_state += bed.cache.hints[UID].ending
    assert accepted_state <= ENDINGS + 600 * 0.02 + 1


def test_a_flood_costs_little_time_and_memory():
    bed = Bed()
    started = time.process_time()
    for n in range(20_000):
        bed.say(b"x" * 1000, address=f"10.{n >> 8 & 255}.{n & 255}.1")
    assert time.process_time() - started < 2
    assert len(bed.hints._by_address) <= ADDRESSES
    assert MOST_OF_ADDRESS < 100


async def test_it_listens():
    bed = Bed()
    transport = await listen(bed.hints, 0)
    port = transport.get_extra_info("sockname")[1]
    loop = asyncio.get_running_loop()
    sender, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=("127.0.0.1", port))
    sender.sendto(f"flowsession-edits 1 {UID} waiting\n".encode())
    async with asyncio.timeout(10):
        await bed.queue.came.wait()
    sender.close()
    transport.close()


async def test_a_gone_sessions_pod_is_brought_up_too():
    bed = Bed()
    session = {
        "metadata": {"name": "s", "namespace": "team", "uid": "s-uid", "resourceVersion": "1", "generation": 1},
        "spec": {"environmentRef": {"name": "e"}, "user": "alice@example.com"},
    }
    status = {"containerStatuses": [{"name": "session", "state": {"running": {"startedAt": stamp(NOW)}}}]}
    pod = {"metadata": {**bed_meta(bed), "resourceVersion": "6"}, "status": status}
    bed.cache.observe("Pod", pod)
    bed.cache.observe("ComputeSession", session)
    bed.cache.forget("ComputeSession", "team", "s", "s-uid")
    bed.say()
    assert Key("Pod", "team", "s-1") in bed.queue.keys


def bed_meta(bed):
    owner = {"kind": "ComputeSession", "name": "s", "uid": "s-uid", "controller": True}
    return {"name": "s-1", "namespace": "team", "uid": UID, "labels": {"flowsession.dev/session": "s"}, "ownerReferences": [owner]}
