"""kill -9 of the operator at every single write, before and after the API server carries it out: nothing doubled, nothing lost.

Each test repeats in a fresh namespace with the next write.
"""

from collections.abc import Callable

import pytest

from apiserver.api import eventually
from apiserver.lab import Lab
from apiserver.recorder import Fault

AT_ONCE = {"flowsession.reconcile.restarts:SETTLED_SECONDS": 0.0}
"""Constants without which a lost pod's successor would start with back-off."""


@pytest.fixture(params=["before", "after"])
def moment(request: pytest.FixtureRequest) -> str:
    """Return whether the operator dies before or after the API server carries out the write."""
    return str(request.param)


def killed_at_every_write(
    lab: Lab,
    moment: str,
    *,
    prepare: Callable[[], None],
    act: Callable[[], None],
    over: Callable[[], bool],
    check: Callable[[], None],
    constants: dict[str, float] | None = None,
) -> list[str]:
    """Return the writes at which the operator was killed. It recovered from each.

    The first turn, without a kill, shows which they are. Their order differs from turn to turn, so each is found by its line and how many
    such there were before it; one that does not come this time is left out.
    """
    kill = lab.recorder.kill_before if moment == "before" else lab.recorder.kill_after

    def turn(fault: Fault | None) -> list[str]:
        """Return the lines of the writes up to the fault, or to the end of the story."""
        mark, mine = lab.recorder.mark(), lab.of_the_session()
        act()
        eventually(lambda: (fault and fault.done.is_set()) or over(), what="the fault, or the end of the story")
        if not (fault and fault.done.is_set()):
            lab.settle(quiet=0.4)
        return [write.line for write in lab.writes(since=mark) if mine(write)]

    lab.new_namespace()
    prepare()
    lines = turn(None)
    assert len(lines) < 20, f"no end of writes: {lines}"
    survived: list[str] = []
    for at, line in enumerate(lines):
        lab.new_namespace()
        prepare()
        nth, mine = lines[: at + 1].count(line), lab.of_the_session()
        fault = lab.recorder.inject(lambda write, line=line, mine=mine: mine(write) and write.line == line, kill, nth=nth)
        turn(fault)
        lab.recorder.disarm()
        if not fault.done.is_set():
            continue
        lab.operator.start(constants=constants or AT_ONCE)
        try:
            check()
        except AssertionError as error:
            raise AssertionError(f"killed {moment} {line}, number {nth}: {error}") from error
        assert lab.operator.lines("error") == []
        survived.append(line)
    return survived


def _one_session_is_right(lab: Lab, *, incarnation: int) -> None:
    # Until the operator has reconciled, the status describes the previous pod.
    eventually(lambda: lab.session().get("status", {}).get("incarnation") == incarnation, what=f"incarnation {incarnation}")
    lab.until_ready()
    lab.settle(quiet=0.4)
    session = lab.session()
    status = session["status"]
    pod = lab.the_pod()
    assert status["phase"] == "Running"
    assert status["podName"] == pod["metadata"]["name"]
    assert status["incarnation"] == incarnation
    assert pod["metadata"]["name"].endswith(f"-{incarnation}")
    assert len(lab.package_lists()) == 1
    assert status["packages"]["configMapName"] == lab.package_lists()[0]["metadata"]["name"]
    assert status["packages"]["count"] == 2
    for kind in ("EnvironmentResolved", "ComputeAllocated", "PackagesInstalled", "InSync", "Ready"):
        assert lab.condition(kind)["status"] == "True", lab.condition(kind)
    for reason in ("Running", "PodFailed"):
        told = sum(event["count"] for event in lab.events(reason=reason))
        assert told <= incarnation + 1, f"{told} Events {reason}"


def test_during_the_start(started: Lab, moment: str) -> None:
    def prepare() -> None:
        started.create_environment()
        started.until_environment("Resolved")

    writes = killed_at_every_write(
        started,
        moment,
        prepare=prepare,
        act=lambda: started.create_session() and None,
        over=lambda: bool(started.session().get("status", {}).get("packages")),
        check=lambda: _one_session_is_right(started, incarnation=1),
    )
    assert writes[0] == "POST pods"
    assert {"POST configmaps", "PATCH computesessions/status", "POST events"} <= set(writes)


def test_during_the_start_with_a_flow_folder_and_an_image_without_agent(started: Lab, moment: str) -> None:
    """The agent's own ConfigMap is one more write, before the pod."""

    def prepare() -> None:
        started.create_config_map(flow__dag__yaml="environment: {image: other:1}", requirements__txt="pandas")
        started.create_environment(source={"configMap": {"name": "flow"}})
        started.until_environment("Resolved")

    def check() -> None:
        _one_session_is_right(started, incarnation=1)
        archives = [
            cm for cm in started.api.get(started.path("configmaps"))["items"] if cm["metadata"]["name"].startswith("flowsession-agent-")
        ]
        assert len(archives) == 1

    writes = killed_at_every_write(
        started,
        moment,
        prepare=prepare,
        act=lambda: started.create_session() and None,
        over=lambda: bool(started.session().get("status", {}).get("packages")),
        check=check,
    )
    assert writes[:2] == ["POST configmaps", "POST pods"]


def test_during_the_restart_after_a_lost_pod(lab: Lab, moment: str) -> None:
    lab.operator.start(constants=AT_ONCE)

    def prepare() -> None:
        lab.create_environment()
        lab.create_session()
        lab.until_ready()
        lab.settle(quiet=0.3)

    def again() -> bool:
        status = lab.session()["status"]
        return status.get("incarnation") == 2 and bool(status.get("packages")) and status.get("phase") == "Running"

    writes = killed_at_every_write(
        lab,
        moment,
        prepare=prepare,
        act=lambda: lab.api.delete(lab.path("pods", lab.the_pod()["metadata"]["name"])),
        over=again,
        check=lambda: _one_session_is_right(lab, incarnation=2),
    )
    assert writes[0] == "PATCH computesessions/status", "the new incarnation is noted before its pod is made"
    assert "POST pods" in writes


def test_during_the_end_of_an_idle_session(started: Lab, moment: str) -> None:
    def prepare() -> None:
        if not started.operator.running:
            started.operator.start()
        started.create_environment()
        started.create_session(idle={"timeoutSeconds": 60})
        started.until_ready()
        started.settle(quiet=0.3)
        started.operator.kill()
        started.backdate(seconds=100)

    def check() -> None:
        eventually(started.gone, what="the idle session ends all the same")
        eventually(lambda: started.pods() == [])
        told = sum(event["count"] for event in started.events(reason="Idle"))
        assert 1 <= told <= 2, f"{told} Events Idle"
        assert started.events(reason="PodFailed") == []

    writes = killed_at_every_write(
        started, moment, prepare=prepare, act=lambda: started.operator.start(wait=False), over=started.gone, check=check
    )
    assert "DELETE computesessions" in writes


OFTEN = {"flowsession.reconcile.session.saving:SAVE_SECONDS": 0.2}
"""Constants that have edits saved whenever an agent reports them as waiting."""


def _edit(lab: Lab, text: str) -> None:
    lab.agent().edit(text)
    eventually(lambda: _saved(lab, text), what=f"the edits {text!r} are saved")


def _saved(lab: Lab, text: str) -> bool:
    """Return whether the status shows the edits as saved. The agent keeps reporting them as waiting."""
    if lab.pods():
        lab.agent().send("waiting")
    return bool((lab.session()["status"].get("edits") or {}).get("revision") == text)


def _kept_edits(lab: Lab) -> list[str]:
    return [cm["metadata"]["name"] for cm in lab.api.get(lab.path("configmaps"))["items"] if "-edits-" in cm["metadata"]["name"]]


def _next_session_has(lab: Lab, text: str) -> None:
    if not lab.gone():
        lab.api.delete(lab.path("computesessions", "ada"))
        eventually(lab.gone)
    for pod in lab.pods():
        lab.api.delete(lab.path("pods", pod["metadata"]["name"]))
    eventually(lambda: not lab.api.get(lab.path("pods"))["items"], what="nothing is left of the session")
    lab.create_session()
    lab.until_ready()
    assert (lab.agent().edits, lab.agent().restored) == (text, True)


def test_during_a_save_of_edits_that_follow_on_saved_ones(lab: Lab, moment: str) -> None:
    def prepare() -> None:
        if not lab.operator.running:
            lab.operator.start(constants=OFTEN)
        lab.environment_of_flow()
        lab.create_session()
        lab.until_ready()
        _edit(lab, "older")
        lab.settle(quiet=0.3)

    def act() -> None:
        lab.agent().edit("newer")
        lab.agent().send("waiting")

    def check() -> None:
        eventually(lambda: _saved(lab, "newer"), what="the newer edits are saved")
        _next_session_has(lab, "newer")

    writes = killed_at_every_write(
        lab,
        moment,
        prepare=prepare,
        act=act,
        over=lambda: _saved(lab, "newer") and len(_kept_edits(lab)) == 1,
        check=check,
        constants=OFTEN,
    )
    assert writes == ["POST configmaps", "PATCH computesessions/status", "DELETE configmaps"]


def test_during_the_last_save_of_a_session_that_is_deleted(lab: Lab, moment: str) -> None:
    """The status is gone, and so is the operator that knew it. The pod says which session it belongs to."""
    pods: list[str] = []

    def prepare() -> None:
        if not lab.operator.running:
            lab.operator.start(constants=OFTEN)
        lab.kubelet.release()
        lab.environment_of_flow()
        lab.create_session()
        lab.until_ready()
        _edit(lab, "older")
        lab.settle(quiet=0.3)
        lab.kubelet.lingers = True

    def act() -> None:
        agent, pods[:] = lab.agent(), [lab.the_pod()["metadata"]["name"]]
        agent.edit("newer")
        lab.api.delete(lab.path("computesessions", "ada"))
        eventually(lab.gone)
        lab.api.delete(lab.path("pods", pods[0]))
        agent.send("ending")

    def told() -> bool:
        return bool(lab.events("env", reason="EditsSaved"))

    def check() -> None:
        eventually(told, what="the last edits are saved")
        lab.kubelet.release()
        _next_session_has(lab, "newer")

    writes = killed_at_every_write(lab, moment, prepare=prepare, act=act, over=told, check=check, constants=OFTEN)
    assert "POST configmaps" in writes


def test_during_a_suspension_with_edits(lab: Lab, moment: str) -> None:
    def prepare() -> None:
        if not lab.operator.running:
            lab.operator.start(constants=OFTEN)
        lab.environment_of_flow()
        lab.create_session()
        lab.until_ready()
        lab.agent().edit("only")
        lab.settle(quiet=0.3)

    def suspended() -> bool:
        return lab.session()["status"].get("phase") == "Suspended" and not lab.pods()

    def check() -> None:
        eventually(suspended, what="it is suspended")
        lab.change_session(suspend=False)
        lab.until_ready()
        assert (lab.agent().edits, lab.agent().restored) == ("only", True)

    writes = killed_at_every_write(
        lab, moment, prepare=prepare, act=lambda: lab.change_session(suspend=True) and None, over=suspended, check=check, constants=OFTEN
    )
    assert writes[0] == "POST configmaps"
    assert "DELETE pods" in writes


def test_during_the_write_of_an_environments_status(started: Lab, moment: str) -> None:
    inject = started.recorder.kill_before if moment == "before" else started.recorder.kill_after
    fault = started.recorder.inject(started.writes_to_namespace("PATCH flowenvironments/status"), inject)
    started.create_environment(requirementsText="pandas")
    assert fault.done.wait(60)
    started.operator.start()
    started.until_environment("Resolved")
    started.create_session()
    _one_session_is_right(started, incarnation=1)


def test_between_retirement_and_end_the_owner_changes_the_mind(started: Lab) -> None:
    """The operator that retired the agent is dead. The next operator reopens the agent, which otherwise reopens itself in time."""
    started.create_environment()
    started.create_session(idle={"timeoutSeconds": 60})
    started.until_ready()
    started.agent().retirement_seconds = 3.0
    started.settle(quiet=0.3)
    started.operator.kill()
    started.backdate(seconds=100)
    change = started.recorder.kill_after_doing(lambda: started.change_session(idle={"timeoutSeconds": 3600}))
    fault = started.recorder.inject(started.writes_to_namespace("DELETE computesessions"), change)
    started.operator.start(wait=False)
    assert fault.done.wait(60)
    assert started.agent().retired
    started.recorder.disarm()
    started.operator.start()
    eventually(lambda: not started.agent().retired, seconds=25, what="the session that goes on accepts work again")


@pytest.fixture
def many(started: Lab) -> Lab:
    """Prepare a namespace for sessions that start while the operator dies repeatedly."""
    started.create_environment()
    return started


def test_again_and_again_while_many_sessions_start(many: Lab) -> None:
    names = [f"s{n}" for n in range(8)]
    many.until_environment("Resolved")
    for name in names:
        many.create_session(name)
    for _ in range(6):
        fault = many.recorder.inject(many.of_the_session(), many.recorder.kill_after, nth=7)
        eventually(lambda fault=fault: fault.done.is_set() or all(many.session(n).get("status", {}).get("packages") for n in names))
        many.recorder.disarm()
        many.operator.restart()
    for name in names:
        many.until_ready(name)
    many.settle()
    assert sorted(p["metadata"]["labels"]["flowsession.dev/session"] for p in many.pods()) == names
    assert len(many.package_lists()) == 1
    before = many.recorder.mark()
    many.operator.restart()
    many.settle(quiet=1.0)
    assert many.lines(since=before, without=("flowenvironments",)) == []
