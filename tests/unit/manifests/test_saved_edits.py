"""Saved edits in ConfigMaps that others may read and write: their contents stay secret, and forged ones are ignored."""

import base64
import copy
import time

import pytest

from flowsession.cluster import errors
from flowsession.cluster.vault import UnsealError, Vault, load_vault
from flowsession.engine.edits import DAY, ENTRY, MOST_KEPT, Edits
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.keys import Key
from flowsession.manifests import saved_edits
from flowsession.manifests.common import Where
from flowsession.model.agent_views import EditsArchive
from flowsession.model.plan import FetchEdits
from unit.builders import NOW, stamp

ALICE = "alice@example.com"
WANTED = FetchEdits("team", "flow-env", "env-1", ALICE, 3)
SESSION = {
    "metadata": {"name": "s", "namespace": "team", "uid": "s-uid", "resourceVersion": "1", "generation": 1},
    "spec": {"environmentRef": {"name": "flow-env"}, "user": ALICE},
}


class Store:
    """ConfigMaps as the gateway returns them. Those in `stubborn` can't be deleted."""

    def __init__(self, *bodies):
        self.bodies = {body["metadata"]["name"]: body for body in bodies}
        self.stubborn = set()
        self.read = []

    async def metadata(self, kind, namespace="", *, labels):
        for body in list(self.bodies.values()):
            yield body["metadata"]

    async def get(self, kind, namespace, name):
        self.read.append(name)
        return self.bodies[name]

    async def delete(self, kind, namespace, name, *, uid):
        if name in self.stubborn:
            raise errors.Rejected("admission webhook denied the request", status=403)
        assert self.bodies[name]["metadata"]["uid"] == uid
        del self.bodies[name]


class Keys:
    def add(self, key):
        self.key = key


class Engine:
    """The part of the engine that keeps edits."""

    def __init__(self, store=None, key=b"k" * 32):
        self.now = NOW
        self.cache = Cache(clock=lambda: self.now)
        self.edits = Edits(store or Store(), self.cache, Keys(), Vault(key), retention_days=30)

    async def fetched(self):
        await self.edits.fetch(Key("ComputeSession", "team", "s"), "uid", WANTED)
        return self.cache.saved["uid"]


def written(name, *, age=0.0, user=ALICE, owner="env-1", content=b"secret text", files=("a.py",), lost="", key=b"k" * 32):
    """The ConfigMap that an operator with this key writes."""
    packed = EditsArchive("rev", "flow-rev", files, ("x",), "" if lost else base64.b64encode(content).decode())
    where = Where("team", "flow-env", owner)
    create = saved_edits.create(name, where, user=user, session="s", pod_uid="p", packed=packed, moment=NOW - age, lost=lost)
    body = copy.deepcopy(Engine(key=key).edits.seal(create.manifest, create.sealed))
    body["metadata"] |= {"uid": f"uid-{name}", "resourceVersion": "1", "creationTimestamp": stamp(NOW - age)}
    return body


async def test_the_newest_is_given():
    found = await Engine(Store(written("old", age=60), written("b", age=0.002), written("c", age=0.001))).fetched()
    saved = found[1]
    assert (found[0], saved.name, saved.flow_revision, saved.deleted, saved.revision) == (3, "c", "flow-rev", ("x",), "rev")
    assert base64.b64decode(saved.archive) == b"secret text"
    assert (saved.lost, saved.ignored) == ("", ())


async def test_nobody_gets_what_another_user_saved_nor_that_of_an_environment_that_is_gone():
    others = written("mallory", user="mallory@example.com"), written("former", owner="env-0")
    assert await Engine(Store(*others)).fetched() == (3, None)


def test_who_may_read_config_maps_reads_neither_contents_nor_names():
    body = written("e", content=b"password", files=(".hidden-plans",))
    everything = repr(body).encode() + base64.b64decode(body["binaryData"][ENTRY])
    assert b"password" not in everything
    assert b"hidden-plans" not in everything


def forged_config_map(how):
    """A ConfigMap that anybody with write access to ConfigMaps could create."""
    body = written("old", age=60)
    meta = body["metadata"]
    match how:
        case "plain":
            body["binaryData"] = {"edits.tar.gz": "aGk="}
            body["data"] = {"edits.json": "[" * 2000}
        case "another key":
            body = written("old", key=b"x" * 32)
        case "renamed":
            meta["name"] = "renamed"
        case "made newer":
            meta["annotations"][saved_edits.SEQUENCE_ANNOTATION] = str(int(NOW * 1000) + 1)
        case "given to another user":
            body = written("old", user="mallory@example.com")
            body["metadata"]["annotations"][saved_edits.USER_ANNOTATION] = ALICE
        case "given to another environment":
            body = written("old", owner="env-0")
            body["metadata"]["ownerReferences"][0]["uid"] = "env-1"
        case "without its owner":
            meta["ownerReferences"] = []
        case "changed":
            raw = bytearray(base64.b64decode(body["binaryData"][ENTRY]))
            raw[40] ^= 1
            body["binaryData"][ENTRY] = base64.b64encode(raw).decode()
        case "cut":
            body["binaryData"][ENTRY] = body["binaryData"][ENTRY][:16]
        case "empty":
            del body["binaryData"]
    return body


PLANTS = (
    "plain, another key, renamed, made newer, given to another user, given to another environment, without its owner, changed, cut, empty"
)


@pytest.mark.parametrize("how", PLANTS.split(", "))
async def test_what_the_operator_did_not_write_there_is_ignored_and_told_of(how):
    fake = forged_config_map(how)
    store = Store(fake, written("real", age=30))
    saved = (await Engine(store).fetched())[1]
    assert saved.name == "real"
    newer = how == "made newer" or how in ("another key", "given to another user", "given to another environment")
    assert saved.ignored == ((fake["metadata"]["name"],) if newer else ())
    assert fake["metadata"]["name"] in store.bodies, "whose it is, is not known"
    alone = (await Engine(Store(fake)).fetched())[1]
    assert (alone.name, alone.ignored) == ("", (fake["metadata"]["name"],))


async def test_many_that_are_planted_drive_out_none_and_cost_few_reads():
    fakes = [written(f"fake{n}", age=-n - 1, key=b"x" * 32) for n in range(30)]
    store = Store(*fakes, *(written(f"real{n}", age=n) for n in range(MOST_KEPT + 3)))
    started = time.process_time()
    await Engine(store).fetched()
    assert time.process_time() - started < 1
    assert len(store.read) <= 10
    assert sum(name.startswith("real") for name in store.bodies) == MOST_KEPT + 3


async def test_only_so_many_are_kept():
    store = Store(*(written(f"e{n}", age=n) for n in range(8)))
    await Engine(store).fetched()
    assert sorted(store.bodies) == [f"e{n}" for n in range(MOST_KEPT)]


async def test_an_old_one_that_can_not_be_removed_costs_nobody_the_newest():
    store = Store(*(written(f"e{n}", age=n) for n in range(8)))
    store.stubborn = {"e5", "e6"}
    assert (await Engine(store).fetched())[1].name == "e0"
    assert sorted(store.bodies) == ["e0", "e1", "e2", "e3", "e4", "e5", "e6"]


async def test_that_later_edits_were_lost_is_known_to_who_gets_older_ones():
    store = Store(written("saved", age=60), written("marker", age=5, lost="they were too large"))
    saved = (await Engine(store).fetched())[1]
    assert (saved.name, saved.lost) == ("saved", "what session s edited after that is lost: they were too large")


async def test_what_is_older_than_the_retention_goes():
    store = Store(written("old", age=31 * DAY), written("young", age=29 * DAY))
    engine = Engine(store)
    await engine.edits.prune()
    assert sorted(store.bodies) == ["young"]
    engine.now += 2 * DAY
    await engine.edits.prune()
    assert store.bodies == {}


async def test_what_belongs_to_a_session_that_is_there_is_kept_for_ever():
    store = Store(written("old", age=400 * DAY), written("mallorys", age=400 * DAY, user="mallory@example.com"))
    engine = Engine(store)
    engine.cache.observe("ComputeSession", copy.deepcopy(SESSION))
    await engine.edits.prune()
    assert sorted(store.bodies) == ["old"]


def test_a_vault_opens_only_its_own():
    vault = Vault(b"k" * 32)
    sealed = vault.seal(b"content", bound_to=b"here")
    assert vault.open(sealed, bound_to=b"here") == b"content"
    assert vault.seal(b"content", bound_to=b"here") != sealed
    for data, place in [(sealed, b"there"), (sealed[:-1], b"here"), (b"", b"here"), (b"\x02" + sealed[1:], b"here")]:
        with pytest.raises(UnsealError):
            vault.open(data, bound_to=place)


class Secrets:
    def __init__(self, secret=None, *, rival=False):
        self.secret, self.rival = secret, rival

    async def get(self, kind, namespace, name):
        if self.secret is None:
            raise errors.NotFound("no such Secret", status=404)
        return self.secret

    async def create(self, manifest):
        if self.rival:
            self.secret = {"data": {"key": base64.b64encode(b"r" * 32).decode()}}
            raise errors.AlreadyExists("there", status=409)
        self.secret = manifest
        return manifest


@pytest.mark.parametrize("rival", [False, True])
async def test_the_key_is_made_once_and_lasts(rival):
    secrets = Secrets(rival=rival)
    sealed = (await load_vault(secrets, "system")).seal(b"x", bound_to=b"")
    assert (await load_vault(secrets, "system")).open(sealed, bound_to=b"") == b"x"


@pytest.mark.parametrize("data", [{}, {"key": "AAAA"}, {"key": "?"}, None])
async def test_a_key_that_is_none_is_told_and_not_replaced(data):
    with pytest.raises(errors.Rejected, match="flowsession-edits-key"):
        await load_vault(Secrets({"data": data}), "system")
