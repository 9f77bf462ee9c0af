"""The cache: newer wins, own writes are visible at once, and deletions that no watch reported are found."""

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsession.cluster.gateway import KubernetesCluster
from flowsession.engine.accounts import Accounts
from flowsession.engine.loop import SELECTORS, Engine
from flowsession.engine.resolutions import Resolutions
from flowsession.engine.snapshots import KNOWN_SECONDS, Snapshots, hosted
from flowsession.engine.store import objects
from flowsession.engine.store.cache import LATELY_SECONDS, Cache
from flowsession.engine.store.keys import Key, newer
from flowsession.model.agent_views import AgentArchive, AgentView
from flowsession.model.plan import ENDING_SECONDS, Fetch
from flowsession.model.views import REFUSED_SECONDS, Refusal
from flowsession.reconcile.environment import chain as environments
from flowsession.settings import Settings
from unit.builders import NAMESPACE, NOW, stamp
from unit.engine.conftest import made_engine

SESSION = Key("ComputeSession", NAMESPACE, "alice")
ENVIRONMENT = Key("FlowEnvironment", NAMESPACE, "flow-env")


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock) -> Cache:
    return Cache(clock=clock)


def body(kind: str, name: str, version: int = 1, *, uid: str = "", spec: Any = None, created: float = NOW, **more: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": NAMESPACE, "uid": uid or f"uid-{name}", "resourceVersion": str(version), "generation": 1}
    return {"kind": kind, "metadata": {**meta, "creationTimestamp": stamp(created), **more.pop("metadata", {})}, "spec": spec or {}, **more}


def session(version: int = 1, *, name: str = "alice", user: str = "alice@example.com", **more: Any) -> dict[str, Any]:
    return body("ComputeSession", name, version, spec={"environmentRef": {"name": "flow-env"}, "user": user}, **more)


def environment(version: int = 1, *, generation: int = 1, config_map: str = "flow", **more: Any) -> dict[str, Any]:
    spec = {"source": {"configMap": {"name": config_map}}}
    return body("FlowEnvironment", "flow-env", version, spec=spec, metadata={"generation": generation}, **more)


def pod(version: int = 1, *, uid: str = "pod-1", running: bool = False, **more: Any) -> dict[str, Any]:
    status: dict[str, Any] = {"phase": "Pending"}
    if running:
        state = {"name": "session", "restartCount": 0, "state": {"running": {"startedAt": stamp(NOW)}}}
        status = {"phase": "Running", "podIP": "10.0.0.5", "containerStatuses": [state]}
    labels = {"flowsession.dev/session": "alice"}
    owner = [{"kind": "ComputeSession", "uid": "uid-alice", "controller": True}]
    return body("Pod", "alice-1", version, uid=uid, metadata={"labels": labels, "ownerReferences": owner}, status=status, **more)


def source(text: str, version: int = 1, *, labelled: bool = True) -> dict[str, Any]:
    labels = {"labels": {"flowsession.dev/source": "true"}} if labelled else {}
    return body("ConfigMap", "flow", version, metadata=labels, data={"flow.dag.yaml": text})


@pytest.mark.parametrize(
    ("version", "known", "expected"),
    [("2", "1", True), ("10", "9", True), ("1", "1", False), ("9", "10", False), ("a", "b", True), ("a", "a", False)],
)
def test_versions_are_compared_as_numbers(version, known, expected):
    assert newer(version, known) is expected


@pytest.mark.parametrize(
    ("kind", "make", "keys"),
    [("ComputeSession", session, {SESSION}), ("FlowEnvironment", environment, {ENVIRONMENT}), ("Pod", pod, {SESSION})],
)
def test_only_what_is_newer_is_news(cache, kind, make, keys):
    assert keys <= cache.observe(kind, make(5))
    assert cache.observe(kind, make(5)) == set()
    assert cache.observe(kind, make(4)) == set()
    assert keys <= cache.observe(kind, make(6))


def test_an_own_write_is_not_undone_by_an_older_watch_event(cache):
    cache.observe("ComputeSession", session(5))
    cache.observe("ComputeSession", session(7, status={"phase": "Running"}))  # the answer to our PATCH
    cache.observe("ComputeSession", session(6, status={"phase": "Starting"}))
    assert cache.sessions[NAMESPACE, "alice"].status == {"phase": "Running"}


@pytest.mark.parametrize(("kind", "make"), [("ComputeSession", session), ("FlowEnvironment", environment), ("Pod", pod)])
def test_a_deletion_of_the_former_one_of_that_name_is_not_ours(cache, kind, make):
    current = make(9, uid="new")
    name = current["metadata"]["name"]
    cache.observe(kind, current)
    assert cache.forget(kind, NAMESPACE, name, "old") == set()
    assert (NAMESPACE, name) in cache.names(kind)
    assert cache.forget(kind, NAMESPACE, name, "new")
    assert list(cache.names(kind)) == []


@pytest.mark.parametrize("prunes", [0, 1])
@pytest.mark.parametrize(("kind", "make"), [("ComputeSession", session), ("FlowEnvironment", environment), ("Pod", pod)])
def test_what_was_under_way_when_it_was_deleted_does_not_bring_it_back(cache, kind, make, prunes):
    """The response to the DELETE, or a page of a LIST, arrives after the watch has reported the deletion."""
    late = make(8, uid="old")
    name = late["metadata"]["name"]
    for seen_before in (True, False):
        if seen_before:
            cache.observe(kind, make(5, uid="old"))
        cache.forget(kind, NAMESPACE, name, "old", "9")
        for _ in range(prunes):
            cache.prune()
        assert cache.observe(kind, late) == set()
        assert list(cache.names(kind)) == []
    cache.observe(kind, make(10, uid="new"))
    assert cache.observe(kind, late) == set()
    assert cache.uid(Key(kind, NAMESPACE, name)) == "new"


def test_an_object_that_left_a_watch_for_want_of_a_label_can_come_back(cache):
    cache.observe("Pod", pod(5))
    cache.forget("Pod", NAMESPACE, "alice-1", "pod-1", "9")
    cache.observe("Pod", pod(10))
    assert cache.uid(Key("Pod", NAMESPACE, "alice-1")) == "pod-1"


def test_a_config_map_that_left_the_watch_for_want_of_its_label_is_still_read(cache):
    cache.observe("FlowEnvironment", environment())
    cache.observe("ConfigMap", source("a: 1", 5))
    cache.forget("ConfigMap", NAMESPACE, "flow", "uid-flow", "9")
    cache.observe("ConfigMap", source("a: 1", 9, labelled=False))
    assert cache.config_maps[NAMESPACE, "flow"].files


def test_what_the_server_does_not_have_never_comes_back(cache):
    cache.observe("Pod", pod(5))
    cache.forget("Pod", NAMESPACE, "alice-1", "pod-1")
    assert cache.observe("Pod", pod(10)) == set()


def test_a_session_wakes_itself_and_its_environment_only_when_it_is_new(cache):
    assert cache.observe("ComputeSession", session(1)) == {SESSION, ENVIRONMENT}
    assert cache.observe("ComputeSession", session(2)) == {SESSION}
    assert cache.forget("ComputeSession", NAMESPACE, "alice") == {SESSION, ENVIRONMENT}


def test_a_status_write_of_the_environment_wakes_no_session(cache):
    cache.observe("ComputeSession", session())
    assert cache.observe("FlowEnvironment", environment(1)) == {ENVIRONMENT, SESSION}
    assert cache.observe("FlowEnvironment", environment(2)) == {ENVIRONMENT}
    assert cache.observe("FlowEnvironment", environment(3, generation=2)) == {ENVIRONMENT, SESSION}


def test_a_config_map_wakes_those_that_use_it_when_its_content_changes(cache):
    cache.observe("ComputeSession", session())
    cache.observe("FlowEnvironment", environment())
    assert cache.observe("ConfigMap", source("a: 1", 1)) == {ENVIRONMENT, SESSION}
    assert cache.observe("ConfigMap", source("a: 1", 2)) == set()
    assert cache.observe("ConfigMap", source("a: 2", 3)) == {ENVIRONMENT, SESSION}
    assert cache.forget("ConfigMap", NAMESPACE, "flow") == {ENVIRONMENT, SESSION}
    assert (NAMESPACE, "flow") not in cache.config_maps, "gone, or only its label is: to be read again"


def test_a_config_map_that_nobody_asked_for_is_not_kept(cache):
    assert cache.observe("ConfigMap", source("a: 1", labelled=False)) == set()
    assert cache.config_maps == {}


def test_a_labelled_config_map_that_no_environment_names_is_not_kept(cache):
    """Each may hold 1 MiB, and anybody who may create ConfigMaps may label them."""
    assert cache.observe("ConfigMap", source("a: 1")) == set()
    assert cache.config_maps == {}
    cache.observe("FlowEnvironment", environment())
    found, _ = snapshots(cache).environment((NAMESPACE, "flow-env"))
    assert environments.decide(found, None, NOW).fetches == (Fetch(NAMESPACE, "flow"),), "read when an environment begins to name it"


@pytest.mark.parametrize("how", ["renamed", "gone"])
def test_its_content_goes_with_the_last_environment_that_names_it(cache, how):
    cache.observe("FlowEnvironment", environment())
    cache.observe("FlowEnvironment", {**environment(), "metadata": {**environment()["metadata"], "name": "other"}})
    cache.observe("ConfigMap", source("a: 1"))
    cache.forget("FlowEnvironment", NAMESPACE, "other")
    assert (NAMESPACE, "flow") in cache.config_maps, "another one names it still"
    if how == "renamed":
        cache.observe("FlowEnvironment", environment(2, generation=2, config_map="another"))
    else:
        cache.forget("FlowEnvironment", NAMESPACE, "flow-env")
    assert cache.config_maps == {}
    assert cache.observe("ConfigMap", source("a: 2", 2)) == set()
    assert cache.config_maps == {}


def test_what_nobody_names_any_more_is_not_missing_either(cache):
    """An environment may be deleted while its ConfigMap is being read."""
    assert cache.config_maps.missing((NAMESPACE, "flow")) == set()
    assert cache.config_maps == {}


def test_a_missing_config_map_is_known_to_be_missing(cache):
    cache.observe("FlowEnvironment", environment())
    assert cache.config_maps.missing((NAMESPACE, "flow")) == {ENVIRONMENT}
    assert cache.config_maps[NAMESPACE, "flow"].files is None
    assert not cache.config_maps[NAMESPACE, "flow"].watched


def test_what_was_known_of_a_pod_goes_with_it(cache):
    cache.observe("Pod", pod())
    cache.agents["pod-1"] = AgentView(restarts=0)
    assert cache.forget("Pod", NAMESPACE, "alice-1", "pod-1") == {SESSION}
    assert (cache.agents, cache.pod_timestamps, cache.pods_of((NAMESPACE, "alice"))) == ({}, {}, [])


def test_marks_are_made_as_things_happen(cache, clock):
    cache.observe("Pod", pod(1))
    clock.now += 0.7
    cache.observe("Pod", pod(2, running=True))
    assert cache.pod_timestamps["pod-1"] == {"Created": NOW, "Running": NOW + 0.7}


def test_a_pod_that_was_there_before_leaves_no_marks(cache, clock):
    clock.now += 600
    cache.observe("Pod", pod(1, running=True))
    assert cache.pod_timestamps["pod-1"] == {}


def test_an_object_of_another_schema_is_unreadable_not_a_crash(cache):
    with pytest.raises(objects.Unreadable):
        cache.observe("ComputeSession", body("ComputeSession", "odd", spec={"user": 5}))


# -- nothing outlives its object


def test_what_was_noted_after_its_object_had_gone_does_not_stay(cache):
    """Responses to calls and writes may arrive after the watch has reported the deletion."""
    cache.observe("Pod", pod())
    cache.observe("ComputeSession", session())
    cache.observe("FlowEnvironment", environment())

    def note() -> None:
        cache.agents["pod-1"] = AgentView(restarts=0)
        cache.pod_timestamps["pod-1"] = {}
        cache.refusals["uid-alice"] = Refusal("PodRefused", "no", NOW, 1)
        cache.written_at[NAMESPACE, "flow-env"] = NOW

    note()
    cache.prune()
    tables = [cache.agents, cache.pod_timestamps, cache.refusals, cache.written_at]
    assert [len(table) for table in tables] == [1, 1, 1, 1], "of what is there nothing is lost"
    cache.forget("Pod", NAMESPACE, "alice-1")
    cache.forget("ComputeSession", NAMESPACE, "alice")
    cache.forget("FlowEnvironment", NAMESPACE, "flow-env")
    note()
    cache.prune()
    assert everything_in(cache) == {}


def test_what_was_heard_long_ago_does_not_stay(cache, clock):
    def note() -> None:
        cache.own_config_maps.note((NAMESPACE, "list"), 7)
        cache.promptflow.note((NAMESPACE, "list"), "1.18.5")
        cache.refused_config_maps.note((NAMESPACE, "list"), "no")
        cache.ending_namespaces[NAMESPACE] = clock.now

    note()
    clock.now += LATELY_SECONDS - 1
    cache.prune()
    assert set(everything_in(cache)) == {"own_config_maps", "promptflow", "refused_config_maps", "ending_namespaces"}
    clock.now += 1
    cache.prune()
    assert everything_in(cache) == {}
    assert max(KNOWN_SECONDS, REFUSED_SECONDS, ENDING_SECONDS) <= LATELY_SECONDS


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ComputeSession", "FlowEnvironment", "Pod", "ConfigMap"]),
            st.sampled_from(["see", "forget", "missing"]),
            st.sampled_from(["a", "b"]),
            st.integers(1, 3),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_whatever_comes_and_goes_an_empty_cluster_leaves_an_empty_cache(steps):
    cache = Cache(clock=Clock())
    for version, (kind, what, name, number, labelled) in enumerate(steps, start=1):
        if what == "missing":
            cache.config_maps.missing((NAMESPACE, f"cm-{number}"))
        elif what == "forget":
            cache.forget(kind, NAMESPACE, name if kind != "ConfigMap" else f"cm-{number}")
        elif kind == "ComputeSession":
            cache.observe(kind, session(version, name=name, uid=f"{name}-{number}"))
        elif kind == "FlowEnvironment":
            body_of_it = environment(version, generation=version, config_map=f"cm-{number}", uid=f"{name}-{labelled}")
            cache.observe(kind, {**body_of_it, "metadata": {**body_of_it["metadata"], "name": name}})
        elif kind == "Pod":
            labels = {"flowsession.dev/session": f"s{number}"}
            cache.observe(kind, body("Pod", name, version, uid=f"{name}-{labelled}", metadata={"labels": labels}))
        else:
            one = source(f"a: {version}", version, labelled=labelled)
            cache.observe(kind, {**one, "metadata": {**one["metadata"], "name": f"cm-{number}"}})
    for kind in ("ComputeSession", "FlowEnvironment", "Pod"):
        for name in "ab":
            cache.forget(kind, NAMESPACE, name)
    assert everything_in(cache) == {}


def everything_in(cache: Cache) -> dict[str, Any]:
    """Return the tables that are not empty."""
    sizing = cache.sizing
    parts = (cache, sizing, sizing.instances, cache.imaging)
    tables = {name: found for part in parts for name, found in vars(part).items() if hasattr(found, "__len__")}
    del tables["_kinds"], tables["pools"]
    return {name: table for name, table in tables.items() if len(table)}


# -- snapshots


def snapshots(cache: Cache) -> Snapshots:
    return Snapshots(cache, Settings(), "{}", AgentArchive("", ""), Accounts(cast(KubernetesCluster, None)), Resolutions(Settings()))


@pytest.mark.parametrize(
    ("others", "older_session"),
    [
        ([], ""),
        ([("bob-1", "bob@example.com", -50.0)], ""),
        ([("alice-0", "alice@example.com", -50.0)], "alice-0"),
        ([("alice-2", "alice@example.com", 50.0)], ""),
        ([("alice-b", "alice@example.com", -10.0), ("alice-a", "alice@example.com", -50.0)], "alice-a"),
        ([("aaa", "alice@example.com", 0.0)], "aaa"),
        ([("zzz", "alice@example.com", 0.0)], ""),
    ],
    ids=["alone", "another user", "an older one", "a younger one", "the oldest", "a tie by uid", "a tie won"],
)
def test_the_oldest_session_of_user_and_environment_wins(cache, others, older_session):
    cache.observe("ComputeSession", session())
    for name, user, age in others:
        cache.observe("ComputeSession", session(name=name, user=user, created=NOW + age))
    assert snapshots(cache).session((NAMESPACE, "alice"), NOW).older_session == older_session


def test_a_users_instances_are_those_of_one_namespace(cache):
    for uid, (where, name, user) in enumerate([(NAMESPACE, "box", "alice"), (NAMESPACE, "hers", "bob"), ("elsewhere", "far", "alice")]):
        meta = {"namespace": where, "uid": f"box-{uid}"}
        cache.observe("ComputeInstance", body("ComputeInstance", name, spec={"user": user, "vmSize": "Standard_D2s_v5"}, metadata=meta))
    assert cache.sizing.instances.of_user(NAMESPACE, "alice") == ("box",)


@pytest.mark.parametrize(
    ("suspend", "status", "waits"),
    [
        (False, {}, True),
        (True, {}, False),
        (False, {"suspended": {"by": "Idle"}}, False),
        (False, {"phase": "Failed"}, False),
    ],
    ids=["without a pod", "to be suspended", "suspended", "given up"],
)
def test_an_instance_is_used_by_who_waits_for_it(cache, suspend, status, waits):
    cache.observe("ComputeInstance", body("ComputeInstance", "box", spec={"user": "alice@example.com", "vmSize": "Standard_D2s_v5"}))
    named = session(status=status)
    named["spec"] |= {"compute": {"type": "Instance", "instanceRef": {"name": "box"}}, "suspend": suspend}
    cache.observe("ComputeSession", named)
    assert [(session.waits, session.starts_until) for session in hosted(cache, (NAMESPACE, "box"))] == [(waits, 0.0)]


def test_a_session_that_is_being_deleted_is_nobodys_elder(cache):
    cache.observe("ComputeSession", session())
    cache.observe("ComputeSession", session(name="old", created=NOW - 50, metadata={"deletionTimestamp": stamp(NOW)}))
    assert snapshots(cache).session((NAMESPACE, "alice"), NOW).older_session == ""


def test_only_pods_that_the_session_owns_are_its_pods(cache):
    cache.observe("ComputeSession", session())
    cache.observe("Pod", pod())
    cache.observe("Pod", body("Pod", "forged", metadata={"labels": {"flowsession.dev/session": "alice"}}))
    assert [view.name for view in snapshots(cache).session((NAMESPACE, "alice"), NOW).pods] == ["alice-1"]


def test_a_missing_environment_is_said_and_an_unread_source_is_waited_for(cache):
    cache.observe("ComputeSession", session())
    assert snapshots(cache).session((NAMESPACE, "alice"), NOW).environment.reason == "EnvironmentNotFound"
    name = session()["spec"]["environmentRef"]["name"]
    cache.observe("FlowEnvironment", body("FlowEnvironment", f"{name}s", spec={}))
    assert f"did you mean '{name}s'?" in snapshots(cache).session((NAMESPACE, "alice"), NOW).environment.message
    cache.observe("FlowEnvironment", environment())
    assert snapshots(cache).session((NAMESPACE, "alice"), NOW).environment is None


@pytest.mark.parametrize(("ago", "ending"), [(0.0, True), (29.0, True), (31.0, False)])
def test_a_namespace_that_ends_is_left_alone_for_a_while(cache, ago, ending):
    cache.observe("ComputeSession", session(created=NOW - 100))
    cache.ending_namespaces[NAMESPACE] = NOW - ago
    assert snapshots(cache).session((NAMESPACE, "alice"), NOW).namespace_ending is ending


def test_a_namespace_that_was_made_anew_is_not_left_alone(cache):
    cache.ending_namespaces[NAMESPACE] = NOW - 5
    cache.observe("ComputeSession", session(created=NOW - 2))
    assert not snapshots(cache).session((NAMESPACE, "alice"), NOW).namespace_ending


@pytest.mark.parametrize(("ago", "known"), [(0.0, {"list": 7}), (59.0, {"list": 7}), (61.0, {})])
def test_own_config_maps_are_known_for_a_minute(cache, ago, known):
    cache.observe("ComputeSession", session())
    cache.own_config_maps.note((NAMESPACE, "list"), 7, at=NOW - ago)
    assert snapshots(cache).session((NAMESPACE, "alice"), NOW).known_config_maps == known


def test_an_environment_is_parsed_once_for_each_of_its_states(cache):
    cache.observe("ComputeSession", session())
    cache.observe("FlowEnvironment", environment())
    cache.observe("ConfigMap", source("nodes: []"))
    made = snapshots(cache)
    first = made.session((NAMESPACE, "alice"), NOW).environment
    cache.observe("FlowEnvironment", environment(2))  # a status write
    assert made.session((NAMESPACE, "alice"), NOW).environment is first
    cache.observe("ConfigMap", source("nodes: [{name: a}]", 2))
    assert made.session((NAMESPACE, "alice"), NOW).environment.flow.nodes == 1


def test_what_is_gone_has_no_snapshot(cache):
    assert snapshots(cache).session((NAMESPACE, "alice"), NOW) is None
    assert snapshots(cache).environment((NAMESPACE, "flow-env")) is None


# -- the re-list


class Lists:
    """A cluster that can only be listed."""

    def __init__(self, version: int, *bodies: dict[str, Any]) -> None:
        self.version, self.bodies = str(version), bodies
        self.asked: list[tuple[str, str]] = []

    async def list(self, kind: str, *, labels: str = "") -> Any:
        self.asked.append((kind, labels))
        yield [one for one in self.bodies if one["kind"] == kind], self.version


async def relisted(engine_cache: list[dict[str, Any]], lists: Lists) -> Engine:
    engine = made_engine(lists)
    for one in engine_cache:
        engine.observe(one["kind"], one)
    await engine.resync()
    return engine


async def test_what_a_list_no_longer_has_is_dropped():
    engine = await relisted([session(5), session(6, name="bob")], Lists(20, session(6, name="bob")))
    assert set(engine.cache.sessions) == {(NAMESPACE, "bob")}


async def test_what_came_after_the_list_stays():
    engine = await relisted([session(30), session(6, name="bob")], Lists(20, session(6, name="bob")))
    assert (NAMESPACE, "alice") in engine.cache.sessions


async def test_only_what_is_watched_is_listed():
    lists = Lists(1)
    await relisted([], lists)
    assert lists.asked == list(SELECTORS.items())
    assert dict(lists.asked)["Pod"] == "app.kubernetes.io/managed-by=flowsession"
    assert dict(lists.asked)["ConfigMap"] == "flowsession.dev/source=true"


async def test_an_unreadable_object_does_not_stop_the_others():
    engine = await relisted([], Lists(9, body("ComputeSession", "odd", spec={"user": 5}), session()))
    assert set(engine.cache.sessions) == {(NAMESPACE, "alice")}
