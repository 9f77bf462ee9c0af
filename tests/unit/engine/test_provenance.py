"""The owner of a pod whose session the operator never saw: only what an operator sealed for this very pod counts."""

import copy

import pytest

from flowsession.cluster.vault import Vault
from flowsession.engine import provenance
from flowsession.engine.provenance import SECONDS, Origin
from flowsession.engine.store import objects
from unit.builders import NOW, stamp

VAULT = Vault(b"k" * 32)
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "s-1",
        "namespace": "team",
        "labels": {"app.kubernetes.io/managed-by": "flowsession", "flowsession.dev/session": "s", "flowsession.dev/environment": "e"},
        "annotations": {"flowsession.dev/user": "alice@example.com", "flowsession.dev/environment-uid": "e-uid"},
        "ownerReferences": [{"kind": "ComputeSession", "name": "s", "uid": "s-uid", "controller": True}],
    },
}
ALICES = Origin(session="s", session_uid="s-uid", environment="e", environment_uid="e-uid", user="alice@example.com")


def created(*, at=NOW, vault=VAULT, **changed):
    body = copy.deepcopy(dict(provenance.seal(POD, vault, NOW)))
    body["metadata"] |= {"uid": "p-uid", "creationTimestamp": stamp(at), **changed}
    return objects.pod(body)


def test_a_pod_that_the_operator_created_tells_whose_it_is():
    assert provenance.read(created(), VAULT) == ALICES
    entry = ALICES.entry("team", {"savedAt": stamp(NOW)})
    assert (entry.meta.uid, entry.spec.user, entry.spec.environment_ref.name) == ("s-uid", "alice@example.com", "e")


def test_what_it_says_elsewhere_counts_for_nothing():
    annotations = provenance.seal(POD, VAULT, NOW)["metadata"]["annotations"] | {"flowsession.dev/user": "mallory@example.com"}
    assert provenance.read(created(annotations=annotations), VAULT) == ALICES


@pytest.mark.parametrize(
    "other",
    [
        {"vault": Vault(b"x" * 32)},
        {"name": "s-2"},
        {"namespace": "other"},
        {"at": NOW + SECONDS + 10},
        {"at": NOW - SECONDS - 10},
        {"labels": POD["metadata"]["labels"] | {"flowsession.dev/session": "t"}},
        {"ownerReferences": [{"kind": "ComputeSession", "name": "s", "uid": "t-uid", "controller": True}]},
        {"annotations": {}},
        {"annotations": {"flowsession.dev/provenance": "junk"}},
        {"annotations": {"flowsession.dev/provenance": "AAAA"}},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_seal_of_another_key_place_time_or_session_is_none(other):
    assert provenance.read(created(**other), VAULT) is None


def test_other_objects_are_created_as_they_are():
    anchor = {**POD, "metadata": {**POD["metadata"], "labels": {}}}
    assert provenance.seal(anchor, VAULT, NOW) is anchor
    config_map = {**POD, "kind": "ConfigMap"}
    assert provenance.seal(config_map, VAULT, NOW) is config_map
