"""Which parts of an agent's answer are believed, and how many writes they may cause."""

from dataclasses import replace

import pytest

from flowsession.cluster.agent.transport import AgentError
from flowsession.engine.allowance import Allowance
from flowsession.engine.belief import accepted_state
from flowsession.model.agent_views import AgentState, AgentView
from flowsession.model.plan import AgentCall, Deliver, Probe
from unit.builders import NOW, installing, resolved, state

PANDAS, NUMPY = resolved(), resolved(requirements="numpy\n")
STATUS = {"packagesRevision": PANDAS.packages_revision, "flowRevision": "folder-1"}
TOLD = AgentView(0, delivered=(NUMPY.packages_revision, "folder-2"))


@pytest.mark.parametrize(
    ("call", "view", "status"),
    [
        (Deliver(PANDAS.wire), AgentView(0), {}),
        (Probe(), AgentView(0, delivered=(PANDAS.packages_revision, "")), {}),
        (Probe(), AgentView(0), {"packagesRevision": PANDAS.packages_revision}),
        (Probe(), AgentView(0), {"install": {"revision": PANDAS.packages_revision}}),
        (Deliver(NUMPY.wire), AgentView(0, state=state(PANDAS)), {}),
    ],
    ids=["told now", "told before", "told by an operator before", "being installed by its word", "believed before"],
)
def test_what_was_ordered_is_believed(call: AgentCall, view: AgentView, status: dict[str, object]) -> None:
    said = state(PANDAS, flow_revision="")
    assert accepted_state(said, call, view, status) == said


@pytest.mark.parametrize(("view", "status"), [(TOLD, {}), (AgentView(0), {"flowRevision": "folder-2"})], ids=["told", "by the status"])
def test_so_is_a_flow_folder_that_was_pushed(view: AgentView, status: dict[str, object]) -> None:
    assert accepted_state(state(NUMPY, packages_revision="", flow_revision="folder-2"), Probe(), view, status).flow_revision == "folder-2"


def made_up(**fields: object) -> AgentState:
    return state(**{"packages_revision": "evil", "flow_revision": "evil", **fields})


def test_for_what_was_not_the_status_stands() -> None:
    found = accepted_state(made_up(), Probe(), TOLD, STATUS)
    assert (found.packages_revision, found.flow_revision) == (PANDAS.packages_revision, "folder-1")


def test_an_install_that_was_not_ordered_has_no_name() -> None:
    found = accepted_state(installing(PANDAS, packages_revision="evil"), Probe(), TOLD, {})
    assert (found.install.state, found.install.packages_revision) == ("Running", "")


def test_where_nothing_usable_is_left_the_answer_is_of_no_use() -> None:
    with pytest.raises(AgentError, match="packages that were not ordered"):
        accepted_state(made_up(), Probe(), TOLD, {})


def test_an_install_under_way_is_followed_all_the_same() -> None:
    running = replace(installing(NUMPY), packages_revision="evil")
    assert accepted_state(running, Probe(), TOLD, {}).packages_revision == ""


# -- writes


def test_so_many_writes_at_once_and_then_one_now_and_then() -> None:
    allowance = Allowance(burst=3, seconds=10)
    assert [allowance.wait("a", NOW) for _ in range(4)] == [0, 0, 0, 10]
    assert allowance.wait("a", NOW + 4) == 6
    assert [allowance.wait("a", NOW + 10), allowance.wait("a", NOW + 10)] == [0, 10]
    assert sum(not allowance.wait("a", NOW + 10 + second / 10) for second in range(1, 6000)) == 59


def test_each_object_has_its_own() -> None:
    allowance = Allowance(burst=1, seconds=10)
    assert [allowance.wait(uid, NOW) for uid in ("a", "b", "a")] == [0, 0, 10]


def test_a_clock_that_is_set_back_holds_nobody_up_for_longer() -> None:
    allowance = Allowance(burst=1, seconds=10)
    assert allowance.wait("a", NOW) == 0
    assert allowance.wait("a", NOW - 3600) == 10
    assert allowance.wait("a", NOW - 3590) == 0


def test_only_so_many_objects_are_remembered() -> None:
    allowance = Allowance(burst=1, seconds=10, remembered=2)
    assert [allowance.wait(uid, NOW) for uid in ("a", "b", "c", "c", "a")] == [0, 0, 0, 10, 0]
