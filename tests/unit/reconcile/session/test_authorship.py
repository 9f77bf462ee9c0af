"""Whose content a session gets: each rule of ownership against one snapshot."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from flowsession.model.plan import Deliver
from flowsession.model.resolved import Resolved
from flowsession.model.views import Authorship
from flowsession.reconcile.session import authorship
from flowsession.reconcile.session.snapshot import SessionSnapshot
from unit.builders import (
    NOW,
    agent,
    applied,
    condition,
    config_map,
    decide,
    from_folder,
    from_text,
    pod,
    resolved,
    session_snapshot,
    session_spec,
    settled_snapshot,
    spec,
    state,
    verdict,
)

ALICE, BOB, MALLORY = "alice@example.com", "bob@example.com", "mallory@example.com"
"""Bob owns the environment, Alice the session."""
ASKED = "2026-11-22T20:00:00Z"
FRESH = resolved(requirements="polars\n")


def by(**fields: Any) -> Authorship:
    return Authorship(**{"uid": "env-uid", "owner": BOB, **fields})


def foreign(field: str = "requirementsText", who: str = MALLORY) -> Authorship:
    return by(changed_by=((field, who),))


def running(authors: Authorship, **fields: Any) -> SessionSnapshot:
    """A settled session whose environment's content has changed since."""
    before = settled_snapshot()
    status = {**before.status, "environment": {"uid": "env-uid", "owner": BOB, "content": resolved().content, **fields.pop("given", {})}}
    return replace(before, environment=FRESH, authorship=authors, status=status, **fields)


def after(snapshot: SessionSnapshot) -> dict[str, Any]:
    plan = decide(snapshot)
    return applied(snapshot.status, plan.status.status if plan.status else {})


def is_withheld(snapshot: SessionSnapshot) -> bool:
    told = isinstance(decide(snapshot).call, Deliver)
    assert told == (verdict(after(snapshot), "InSync") != ("False", "ChangedByOther")), "either it is handed over, or people are told"
    return not told


@pytest.mark.parametrize(
    ("authors", "withheld"),
    [
        (by(), False),
        (foreign(), True),
        (foreign(who=ALICE), False),
        (foreign(who=BOB), False),
        (by(changed_by=(("source", ALICE), ("requirementsText", MALLORY))), True),
        (by(owner=None, changed_by=(("requirementsText", MALLORY),)), True),
        (by(owner="", changed_by=(("requirementsText", MALLORY),)), False),
        (by(config_maps=(("flow", BOB),)), False),
        (by(config_maps=(("flow", ALICE),)), False),
        (by(config_maps=(("flow", authorship.EVERYBODY),)), False),
        (by(config_maps=(("flow", None),)), False),
        (by(config_maps=(("flow", MALLORY),)), True),
        (by(uid="another"), False),
        (by(uid="another", owner=ALICE), False),
        (by(uid="another", owner=""), False),
        (by(uid="another", owner=MALLORY), True),
        (by(uid="another", owner=None), True),
    ],
)
def test_who_may_change_what_runs_in_a_session(authors, withheld):
    assert is_withheld(running(authors)) is withheld


def test_an_environment_from_before_there_were_owners_is_anybodys():
    legacy = {"owner": None}
    assert not is_withheld(running(by(owner=None, changed_by=(("requirementsText", MALLORY),)), given=legacy))
    assert not is_withheld(running(by(owner=None, uid="another"), given=legacy))
    assert is_withheld(running(by(owner=MALLORY, uid="another"), given=legacy)), "but not once it is somebody's"


def test_a_source_that_was_signed_stays_signed():
    given = {"configMaps": ["flow"]}
    assert is_withheld(running(by(config_maps=(("flow", None),)), given=given))
    assert not is_withheld(running(by(config_maps=(("other", None),)), given=given)), "the owner has named another one"


def test_the_same_content_is_no_change():
    snapshot = replace(settled_snapshot(), authorship=foreign())
    snapshot = replace(snapshot, status={**snapshot.status, "environment": {"uid": "env-uid", "owner": BOB, "content": resolved().content}})
    assert decide(snapshot).status is None
    assert decide(replace(snapshot, pods=())).status is not None, "and it may start with it again"
    assert verdict(after(replace(snapshot, pods=())), "Ready") != ("False", "ChangedByOther")


@pytest.mark.parametrize("what", ["install", "reset"])
def test_the_users_request_is_good_for_the_content_of_its_time(what):
    snapshot = running(foreign(), requests={what: ASKED})
    noted = after(snapshot)["environment"]
    assert noted["content"] == FRESH.content
    assert noted["asked"] == f"{what} {ASKED}"
    again = replace(snapshot, status={**snapshot.status, "environment": noted}, environment=resolved(requirements="evil\n"))
    assert after(again)["environment"] == noted
    assert not isinstance(decide(again).call, Deliver)


@pytest.mark.parametrize("request_", [{"resume": ASKED}, {"keepAlive": ASKED}, {"install": "now"}])
def test_other_requests_are_not_the_users_word(request_):
    assert is_withheld(running(foreign(), requests=request_))


def test_what_is_told_of_a_start_is_written_with_the_start():
    """It takes no additional write, and another environment with the same name is recognized from the start."""
    snapshot = session_snapshot(authorship=by())
    (create,) = decide(snapshot).creates
    assert create.manifest["metadata"]["annotations"]["flowsession.dev/environment-uid"] == "env-uid"
    fresh = session_snapshot(pod(environment_uid="former"), authorship=by(owner=MALLORY))
    assert verdict(after(fresh), "Ready") == ("False", "ChangedByOther")
    done = session_snapshot(pod(environment_uid="env-uid"), authorship=by(), agent=agent(state(idle_seconds=0.0)))
    assert after(done)["environment"] == {"uid": "env-uid", "owner": BOB, "content": resolved().content}


def test_an_install_that_was_under_way_goes_on_with_what_it_was_for():
    before = resolved()
    snapshot = session_snapshot(pod(), environment=FRESH, authorship=foreign(), agent=agent(state(before, idle_seconds=0.0), before))
    status = after(snapshot)
    assert verdict(status, "Ready") == ("True", "Running")
    assert verdict(status, "InSync") == ("False", "ChangedByOther")
    assert "environment" not in status, "that content was never given"


def test_another_size_waits_too_rather_than_to_lose_the_session():
    snapshot = running(foreign(), spec=session_spec(compute={"vmSize": "Standard_D4s_v5"}))
    plan = decide(snapshot)
    assert plan.deletes == ()
    assert verdict(after(snapshot), "ComputeAllocated") == ("False", "ChangedByOther")


def test_people_are_told_once_by_whom():
    snapshot = running(foreign())
    (event,) = decide(snapshot).events
    assert event.reason == "ChangedByOther" and "until then the session goes on with what it has" in event.message
    assert f"{MALLORY} (spec.requirementsText)" in condition(after(snapshot), "InSync")["message"]
    assert decide(replace(snapshot, status=after(snapshot)), NOW + 1).events == ()


def content(made: Any) -> str:
    assert isinstance(made, Resolved), made
    return made.content


def test_whatever_a_session_would_get_is_part_of_the_content():
    files: Mapping[str, bytes] = {"flow.dag.yaml": b"nodes: []\n", "a.py": b"a = 1\n"}
    all_of_them = [
        content(from_text("pandas")),
        content(from_text("polars")),
        content(from_text("pandas", installer={"indexURL": "https://mallory.example.com"})),
        content(from_text("pandas", baseImage="mallory/flow:1")),
        content(from_folder(files)),
        content(from_folder({**files, "a.py": b"a = 2\n"})),
        content(from_folder({**files, "requirements.txt": b"pandas\n"})),
    ]
    assert len(set(all_of_them)) == len(all_of_them)


def test_who_made_it_is_read_from_the_environment_and_its_config_maps():
    named = spec(owner=BOB, source={"configMap": {"name": "flow"}}, installer={"caBundleConfigMapName": "ca"})
    views = {"flow": replace(config_map({}), author=MALLORY), "ca": config_map({}, name="ca")}
    assert authorship.of("u", named, {"source": ALICE}, views) == Authorship(
        "u", BOB, (("source", ALICE),), (("ca", None), ("flow", MALLORY))
    )
