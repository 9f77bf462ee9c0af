"""The identity of a session: its pod's ServiceAccount, a change of identity, and advice on missing rights."""

from dataclasses import replace
from typing import Any

import pytest

from flowsession.api.identity import Identity
from flowsession.model.views import Account, PodIdentity
from flowsession.reconcile import identity as accounts
from flowsession.reconcile.identity import IdentityUnavailable
from flowsession.reconcile.instance import chain
from unit.builders import (
    NOW,
    agent,
    applied,
    condition,
    decide,
    installing,
    pending_pod,
    pod,
    ready_status,
    resolved,
    session_snapshot,
    session_spec,
    settled_snapshot,
    stamp,
    status_after,
    verdict,
    waiting,
)
from unit.reconcile.instance.test_chain import box, on
from unit.reconcile.instance.test_chain import snapshot as instance_snapshot
from unit.reconcile.instance.test_chain import spec as instance_spec
from unit.sizing import D2, D4, offer
from unit.world import World

ALICE = "alice@example.com"
CLIENT = "1111-2222"
DEFAULT = Account("default", "5")
HERS = Account("alice-runner", "7", user=ALICE, client_id="aaaa")
RUNNER = Account("runner", "8", assignable=True, client_id=CLIENT)
BUILDER = Account("builder", "9", assignable=True)
CLOSED = Account("closed", "10", client_id="3333")
ALL = (DEFAULT, RUNNER, BUILDER, CLOSED)


def managed(**named: str) -> Identity:
    return Identity.model_validate({"type": "Managed", **named})


# -- the choice


@pytest.mark.parametrize(
    ("wanted", "known", "found"),
    [
        (Identity(), (*ALL, HERS), "alice-runner"),
        (Identity(), (replace(HERS, name="z"), replace(HERS, name="a")), "a"),
        (Identity(), ALL, ""),
        (Identity(), (replace(HERS, user="bob@example.com"),), ""),
        (managed(serviceAccountName="runner"), ALL, "runner"),
        (managed(clientID=CLIENT), ALL, "runner"),
        (managed(), ALL, "builder"),
    ],
    ids=["the user's own", "the first by name", "none", "another's", "by name", "by client ID", "the first assignable"],
)
def test_which_service_account(wanted: Identity, known: tuple[Account, ...], found: str):
    chosen = accounts.choose(wanted, ALICE, "team", known)
    assert isinstance(chosen, PodIdentity)
    assert chosen.account == found


@pytest.mark.parametrize(
    ("wanted", "reason", "words"),
    [
        (managed(serviceAccountName="gone"), "IdentityNotFound", ["'gone'", "'team'", 'flowsession.dev/assignable: "true"']),
        (managed(serviceAccountName="closed"), "IdentityNotAssignable", ["'closed'", "labelled flowsession.dev/assignable"]),
        (managed(clientID="9999"), "IdentityNotFound", ["azure.workload.identity/client-id: 9999"]),
        (managed(clientID="3333"), "IdentityNotAssignable", ["'closed'", "client ID 3333"]),
    ],
)
def test_what_can_not_be_had_is_told_with_the_way_out(wanted: Identity, reason: str, words: list[str]):
    lacking = accounts.choose(wanted, ALICE, "team", ALL)
    assert isinstance(lacking, IdentityUnavailable)
    assert lacking.reason == reason
    for word in words:
        assert word in lacking.message


def test_no_assignable_one_at_all():
    lacking = accounts.choose(managed(), ALICE, "team", (DEFAULT, HERS))
    assert isinstance(lacking, IdentityUnavailable)
    assert "no ServiceAccount in namespace 'team' may be assigned" in lacking.message


# -- the pod


def created(known: tuple[Account, ...], **fields: Any) -> dict[str, Any]:
    (create,) = decide(session_snapshot(accounts=known, spec=session_spec(**fields))).creates
    return dict(create.manifest)


def test_a_pod_with_an_identity():
    made = created(ALL, identity={"type": "Managed", "clientID": CLIENT})
    assert made["spec"]["serviceAccountName"] == "runner"
    assert made["spec"]["automountServiceAccountToken"] is False, (
        "the webhook brings a token for Azure; one for Kubernetes nobody asked for"
    )
    assert made["metadata"]["labels"]["azure.workload.identity/use"] == "true"
    read = accounts.of_pod(made["metadata"]["annotations"])
    assert read == PodIdentity(f"Managed//{CLIENT}", "runner", CLIENT, "8")


def test_a_pod_without_one_has_no_token_of_any_kind():
    made = created((DEFAULT,))
    assert "serviceAccountName" not in made["spec"]
    assert made["spec"]["automountServiceAccountToken"] is False
    assert "azure.workload.identity/use" not in made["metadata"]["labels"]


@pytest.mark.parametrize("junk", ["", "no json", "[]", '"x"', "null"])
def test_what_somebody_wrote_over_the_annotation_counts_as_the_default(junk: str):
    assert accounts.of_pod({accounts.POD_ANNOTATION: junk}) == PodIdentity()


def test_nothing_is_created_before_the_accounts_are_known():
    plan = decide(session_snapshot(accounts=None))
    assert plan.wants_accounts
    assert plan.creates == ()


def test_a_settled_session_asks_for_no_accounts():
    assert not decide(settled_snapshot(accounts=None)).wants_accounts


def test_the_status_says_as_whom_it_acts():
    acting = pod(identity=PodIdentity("", "alice-runner", "aaaa", "7"))
    assert status_after(session_snapshot(acting))["identity"] == {"serviceAccountName": "alice-runner", "clientID": "aaaa"}
    assert "identity" not in status_after(session_snapshot(pod()))


def lacking(reason: str, since: float, **fields: Any) -> dict[str, Any]:
    """A status with ComputeAllocated=False for this reason since that time."""
    said = {"type": "ComputeAllocated", "status": "False", "reason": reason, "message": "", "lastTransitionTime": stamp(since)}
    return {"phase": "Pending", "conditions": [said], **fields}


CLOSED_IDENTITY = {"type": "Managed", "serviceAccountName": "closed"}


def test_an_identity_that_is_made_a_moment_after_the_session_is_told_as_no_failure():
    snapshot = session_snapshot(accounts=(DEFAULT,), spec=session_spec(identity={"type": "Managed", "serviceAccountName": "runner"}))
    plan, status = decide(snapshot), status_after(snapshot)
    assert plan.creates == () and plan.events == ()
    assert verdict(status, "Ready") == verdict(status, "ComputeAllocated") == ("False", "IdentityPending")
    assert plan.look_again_at == NOW + accounts.FIRST_LOOK_SECONDS
    again = decide(replace(snapshot, status=status, accounts=ALL), NOW + 2)
    assert [create.manifest["kind"] for create in again.creates] == ["Pod"]
    assert again.events == ()


@pytest.mark.parametrize(("waited", "pause"), [(0.0, 2.0), (2.0, 2.0), (4.0, 4.0), (8.0, 8.0), (16.0, 15.0), (1000.0, 15.0)])
def test_what_lacks_is_looked_for_soon_at_first_and_then_ever_more_seldom(waited: float, pause: float):
    status = lacking("IdentityNotAssignable", NOW - waited)
    plan = decide(session_snapshot(accounts=ALL, spec=session_spec(identity=CLOSED_IDENTITY), status=status))
    assert plan.look_again_at == NOW + pause


def test_an_identity_that_lacks_is_waited_for():
    status = lacking("IdentityPending", NOW - accounts.TOGETHER_SECONDS)
    snapshot = session_snapshot(accounts=ALL, spec=session_spec(identity=CLOSED_IDENTITY), status=status)
    plan = decide(snapshot)
    status = status_after(snapshot)
    assert plan.creates == ()
    assert verdict(status, "Ready") == verdict(status, "ComputeAllocated") == ("False", "IdentityNotAssignable")
    assert status["phase"] == "Pending"
    assert plan.look_again_at is not None and plan.look_again_at <= NOW + accounts.LOOK_SECONDS
    assert [event.reason for event in plan.events] == ["IdentityNotAssignable"]


# -- a change


def changed(known: tuple[Account, ...] | None, had: PodIdentity | None = None, **identity: str):
    had = had or PodIdentity("", version="5")
    spec = session_spec(identity=identity)
    return settled_snapshot(pods=(pod(identity=had),), spec=spec, accounts=known, generation=2, saved_known=True)


def test_another_identity_restarts_the_session_with_an_event():
    plan = decide(changed(ALL, type="Managed", serviceAccountName="runner"))
    assert [deletion.name for deletion in plan.deletes] == [pod().name]
    (event,) = plan.events
    assert (event.reason, event.warning) == ("IdentityChanged", False)
    assert "from no identity to ServiceAccount 'runner'" in event.message


def test_back_to_the_users_own():
    (event,) = decide(changed((DEFAULT, HERS), PodIdentity("Managed/runner/", "runner"))).events
    assert "from ServiceAccount 'runner' to ServiceAccount 'alice-runner'" in event.message


def test_size_and_identity_at_once_is_one_move():
    snapshot = changed(ALL, type="Managed")
    spec = session_spec(identity={"type": "Managed"}, compute={"vmSize": D4})
    had = replace(snapshot.pods[0], vm_size=D2)
    (event,) = decide(replace(snapshot, pods=(had,), spec=spec, offers=(offer(D2), offer(D4)))).events
    assert event.reason == "ComputeChanged"
    assert f"from {D2} to {D4}, and from no identity to ServiceAccount 'builder'" in event.message


def test_the_accounts_are_read_for_a_change():
    plan = decide(changed(None, type="Managed"))
    assert plan.wants_accounts
    assert plan.deletes == ()


def test_a_change_to_what_lacks_leaves_the_session_as_it_is_and_says_so():
    snapshot = changed((DEFAULT,))
    snapshot = replace(snapshot, spec=session_spec(identity={"type": "Managed", "serviceAccountName": "gone"}))
    first = decide(snapshot)
    assert first.events == () and first.deletes == ()
    said = status_after(snapshot)
    assert verdict(said, "ComputeAllocated") == ("False", "IdentityPending")
    plan, status = decide(replace(snapshot, status=said), NOW + 4), status_after(replace(snapshot, status=said), NOW + 4)
    assert plan.deletes == ()
    assert verdict(status, "Ready")[0] == "True"
    assert verdict(status, "ComputeAllocated") == ("False", "IdentityNotFound")
    assert "goes on with no identity" in condition(status, "ComputeAllocated")["message"]
    assert plan.look_again_at is not None and plan.look_again_at <= NOW + 4 + accounts.LOOK_SECONDS


@pytest.mark.parametrize("known", [(DEFAULT,), (replace(HERS, version="99"),), (), None])
def test_what_becomes_of_the_service_account_later_restarts_nothing(known: tuple[Account, ...] | None):
    plan = decide(settled_snapshot(pods=(pod(identity=PodIdentity("", "alice-runner", "aaaa", "7")),), accounts=known))
    assert plan.deletes == ()
    assert not plan.wants_accounts


def test_a_pod_of_an_operator_that_knew_no_identities_is_let_be():
    assert decide(settled_snapshot(accounts=(DEFAULT, HERS))).deletes == ()


# -- missing rights


IMAGE = "team.azurecr.io/flow:1"
UNAUTHORIZED = "failed to authorize: failed to fetch anonymous token: 401 Unauthorized"


def pulling(words: str, had: PodIdentity, known: tuple[Account, ...]):
    held = pending_pod(image=IMAGE, container=waiting("ErrImagePull", words), identity=had)
    return session_snapshot(held, accounts=known, environment=resolved(baseImage=IMAGE))


def test_a_refused_pull_without_an_identity_says_what_to_grant():
    status = status_after(pulling(UNAUTHORIZED, PodIdentity(version="5"), (DEFAULT,)))
    said = condition(status, "Ready")["message"]
    for words in ("no identity", f"flowsession.dev/user: {ALICE}", "namespace 'team'", "imagePullSecrets for team.azurecr.io", "401"):
        assert words in said


def test_a_refused_pull_with_one_names_it():
    said = condition(status_after(pulling(UNAUTHORIZED, PodIdentity("", "alice-runner", "aaaa", "7"), (HERS,))), "Ready")["message"]
    assert "ServiceAccount 'alice-runner'" in said
    assert "imagePullSecrets for team.azurecr.io" in said


def test_what_no_identity_would_help_says_nothing_of_one():
    plan = decide(pulling("manifest unknown", PodIdentity(version="5"), (DEFAULT, HERS)))
    said = condition(status_after(pulling("manifest unknown", PodIdentity(version="5"), (DEFAULT, HERS))), "Ready")["message"]
    assert "identity" not in said
    assert plan.deletes == ()


@pytest.mark.parametrize(
    ("had", "known", "replaced"),
    [
        (PodIdentity(version="5"), (DEFAULT,), False),
        (PodIdentity(version="5"), (DEFAULT, replace(HERS, client_id="")), True),
        (PodIdentity(version="5"), (replace(DEFAULT, version="6"),), True),
        (PodIdentity("", "alice-runner", "aaaa", "7"), (HERS,), False),
        (PodIdentity("", "alice-runner", "aaaa", "7"), (replace(HERS, version="8"),), True),
        (PodIdentity(), (DEFAULT, HERS), False),
    ],
    ids=["as before", "there is one now", "the default one was mended", "as before, with one", "it was mended", "nobody knows"],
)
def test_a_pod_that_can_not_pull_is_replaced_when_its_service_account_was_made_or_mended(
    had: PodIdentity, known: tuple[Account, ...], replaced: bool
):
    plan = decide(pulling(UNAUTHORIZED, had, known))
    assert bool(plan.deletes) is replaced


def test_while_a_pull_is_refused_the_accounts_are_looked_at_now_and_then():
    plan = decide(pulling(UNAUTHORIZED, PodIdentity(version="5"), (DEFAULT,)))
    assert plan.look_again_at is not None and plan.look_again_at <= NOW + accounts.LOOK_SECONDS


@pytest.mark.parametrize(("account", "words"), [("", "the session has no identity"), ("alice-runner", "as ServiceAccount 'alice-runner'")])
def test_a_refused_feed_says_what_to_grant(account: str, words: str):
    failed = installing(state="Failed", message="The index https://feed/simple refused: 401 Unauthorized.", exit_code=1)
    snapshot = session_snapshot(pod(identity=PodIdentity("", account)), agent=agent(failed), accounts=(), status=ready_status())
    said = condition(status_after(snapshot), "PackagesInstalled")["message"]
    assert words in said
    assert "the feed" in said


# -- instances


def test_a_session_on_an_instance_has_the_instances_identity():
    (create,) = decide(on(box(identity=managed(serviceAccountName="runner")), accounts=ALL)).creates
    assert create.manifest["spec"]["serviceAccountName"] == "runner"


def test_the_anchor_pulls_with_it_too():
    found = instance_snapshot(accounts=ALL, spec=instance_spec(identity={"type": "Managed", "serviceAccountName": "runner"}))
    (create,) = chain.decide(found, NOW).creates
    assert create.manifest["spec"]["serviceAccountName"] == "runner"


def test_an_instance_waits_for_an_identity_that_lacks():
    found = instance_snapshot(accounts=ALL, spec=instance_spec(identity={"type": "Managed", "serviceAccountName": "closed"}))
    plan = chain.decide(found, NOW)
    assert plan.creates == plan.events == ()
    assert plan.status is not None
    assert verdict(plan.status.status, "Ready") == ("False", "IdentityPending")
    assert plan.look_again_at == NOW + accounts.FIRST_LOOK_SECONDS
    plan = chain.decide(replace(found, status=applied(found.status, plan.status.status)), NOW + 4)
    assert plan.status is not None
    assert verdict(plan.status.status, "Ready") == ("False", "IdentityNotAssignable")
    assert [event.reason for event in plan.events] == ["IdentityNotAssignable"]
    assert chain.decide(replace(found, accounts=None), NOW).wants_accounts


# -- from start to end


def test_a_session_that_waits_for_its_identity_starts_when_it_may_be_assigned():
    world = World(environment={"requirementsText": ""}, identity={"type": "Managed", "serviceAccountName": "runner"})
    world.set_account("runner")
    world.live(40)
    assert world.api.pods == []
    assert world.told_of("IdentityNotAssignable") == 1
    reads = world.api.requests.count("GET ServiceAccount")
    assert reads <= 7, "soon at first, then now and then, not all the time"
    world.set_account("runner", assignable=True)
    world.settle(until_ready=True)
    assert world.status()["identity"] == {"serviceAccountName": "runner"}
    assert world.api.pods[0]["spec"]["serviceAccountName"] == "runner"


def test_a_change_of_identity_keeps_the_settings():
    world = World(environment={"requirementsText": ""}, env=[{"name": "A", "value": "1"}])
    world.set_account("runner", assignable=True)
    world.settle(until_ready=True)
    (before,) = world.api.pods
    world.change_session(identity={"type": "Managed"})
    world.live(20)
    world.settle(until_ready=True)
    (after,) = world.api.pods
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["spec"]["serviceAccountName"] == "runner"
    assert {"name": "A", "value": "1"} in after["spec"]["containers"][0]["env"]
    assert world.told_of("IdentityChanged") == 1
    world.live(30)
    assert world.told_of("IdentityChanged") == 1
