"""Prompt flow's connections: how pods mount their Secrets, and which changes need a reset."""

import json
from dataclasses import replace

from flowsession.api.environment import FlowEnvironmentSpec
from flowsession.manifests import session_pod as pods
from flowsession.model.plan import Deliver
from flowsession.model.resolved import Connection, Resolved
from flowsession.reconcile.environment.resolve import resolve
from flowsession.reconcile.session.start import pod_of
from flowsession.settings import Settings
from unit.builders import agent, condition, decide, pod, resolved, session_snapshot, settled_snapshot, status_after

TWO = (Connection("open_ai_connection", "open-ai"), Connection("search", "serp"))
OF_TWO = replace(resolved(), connections=TWO)


def manifest(environment: Resolved) -> dict:
    return pods.manifest(pod_of(session_snapshot(environment=environment), environment, 1))


def test_the_pod_mounts_each_secret_and_starts_without_it():
    made = manifest(OF_TWO)
    (container,) = made["spec"]["containers"]
    assert {"name": "connection-0", "secret": {"secretName": "open-ai", "optional": True}} in made["spec"]["volumes"]
    assert {"name": "connection-1", "mountPath": "/opt/flowsession-connections/1", "readOnly": True} in container["volumeMounts"]
    variable = next(json.loads(item["value"]) for item in container["env"] if item["name"] == "FLOWSESSION_CONNECTIONS")
    assert variable[0] == {"name": "open_ai_connection", "secret": "open-ai", "path": "/opt/flowsession-connections/0"}
    assert made["metadata"]["annotations"]["flowsession.dev/connections"] == pods.connections_of(TWO)


def test_without_connections_nothing_of_them_is_there():
    made = manifest(resolved())
    assert "connections" not in json.dumps(made).lower()


def test_a_running_session_takes_up_another_list_by_a_reset_only():
    for mine, wanted in (("", OF_TWO), (pods.connections_of(TWO), resolved()), (pods.connections_of(TWO[:1]), OF_TWO)):
        snapshot = settled_snapshot(environment=wanted, pods=(pod(connections=mine),), agent=agent(environment=wanted))
        found = condition(status_after(snapshot), "InSync")
        assert (found["status"], found["reason"]) == ("False", "ConnectionsChanged"), mine
        assert "reset-requested-at" in found["message"]
        assert not isinstance(decide(snapshot).call, Deliver)


def test_the_order_of_the_list_does_not_matter():
    turned = pod(connections=pods.connections_of(TWO[::-1]))
    snapshot = settled_snapshot(environment=OF_TWO, pods=(turned,), agent=agent(environment=OF_TWO))
    assert condition(status_after(snapshot), "InSync")["status"] == "True"


def test_the_list_is_content_that_others_may_not_change_unasked_but_needs_no_install():
    spec = {"connections": [{"name": "open_ai_connection", "secretName": "open-ai"}]}
    plain, given = (resolve(FlowEnvironmentSpec.model_validate(each), {}, Settings()) for each in ({}, spec))
    assert isinstance(plain, Resolved) and isinstance(given, Resolved)
    assert given.connections == TWO[:1]
    assert given.content != plain.content
    assert given.packages_revision == plain.packages_revision
