"""Sizes, instances, environments and what everything costs: lines as shown, quota of the namespace, and requests."""

import io
import json

import pytest
from click.testing import CliRunner
from rich.console import Console

from flowsession_cli import app, cluster, quantity, render
from flowsession_cli.cluster import ENVIRONMENT, INSTANCE, SESSION, SIZE
from flowsession_cli.commands import computes, environments, top
from flowsession_cli.errors import CliError
from unit.cli.fakes import FakeCluster, condition, event

NOW = render.seconds_of("2026-11-29T12:00:00Z")
COST = {"perHour": "0.096", "accrued": "0.5", "since": "2026-11-29T10:00:00Z"}


class Computes(FakeCluster):
    """A cluster with sizes, instances and quotas, whose operator handles requests at once."""

    def __init__(self):
        super().__init__()
        self.__dict__.update(quotas=[], answers=True, said={}, became=[])

    def add(self, kind, name, **parts):
        meta = {"name": name, "namespace": "default", "creationTimestamp": "2026-11-29T10:00:00Z", "generation": 1}
        self.things[kind, name] = {"kind": {INSTANCE: "ComputeInstance", SIZE: "VMSize"}.get(kind, kind), "metadata": meta, **parts}
        return self.things[kind, name]

    def objects(self, kind, *options):
        if kind == "resourcequotas":
            if isinstance(self.quotas, CliError):
                raise self.quotas
            return self.quotas
        if kind == "events":
            return super().objects(kind, *options)
        return [thing for (of, _), thing in self.things.items() if of in kind.split(",")]

    def create(self, manifest):
        self.add(INSTANCE, manifest["metadata"]["name"], spec=manifest["spec"], status={"observedGeneration": 1})
        return manifest

    def patch(self, kind, name, change):
        thing = self.things[kind, name]
        status = dict(thing.get("status") or {})
        changed = super().patch(kind, name, change)
        self.things[kind, name]["status"] = status
        for key, stamp in change.get("metadata", {}).get("annotations", {}).items():
            if self.answers and kind == ENVIRONMENT:
                what = {"update": "update", "check-version": "checkVersion", "refresh": "refresh"}[
                    key.split("/")[1][: -len("-requested-at")]
                ]
                self.things[kind, name]["status"] |= {"handledRequests": {what: stamp}} | self.said
        return changed

    def watch(self, kind, name):
        import contextlib

        thing = self.things[kind, name]
        if kind == INSTANCE:
            starting = {"phase": "Starting", "conditions": [condition("Ready", "False", "Starting", "waits")], "observedGeneration": 1}
            running = {"phase": "Running", "conditions": [condition("Ready", "True", "Running", "on node-b")], "observedGeneration": 1}
            return contextlib.nullcontext([{"type": "MODIFIED", "object": thing | {"status": status}} for status in (starting, running)])
        return super().watch(kind, name)

    def become(self, *words):
        self.became.append(words)
        raise SystemExit(0)


@pytest.fixture
def there(monkeypatch):
    """A cluster in memory, for every command."""
    fake = Computes()
    monkeypatch.setattr("flowsession_cli.cluster.Cluster", lambda **_: fake)
    return fake


def flow(*words):
    return CliRunner().invoke(app.cli, words)


def size(name="D2", **spec):
    return {"azureName": name, "capacity": {"cpu": "2", "memory": "8Gi"}, "priorityClassName": f"flowsession-{name.lower()}"} | spec


def quota(hard, used, *, scopes=(), selector=()):
    spec = {"hard": hard, "scopes": list(scopes), "scopeSelector": {"matchExpressions": list(selector)}}
    return {"spec": spec, "status": {"used": used}}


def of_class(*names, operator="In"):
    return {"scopeName": "PriorityClass", "operator": operator, "values": list(names)}


@pytest.mark.parametrize(
    ("quotas", "free"),
    [
        ([], "no limit"),
        ([quota({"pods": "10"}, {"pods": "3"}, selector=[of_class("flowsession-d2")])], "pods 7 of 10"),
        ([quota({"pods": "10"}, {"pods": "3"}, selector=[of_class("other")])], "no limit"),
        ([quota({"pods": "10"}, {}, selector=[of_class("flowsession-d2", operator="NotIn")])], "no limit"),
        ([quota({"requests.cpu": "8", "services": "2"}, {"requests.cpu": "2500m"})], "requests.cpu 5.5 of 8"),
        ([quota({"memory": "16Gi"}, {"memory": "512Mi"}, scopes=["NotTerminating"])], "memory 15.5Gi of 16Gi"),
        ([quota({"pods": "1"}, {"pods": "4"}, scopes=["BestEffort"])], "no limit"),
        ([quota({"pods": "1"}, {"pods": "4"})], "pods 0 of 1"),
    ],
)
def test_free_quota_is_what_the_namespace_leaves_to_the_size(quotas, free):
    assert computes.free_quota(size(), quotas) == free


def test_quantities():
    for text, number in (("500m", "0.5"), ("2", "2"), ("8Gi", str(8 * 1024**3)), ("1k", "1000"), ("odd", "0")):
        assert quantity.value(text) == quantity.Decimal(number)
    assert quantity.left("1500m", "250m") == "1.2"


def test_sizes_are_listed_with_price_quota_and_nodes(there):
    there.add(
        SIZE, "d4", spec=size("D4", sessionsPerNode=4), status={"nodes": 0, "conditions": [condition("Available", "False", "NoNodes", "")]}
    )
    there.add(SIZE, "d2", spec=size(pricePerHour="0.096"), status={"nodes": 3, "sessions": 2})
    there.__dict__["quotas"] = [quota({"pods": "10"}, {"pods": "3"}, selector=[of_class("flowsession-d2")])]
    heads, cheap, other = flow("size", "ls").stdout.splitlines()
    assert heads.split()[:4] == ["NAME", "PRICE/H", "CPU", "MEMORY"]
    assert cheap.split() == ["D2", "0.096", "2", "8Gi", "-", "1", "3", "2", "New", "pods", "7", "of", "10"]
    assert other.split()[:2] + other.split()[8:9] == ["D4", "-", "NoNodes"]
    there.__dict__["quotas"] = CliError("ada may not list resourcequotas")
    refused = flow("size", "ls")
    assert refused.stderr == "quota is not known: ada may not list resourcequotas\n"
    assert refused.stdout.splitlines()[1].endswith("?")


def test_an_instance_is_made_followed_stopped_and_started(there):
    assert "there is no VM size D4; this cluster has none" in str(flow("instance", "create", "box", "--size", "D4").exception)
    there.add(SIZE, "d2", spec={"azureName": "D2"}, status={})
    assert "there is no VM size D4; there is D2" in str(flow("instance", "create", "box", "--size", "D4").exception)
    assert (INSTANCE, "box") not in there.things
    there.add(SIZE, "d4", spec={"azureName": "D4"}, status={})
    made = flow("instance", "create", "box", "--size", "D4", "--idle", "2h", "--identity", "nightly")
    assert made.exit_code == 0, made.exception
    assert there.things[INSTANCE, "box"]["spec"] == {
        "user": "ada@example.com",
        "vmSize": "D4",
        "idle": {"action": "Stop", "timeoutSeconds": 7200},
        "identity": {"type": "Managed", "serviceAccountName": "nightly"},
    }
    assert [line.partition(" s  ")[2] for line in made.stdout.splitlines()[:2]] == ["Starting: waits", "Running: on node-b"]
    there.things[INSTANCE, "box"]["status"] = {"phase": "Running", "sessions": 2}
    assert "What runs in its 2 sessions ends" in str(flow("instance", "stop", "box").exception)
    assert flow("instance", "stop", "box", "-y").exit_code == 0
    assert there.things[INSTANCE, "box"]["spec"]["running"] is False
    assert flow("instance", "stop", "box").output == "box is stopped already; kubectl flow instance start box starts it again\n"
    assert flow("instance", "start", "box").exit_code == 0
    assert there.things[INSTANCE, "box"]["spec"]["running"] is True
    assert flow("instance", "start", "box").output == "box is not stopped: it is Running\n"
    assert "there is no instance bax; there is box" in str(flow("instance", "start", "bax").exception)


def test_an_instance_that_idleness_stopped_is_started_by_request(there):
    there.add(INSTANCE, "box", spec={"user": "ada", "vmSize": "D4"}, status={"stopped": {"by": "Idle"}})
    assert flow("instance", "start", "box", "--no-wait").exit_code == 0
    thing = there.things[INSTANCE, "box"]
    assert "running" not in thing["spec"]
    assert "flowsession.dev/resume-requested-at" in thing["metadata"]["annotations"]


def fill(there):
    spec = {"user": "ada@example.com", "environmentRef": {"name": "chat"}}
    one = there.put("ComputeSession", "chat", spec=spec, status={"phase": "Running", "vmSize": "D2", "nodeName": "node-b", "cost": COST})
    on = {"compute": {"type": "Instance", "instanceRef": {"name": "box"}}}
    two = there.put("ComputeSession", "other", spec=spec | on | {"user": "bob@example.com"}, status={"phase": "Running"})
    box = there.add(
        INSTANCE, "box", spec={"user": "bob@example.com", "vmSize": "D4"}, status={"phase": "Running", "cost": COST | {"perHour": "1"}}
    )
    return [one, two, box]


def test_what_runs_is_told_by_user_with_what_it_costs(there, monkeypatch):
    things = fill(there)
    assert top.row(things[0], NOW)[:7] == ("ada@example.com", "chat", "Running", "0.096", "0.69", "D2", "session")
    assert top.row(things[1], NOW)[3:8] == ("-", "-", "-", "session", "instance box")
    assert top.totals(things, NOW) == [
        "ada@example.com: 1 session, 0.096 an hour, 0.69 so far",
        "bob@example.com: 1 session, 1 instance, 1 an hour, 2.50 so far",
        "all: 2 sessions, 1 instance, 1.096 an hour, 3.19 so far",
    ]
    shown = flow("top").stdout.splitlines()
    assert [line.split()[1] for line in shown[1:4]] == ["chat", "box", "other"], "by user, the dearest first"
    assert len(flow("top", "--user", "ada@example.com").stdout.splitlines()) == 4
    flow("top", "-A", "-o", "json")
    beats = iter([None, KeyboardInterrupt()])

    def sleep(seconds):
        if beat := next(beats):
            raise beat

    monkeypatch.setattr(top.time, "sleep", sleep)
    assert flow("top", "-w").stdout.count("USER") == 2
    assert there.became == [("get", f"{SESSION},{INSTANCE}", "-A", "-o=json")]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_top_fits_in(there, width):
    out = Console(file=io.StringIO(), width=width, highlight=False, emoji=False, markup=False)
    render.table(out, top._HEADS, [top.row(thing, NOW) for thing in fill(there)])
    lines = out.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert ("PER HOUR" in lines[0]) == (width > 40)


READY = condition("Ready", "True", "Ready", "it can be used")


def environment(there, **status):
    base = {"conditions": [READY, condition("NewerImageAvailable", "False", "UpToDate", "it is the newest")], "baseImage": "runtime:1"}
    return there.put("FlowEnvironment", "chat", spec={"owner": "ada@example.com", "source": {"git": {}}}, status=base | status)


def test_environments_are_listed_and_shown(there):
    thing = environment(there, flow={"kind": "dag", "nodes": 3}, requirements=2, sessions=1, warnings=[{"message": "odd"}])
    assert environments.row(thing, NOW) == ("chat", "yes", "1", "dag", "2", "ada@example.com", "2h", "runtime:1")
    there.put("ComputeSession", "mine", spec={"environmentRef": {"name": "chat"}}, status={})
    shown = flow("env", "show", "chat").stdout
    for words in ("chat of ada@example.com", "dag, 3 nodes", "2, from requirementsText", "mine", "odd", "git"):
        assert words in shown, words
    assert flow("env", "ls").stdout.splitlines()[1].split()[:2] == ["chat", "yes"]
    thing["status"] = {"conditions": [condition("Ready", "False", "FlowInvalid", "flow.dag.yaml line 3: odd")]}
    assert "flow.dag.yaml line 3: odd" in flow("env", "show", "chat").stdout
    assert "there is no environment nothing; there is chat" in str(flow("env", "show", "nothing").exception)


def test_check_version_and_update_tell_what_came_of_it(there):
    environment(there)
    assert flow("env", "check-version", "chat").output == "it is the newest (UpToDate)\n"
    moved = condition("NewerImageAvailable", "True", "TagMoved", "the tag has another digest")
    there.__dict__["said"] = {"conditions": [READY, moved]}
    assert "kubectl flow env update chat takes it" in flow("env", "check-version", "chat").output
    about = {"involvedObject": {"kind": "FlowEnvironment", "name": "chat"}, "lastTimestamp": cluster.stamp()}
    there.told.append(event("chat", "ImageUpdated", "it is on runtime:2 now") | about)
    there.__dict__["said"] = {"baseImage": "runtime:2"}
    assert flow("env", "update", "chat").output.splitlines() == [
        "it is on runtime:2 now",
        "chat is on runtime:2: kubectl flow reset restarts a session with it",
    ]
    there.told.append(event("chat", "ImageNotUpdated", "nothing has changed: the registry does not answer") | about)
    assert str(flow("env", "update", "chat").exception) == "nothing has changed: the registry does not answer"


def test_refresh_says_whether_the_flow_changed(there):
    environment(there, flowRevision="a")
    assert flow("env", "refresh", "chat").output == "nothing changed in the flow folder\n"
    there.__dict__["said"] = {"flowRevision": "b"}
    assert flow("env", "refresh", "chat").output == "the flow folder changed: a -> b\n"
    there.__dict__["said"] = {"source": {"message": "no such branch"}}
    assert "what was read before stays in use: no such branch" in str(flow("env", "refresh", "chat").exception)
    there.__dict__["said"] = {"conditions": [condition("Ready", "False", "SourceNotFound", "no such branch")]}
    assert "chat can't be used: no such branch (SourceNotFound)" in str(flow("env", "refresh", "chat").exception)


def test_a_request_that_nobody_handles_ends_with_the_state(there, monkeypatch):
    environment(there)
    there.__dict__["answers"] = False
    monkeypatch.setattr(environments, "_ANSWER_SECONDS", 0.0)
    assert "the operator has not done it for 0 s: it can be used" in str(flow("env", "update", "chat").exception)


@pytest.mark.parametrize("words", [("env", "ls"), ("size", "ls"), ("instance", "ls"), ("top",)])
def test_nothing_there_says_how_to_get_some(there, words):
    done = flow(*words)
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "here: " in done.stderr
    assert json.dumps(there.applied) == "[]"
