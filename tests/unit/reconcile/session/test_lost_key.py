"""The agents' key: its deleted Secret is recreated. If the key is lost anyway, users are warned at once and sessions get new pods."""

from dataclasses import replace
from typing import Any, cast

from flowsession.cluster import errors
from flowsession.cluster.gateway import KubernetesCluster
from flowsession.cluster.key_secrets import KeySecrets
from flowsession.model.plan import Probe
from flowsession.reconcile.session.lost_key import key_ids
from unit.builders import (
    DAG,
    NOW,
    POD,
    agent,
    applied,
    condition,
    decide,
    pending_pod,
    pod,
    resolved,
    session_snapshot,
    settled_snapshot,
    silent_agent,
    status_after,
    verdict,
)

OURS = '{"keys": [{"kty": "RSA", "kid": "0123456789abcdef", "n": "AQ", "e": "AQAB"}]}'
FORMER = frozenset({"fedcba9876543210"})
FOLDER = resolved(files={"flow.dag.yaml": DAG})
HOUR = 3600.0


def lost(**fields: Any) -> Any:
    return settled_snapshot(FOLDER, pods=(pod(key_ids=FORMER),), public_keys=OURS, **fields)


def test_the_ids_are_read_from_a_key_set() -> None:
    assert key_ids(OURS) == {"0123456789abcdef"}
    assert key_ids("") == key_ids("[" * 100_000) == frozenset()


def test_a_running_session_says_so_with_the_next_decision() -> None:
    plan, status = decide(lost()), status_after(lost())
    assert plan.call is None, "it would only answer 401"
    assert plan.deletes == ()
    assert (status["phase"], verdict(status, "Ready")) == ("Failed", ("Unknown", "KeyLost"))
    assert verdict(status, "Active") == ("Unknown", "ProbeFailed")
    assert "expiresAt" not in status
    message = condition(status, "Ready")["message"]
    for word in (
        "flowsession-agent-keys",
        "flowsession.dev/reset-requested-at",
        f"kubectl cp -n team {POD}:/session/flow",
        "2027-01-15T09:00:00Z",
    ):
        assert word in message, message
    assert [(event.warning, event.reason, event.message) for event in plan.events] == [(True, "KeyLost", message)]


def test_it_is_said_once_and_costs_nothing_more() -> None:
    again = decide(replace(lost(), status=status_after(lost())), NOW + 60)
    assert (again.events, again.writes, again.call) == ((), False, None)
    assert again.look_again_at == NOW + HOUR


def test_after_the_time_that_an_agent_may_be_unreachable_it_gets_a_new_pod() -> None:
    plan = decide(replace(lost(), status=status_after(lost())), NOW + HOUR)
    assert [(deletion.kind, deletion.name) for deletion in plan.deletes] == [("Pod", POD)]
    assert [event.reason for event in plan.events] == ["KeyLost"]
    assert plan.status is not None
    assert plan.status.status["incarnation"] == 2


def test_a_key_that_is_there_again_is_noticed() -> None:
    back = settled_snapshot(FOLDER, pods=(pod(),), public_keys=OURS)
    back = replace(back, status=status_after(lost()))
    assert decide(back).call == Probe(), "nobody is told anew what it has"
    found = replace(back, agent=agent(environment=FOLDER, delivered=None))
    assert verdict(status_after(found), "Ready") == ("True", "Running")
    assert status_after(found)["phase"] == "Running"
    assert [event.reason for event in decide(found).events] == ["Running"]


def test_a_reset_gives_it_one_as_soon_as_the_agent_is_known_not_to_answer() -> None:
    asked = lost(requests={"reset": "2027-01-15T08:00:00Z"}, agent=silent_agent(failures=5, since=20.0, error="HTTP 401"))
    plan = decide(asked)
    assert [deletion.kind for deletion in plan.deletes] == ["Pod"]
    assert {"EditsNotSaved", "Reset"} <= {event.reason for event in plan.events}


def test_a_pod_that_was_not_ready_yet_is_replaced_at_once() -> None:
    for young in (pod(key_ids=FORMER), pending_pod(key_ids=FORMER)):
        snapshot = session_snapshot(young, public_keys=OURS)
        plan = decide(snapshot)
        assert [deletion.kind for deletion in plan.deletes] == ["Pod"], young
        assert plan.status is not None
        assert verdict(applied({}, plan.status.status), "Ready") == ("False", "KeyLost")


def test_a_pod_that_knows_the_key_or_does_not_say_goes_on() -> None:
    for known in (frozenset({"0123456789abcdef"}), FORMER | {"0123456789abcdef"}, frozenset[str]()):
        snapshot = settled_snapshot(FOLDER, pods=(pod(key_ids=known),), public_keys=OURS)
        assert verdict(status_after(snapshot), "Ready") == ("True", "Running"), known


# -- the Secrets


class Cluster:
    """Secrets by name."""

    def __init__(self) -> None:
        self.secrets = {name: self.secret(name) for name in ("keys", "other")}
        self.created: list[str] = []

    def secret(self, name: str) -> dict[str, Any]:
        meta = {"name": name, "namespace": "system", "uid": f"uid-{name}", "resourceVersion": "5", "labels": {"a": "b"}}
        return {"metadata": meta, "data": {"private.pem": "QQ=="}}

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        assert (kind, namespace) == ("Secret", "system")
        if name not in self.secrets:
            raise errors.NotFound("no such Secret", status=404)
        return self.secrets[name]

    async def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        assert "uid" not in manifest["metadata"]
        self.created.append(manifest["metadata"]["name"])
        self.secrets[self.created[-1]] = manifest
        return manifest


async def kept(cluster: Cluster) -> KeySecrets:
    return await KeySecrets.read(cast(KubernetesCluster, cluster), "system", ("keys", "other"))


async def test_a_deleted_secret_is_put_back_with_its_key() -> None:
    cluster = Cluster()
    keys = await kept(cluster)
    del cluster.secrets["keys"]
    await keys.check()
    assert cluster.created == ["keys"]
    assert cluster.secrets["keys"]["data"] == {"private.pem": "QQ=="}
    await keys.check()
    assert cluster.created == ["keys"]


async def test_another_key_is_told_and_left_alone(caplog: Any) -> None:
    cluster = Cluster()
    keys = await kept(cluster)
    cluster.secrets["keys"]["data"] = {"private.pem": "Qg=="}
    await keys.check()
    assert cluster.created == []
    assert "holds another key" in caplog.text
