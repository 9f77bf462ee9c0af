"""Who decides what runs in a session: a stranger's change of its environment or source waits until the session's user asks for it."""

from typing import Any

import pytest

from apiserver import policies
from apiserver.agents import HttpAgent
from apiserver.api import Object, eventually
from apiserver.lab import SOURCE_LABEL, Lab, refusal
from apiserver.test_references import ALICE, BOB, Team

MALLORY = "mallory@example.com"
CHANGED_BY = "flowsession.dev/changed-by"
EVIL = "x @ http://mallory.example.com/x.whl"
ENVIRONMENT, SESSION = "FlowEnvironment", "ComputeSession"


class Scene:
    """A namespace in which Alice owns an environment, and Mallory may use flowsession's objects and nothing else."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.team = Team(lab.api, lab.namespace)
        policies.bind(lab.api, MALLORY, policies.USER_ROLE, lab.namespace)
        self._times = 0

    def environment(self, by: str = ALICE, **spec: Any) -> Object:
        return self.team.create(by, ENVIRONMENT, spec, "env")

    def change(self, by: str, **spec: Any) -> Object:
        return self.team.change(by, ENVIRONMENT, "env", {"spec": spec})

    def start(self, user: str = ALICE, name: str = "s", **spec: Any) -> None:
        self.team.session(user, name, **spec)
        self.lab.until_ready(name)

    def ask(self, what: str, by: str = ALICE, name: str = "s") -> None:
        self._times += 1
        value = f"2026-11-22T20:00:{self._times:02}Z"
        self.team.change(by, SESSION, name, {"metadata": {"annotations": {f"flowsession.dev/{what}-requested-at": value}}})

    def waits(self, name: str = "s", *, says: str = MALLORY) -> None:
        """Wait until the session reports the change. It keeps running with what it has."""
        found = self.lab.until_condition("InSync", "ChangedByOther", name, says=says)
        assert found["status"] == "False"
        assert "reset-requested-at or flowsession.dev/install-requested-at" in found["message"]
        self.lab.settle()
        assert self.lab.condition("Ready", name)["status"] == "True"

    def held(self, name: str = "s", *, says: str = MALLORY) -> None:
        """Wait until the session reports the change instead of starting."""
        self.lab.until_condition("Ready", "ChangedByOther", name, says=says)
        self.lab.settle()

    def given(self, name: str = "s") -> str:
        """Return the requirements and the flow folder that the session's agent has."""
        agents = [self.lab.kubelet.agents.get(pod["metadata"]["uid"]) for pod in self.lab.pods(session=name)]
        assert len(agents) == 1 and isinstance(agents[0], HttpAgent), "its pod does not run yet"
        told = agents[0].order
        return f"{(told.get('requirements') or {}).get('text')} {told.get('files')}"

    def never_got(self, words: str) -> bool:
        return not any(words in str(call.body) for agent in self.lab.kubelet.agents.values() for call in getattr(agent, "calls", ()))


@pytest.fixture
def scene(started: Lab, enforced: object) -> Scene:
    return Scene(started)


# -- the attack: a Secret leaves a running session by way of its environment


def test_a_strangers_package_is_not_installed_beside_somebodys_secret(scene: Scene) -> None:
    scene.team.grant(ALICE, "secrets", "get", "mine")
    scene.environment(requirementsText="pandas\n")
    scene.start(env=[{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "key"}}}])
    scene.change(MALLORY, source=None, requirementsText=EVIL)
    scene.waits(says=f"{MALLORY} (spec.requirementsText)")
    told = scene.lab.until_event("ChangedByOther", "s")["message"]
    assert "goes on with what it has" in told and f"have its owner {ALICE} fix it" in told
    assert scene.never_got("mallory")
    scene.change(ALICE, requirementsText="pandas\n")
    scene.lab.until_condition("InSync", "InSync", "s")
    assert scene.never_got("mallory")


def test_taking_a_reference_away_is_for_those_who_may_have_it(scene: Scene) -> None:
    scene.team.grant(ALICE, "configmaps", "get", "flow")
    scene.lab.create_config_map(flow__dag__yaml="nodes: []\n")
    scene.environment(source={"configMap": {"name": "flow"}})
    assert "ConfigMap flow" in refusal(scene.change, MALLORY, source=None, requirementsText=EVIL)


def test_an_environment_that_was_deleted_and_created_again_is_another_one(scene: Scene) -> None:
    scene.environment(requirementsText="pandas\n")
    scene.start()
    path = scene.team.path(ENVIRONMENT, "env")
    scene.team.api.acting_for(MALLORY).delete(path)
    assert scene.environment(MALLORY, requirementsText=EVIL)["spec"]["owner"] == MALLORY
    scene.waits(says=f"{MALLORY} (deleted and created again)")
    assert scene.never_got("mallory")
    scene.team.api.acting_for(MALLORY).delete(path)
    scene.environment(requirementsText="polars\n")
    scene.lab.until_condition("InSync", "InSync", "s")
    assert "polars" in scene.given()


def test_a_session_that_loses_its_pod_meanwhile_waits_for_its_user(scene: Scene) -> None:
    scene.environment(requirementsText="pandas\n")
    scene.start()
    scene.change(MALLORY, requirementsText=EVIL)
    scene.waits()
    scene.lab.api.delete(scene.lab.path("pods", scene.lab.the_pod()["metadata"]["name"]), {"gracePeriodSeconds": 0})
    scene.held()
    assert scene.lab.pods() == []
    scene.change(ALICE, requirementsText="polars\n")
    scene.lab.until_ready("s")
    assert "polars" in scene.given()
    assert scene.never_got("mallory")


def test_nor_is_a_container_that_was_restarted_given_it(scene: Scene) -> None:
    scene.environment(requirementsText="pandas\n")
    scene.start()
    scene.change(MALLORY, requirementsText=EVIL)
    scene.waits()
    pod = scene.lab.the_pod()
    scene.lab.kubelet.restart_container(pod, scene.lab.kubelet.make_agent())
    scene.held()
    assert scene.never_got("mallory")
    scene.ask("install")
    scene.lab.until_ready("s")
    assert EVIL in scene.given()


def test_an_operator_that_was_killed_meanwhile_holds_it_back_too(scene: Scene) -> None:
    scene.environment(requirementsText="pandas\n")
    scene.start()
    scene.lab.operator.kill()
    scene.change(MALLORY, requirementsText=EVIL)
    scene.lab.operator.start()
    scene.waits()
    assert scene.never_got("mallory")


# -- the user's consent


@pytest.mark.parametrize("what", ["install", "reset"])
def test_one_request_takes_up_one_content(scene: Scene, what: str) -> None:
    scene.environment(requirementsText="pandas\n")
    scene.start()
    scene.change(BOB, requirementsText="polars\n")
    scene.waits(says=BOB)
    scene.ask(what)
    eventually(lambda: "polars" in scene.given(), what="it is taken up")
    scene.lab.until_condition("InSync", "InSync", "s")
    scene.change(MALLORY, requirementsText=EVIL)
    scene.waits()
    assert scene.never_got("mallory")


def test_nobody_else_gives_the_users_word(scene: Scene) -> None:
    scene.environment(requirementsText="pandas\n")
    scene.start()
    scene.change(MALLORY, requirementsText=EVIL)
    scene.waits()
    for what in ("install", "reset"):
        assert f"{MALLORY} may not act for them" in refusal(scene.ask, what, MALLORY)
    assert scene.never_got("mallory")


def test_new_sessions_of_others_wait_and_the_strangers_own_do_not(scene: Scene) -> None:
    scene.environment(requirementsText="pandas\n")
    scene.change(MALLORY, requirementsText=EVIL)
    scene.start(MALLORY, "theirs")
    assert EVIL in scene.given("theirs")
    scene.team.session(BOB, "bobs")
    scene.held("bobs")
    assert scene.lab.pods(session="bobs") == []
    scene.ask("reset", BOB, "bobs")
    scene.lab.until_ready("bobs")


def test_what_the_owner_changes_reaches_everybody(scene: Scene) -> None:
    scene.environment(requirementsText="pandas\n")
    scene.start(BOB)
    scene.change(ALICE, requirementsText="polars\n")
    eventually(lambda: "polars" in scene.given(), what="it is installed")
    scene.lab.until_condition("InSync", "InSync", "s")


# -- the flow folder


@pytest.fixture
def folder(scene: Scene) -> Scene:
    """Give Alice's environment a flow folder that Mallory may write."""
    scene.team.grant(ALICE, "configmaps", "*")
    scene.team.grant(MALLORY, "configmaps", "*")
    write(scene, ALICE, "nodes: []\n")
    scene.environment(source={"configMap": {"name": "flow"}})
    scene.start()
    return scene


def write(scene: Scene, by: str, text: str, *, labels: Object | None = None, **meta: Any) -> Object:
    meta = {"name": "flow", "labels": SOURCE_LABEL if labels is None else labels, **meta}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"flow.dag.yaml": text}}
    answer: Object = scene.team.api.acting_for(by).post(scene.lab.path("configmaps"), body)
    return answer


def rewrite(scene: Scene, by: str, **body: Any) -> Object:
    answer: Object = scene.team.api.acting_for(by).patch(scene.lab.path("configmaps", "flow"), body)
    return answer


def test_a_key_of_the_source(folder: Scene) -> None:
    rewrite(folder, MALLORY, data={"mallory.py": "steal"})
    folder.waits(says=f"{MALLORY} (ConfigMap 'flow')")
    assert folder.never_got("mallory.py")
    rewrite(folder, ALICE, data={"mallory.py": None, "more.py": "a = 1"})
    eventually(lambda: "more.py" in folder.given(), what="the owner's change")
    folder.lab.until_condition("InSync", "InSync", "s")


def test_the_source_deleted_and_created_again(folder: Scene) -> None:
    folder.team.api.acting_for(MALLORY).delete(folder.lab.path("configmaps", "flow"))
    assert write(folder, MALLORY, "mallory: 1\nnodes: []\n")["metadata"]["annotations"] == {CHANGED_BY: MALLORY}
    folder.waits()


@pytest.mark.parametrize("by", [BOB, MALLORY])
def test_a_source_whose_label_was_taken_off(folder: Scene, by: str) -> None:
    """From then on the API server no longer records who changed it."""
    rewrite(folder, MALLORY, metadata={"labels": None}, data={"mallory.py": "steal"})
    rewrite(folder, MALLORY, metadata={"annotations": {CHANGED_BY: ALICE}})
    refresh = {"flowsession.dev/refresh-requested-at": "2026-11-22T20:00:00Z"}
    folder.team.change(ALICE, ENVIRONMENT, "env", {"metadata": {"annotations": refresh}})
    folder.waits(says="(ConfigMap 'flow')")
    assert folder.never_got("mallory.py")
    made = rewrite(folder, MALLORY, metadata={"labels": SOURCE_LABEL})
    assert made["metadata"]["annotations"][CHANGED_BY] == MALLORY, "whoever puts the label on answers for what is in it"


# -- the record of changes


def test_notes_of_changes_can_not_be_forged(scene: Scene) -> None:
    note = f"{CHANGED_BY}.requirementsText"
    made = scene.team.create(ALICE, ENVIRONMENT, {"requirementsText": "pandas"}, "env")
    assert made["spec"]["owner"] == ALICE and CHANGED_BY not in str(made["metadata"].get("annotations"))
    forged = {"spec": {"requirementsText": EVIL}, "metadata": {"annotations": {note: ALICE}}}
    changed = scene.team.change(MALLORY, ENVIRONMENT, "env", forged)
    assert changed["metadata"]["annotations"] == {note: MALLORY}
    for annotations in ({note: ALICE}, {note: None}, None):
        changed = scene.team.change(MALLORY, ENVIRONMENT, "env", {"metadata": {"annotations": annotations}})
        assert changed["metadata"]["annotations"] == {note: MALLORY}
    changed = scene.change(ALICE, installer={"onlyBinary": True})
    assert changed["metadata"]["annotations"] == {note: MALLORY}, "the owner has not touched that"
    changed = scene.change(ALICE, requirementsText="pandas")
    assert not changed["metadata"].get("annotations")
    assert not scene.lab.api.patch(scene.team.path(ENVIRONMENT, "env"), {"spec": {"requirementsText": "polars"}})["metadata"].get(
        "annotations"
    ), "an administrator may act for the owner"


def test_owners(scene: Scene) -> None:
    team = scene.team
    assert f"spec.owner is {ALICE}, and {MALLORY} may not act for them" in refusal(team.create, MALLORY, ENVIRONMENT, {"owner": ALICE})
    assert "administer on flowenvironments" in refusal(team.create, MALLORY, ENVIRONMENT, {"owner": ""})
    scene.environment(requirementsText="pandas")
    for taken in (MALLORY, "", None):
        answer = refusal(scene.change, MALLORY, owner=taken) if taken is not None else scene.change(MALLORY, owner=taken)
        assert "owner is immutable" in answer if isinstance(answer, str) else answer["spec"]["owner"] == ALICE
    assert team.replace(ALICE, ENVIRONMENT, "env", {})["spec"]["owner"] == ALICE
    update = {"metadata": {"annotations": {"flowsession.dev/update-requested-at": "2026-11-22T20:00:00Z"}}}
    assert "may not act for them" in refusal(team.change, MALLORY, ENVIRONMENT, "env", update)
    team.change(ALICE, ENVIRONMENT, "env", update)


def test_the_platforms_own_environments_are_changed_by_those_who_administer_them(scene: Scene) -> None:
    scene.team.grant(BOB, "flowenvironments", "administer", group="flowsession.dev")
    scene.environment(BOB, owner="", requirementsText="pandas\n")
    assert "the platform's own" in refusal(scene.change, MALLORY, requirementsText=EVIL)
    scene.start()
    scene.change(BOB, requirementsText="polars\n")
    eventually(lambda: "polars" in scene.given(), what="it reaches everybody at once")
    scene.team.api.acting_for(MALLORY).delete(scene.team.path(ENVIRONMENT, "env"))
    scene.environment(MALLORY, requirementsText=EVIL)
    scene.waits()
    assert scene.never_got("mallory")
