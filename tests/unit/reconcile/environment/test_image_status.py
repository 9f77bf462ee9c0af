"""An environment's status of its image: newer images, requests to check and to update, and an image without prompt flow."""

from typing import Any

import pytest

from flowsession.images.check import Base, ImageCheck, Question, may_ask
from flowsession.images.image import ImageInUse
from flowsession.images.reference import parse
from flowsession.model.plan import Plan
from flowsession.reconcile.environment import chain as environments
from flowsession.reconcile.environment import image as images
from flowsession.reconcile.environment import resolve
from flowsession.reconcile.environment.snapshot import EnvironmentSnapshot, ImageFacts
from flowsession.settings import ImageSettings, Settings
from unit.builders import NOW, RUNTIME, applied, condition, environment_snapshot, spec, stamp, verdict

ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")
TEAM = "reg.example.com/team/flow:1"
NAME = "reg.example.com/team/flow"
AT = "2026-01-01T00:00:00Z"
ASKABLE = Settings(images=ImageSettings(allowed_registries=("reg.example.com",)))
OLD_DEFAULT = {"baseImage": "flowsession-runtime:0", "baseImageFrom": "Default", "imageDigest": "sha256:77"}


class World:
    """One environment, decided repeatedly. The registry answers only when a test calls `answer`."""

    def __init__(self, image: str = TEAM, *, settings: Settings = ASKABLE, status: dict[str, Any] | None = None) -> None:
        self.image = image
        self.settings = settings
        self.status = status or {}
        self.requests: dict[str, str] = {}
        self.facts: dict[str, Any] = {}
        self.now = NOW

    @property
    def snapshot(self) -> EnvironmentSnapshot:
        known = {"reported": self.status.get("imageDigest", ""), **self.facts}
        return environment_snapshot(
            spec=spec(baseImage=self.image),
            status=self.status,
            requests=self.requests,
            image=ImageFacts(**known),
            settings=self.settings,
        )

    def plan(self) -> Plan:
        in_use = images.image_in_use(self.status, self.requests)
        return environments.decide(self.snapshot, resolve.resolve(spec(baseImage=self.image), {}, self.settings, in_use=in_use), self.now)

    def decide(self) -> Plan:
        """Carry out the plan, and check that nothing is left to write until the registry answers."""
        plan = self.plan()
        self.status = applied(self.status, plan.status.status if plan.status else {})
        again = self.plan()
        assert again.status is None, again.status
        return plan

    def answer(self, **fields: Any) -> Plan:
        """Let the registry answer the last question."""
        question = self.decide().question
        assert question is not None, "nothing was asked"
        self.facts["check"] = ImageCheck(question, **fields)
        return self.decide()

    @property
    def newer(self) -> tuple[str, str]:
        return verdict(self.status, "NewerImageAvailable")

    @property
    def said(self) -> str:
        return str(condition(self.status, "NewerImageAvailable")["message"])


def started(image: str = TEAM, digest: str = f"{NAME}@{ONE}", **fields: Any) -> World:
    """An environment whose first session has reported its image."""
    world = World(image, **fields)
    world.decide()
    world.facts["reported"] = digest
    world.decide()
    world.facts.pop("reported")
    return world


# -- what is known without a registry


def test_the_status_says_where_the_image_comes_from_and_what_a_node_reported():
    world = started()
    assert (world.status["baseImage"], world.status["baseImageFrom"]) == (TEAM, "Spec")
    assert world.status["imageDigest"] == f"{NAME}@{ONE}"
    assert world.newer == ("Unknown", "NotChecked")
    assert "flowsession.dev/check-version-requested-at" in world.said


def test_a_newer_default_is_told_and_not_taken():
    world = World("", status=dict(OLD_DEFAULT))
    world.decide()
    assert world.newer == ("True", "NewerDefault")
    assert world.status["latestImage"] == RUNTIME
    assert world.status["baseImage"] == "flowsession-runtime:0"
    assert "flowsession.dev/update-requested-at" in world.said


def test_an_update_takes_the_default_of_today_and_forgets_the_digest():
    world = World("", status=dict(OLD_DEFAULT))
    world.requests["update"] = AT
    plan = world.decide()
    assert plan.question is None
    assert (world.status["baseImage"], world.status.get("imageDigest")) == (RUNTIME, None)
    assert world.status["handledRequests"] == {"update": AT}
    assert world.newer == ("False", "IsDefault")
    assert [event.reason for event in plan.events] == ["ImageUpdated"]


def test_an_image_by_digest_does_not_move():
    world = World(f"{NAME}@{ONE}")
    world.requests["checkVersion"] = AT
    assert world.decide().question is None
    assert world.newer == ("False", "FixedDigest")
    assert world.status["handledRequests"] == {"checkVersion": AT}


def test_another_image_begins_anew():
    world = started()
    world.requests["checkVersion"] = AT
    world.answer(digest=TWO)
    world.image = f"{NAME}:2"
    world.facts = {"reported": ""}
    world.decide()
    assert world.newer == ("Unknown", "NotChecked")
    assert {"imageDigest", "latestImage", "imageCheckedAt"}.isdisjoint(world.status)


def test_junk_is_refused_once():
    world = World()
    world.requests["update"] = "soon"
    assert [(event.warning, event.reason) for event in world.decide().events] == [(True, "RequestRefused")]
    assert world.decide().events == ()
    assert world.status["handledRequests"] == {"update": "soon"}


# -- asking the registry


def test_a_check_asks_once_and_is_answered_in_the_status():
    world = started()
    world.requests["checkVersion"] = AT
    plan = world.decide()
    assert plan.question == Question(TEAM, f"|{AT}|", ONE)
    assert plan.status is None
    world.answer(digest=ONE, same=True)
    assert world.newer == ("False", "UpToDate")
    assert world.status["handledRequests"] == {"checkVersion": AT}
    assert world.status["imageCheckedAt"] == stamp(NOW)
    assert world.decide().question is None


def test_a_tag_that_has_moved_is_told_with_both_digests():
    world = started()
    world.requests["checkVersion"] = AT
    world.answer(digest=TWO)
    assert world.newer == ("True", "TagMoved")
    assert ONE in world.said and TWO in world.said
    assert world.status["latestImage"] == f"{NAME}@{TWO}"
    assert world.status["imageDigest"] == f"{NAME}@{ONE}"


def test_a_platforms_digest_of_the_same_index_has_not_moved():
    world = started()
    world.requests["checkVersion"] = AT
    world.answer(digest=TWO, same=True)
    assert world.newer == ("False", "UpToDate")


def test_what_a_registry_refuses_is_unknown_with_the_way_out():
    world = started()
    world.requests["checkVersion"] = AT
    world.answer(reason="RegistryRefused", message="give it credentials")
    assert (world.newer, world.said) == (("Unknown", "RegistryRefused"), "give it credentials")
    assert world.status["handledRequests"] == {"checkVersion": AT}


@pytest.mark.parametrize("patterns", [(), ("*",), ("*/team/*",), ("other.example.com",)])
def test_only_registries_that_the_platform_team_named_are_asked(patterns):
    settings = Settings(images=ImageSettings(allowed_registries=patterns))
    reference = parse(TEAM)
    assert reference is not None
    assert not may_ask(reference, settings)
    if "other.example.com" in patterns:
        return
    world = started(settings=settings)
    world.requests["checkVersion"] = AT
    assert world.decide().question is None
    assert world.newer == ("Unknown", "RegistryNotAllowed")
    assert "images.allowedRegistries" in world.said


def test_the_default_images_own_repository_may_be_asked_and_nothing_beside_it():
    settings = Settings(runtime_image="reg.example.com/runtime:1")
    assert may_ask(parse("reg.example.com/runtime:2"), settings)
    assert not may_ask(parse("reg.example.com/other:2"), settings)


def test_an_image_that_no_registry_gave_to_the_nodes_can_not_be_compared():
    world = started(digest="sha256:77")
    world.requests["checkVersion"] = AT
    world.answer(digest=ONE)
    assert world.newer == ("Unknown", "NotComparable")


def test_before_the_first_session_the_registrys_word_waits_for_a_nodes():
    world = World()
    world.requests["checkVersion"] = AT
    world.answer(digest=ONE)
    assert world.newer == ("False", "NotStarted")
    world.facts["reported"] = f"{NAME}@{ONE}"
    world.decide()
    assert world.newer == ("False", "UpToDate")


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (Base("docker.io/library/python:3", ONE, TWO), "docker.io/library/python:3"),
        (Base("flowsession-runtime:0.1"), RUNTIME),
    ],
    ids=["its tag has moved", "it is not the present default"],
)
def test_a_labelled_base_that_has_moved_asks_for_a_new_build(base, words):
    world = started()
    world.requests["checkVersion"] = AT
    world.answer(digest=ONE, same=True, base=base)
    assert world.newer == ("True", "BaseImageMoved")
    assert words in world.said
    assert "rebuild it" in world.said


@pytest.mark.parametrize("base", [Base("python:3", ONE, ONE), Base("python:3", ONE), Base(RUNTIME), None])
def test_a_base_that_has_not_moved_as_far_as_is_known(base):
    world = started()
    world.requests["checkVersion"] = AT
    world.answer(digest=ONE, same=True, base=base)
    assert world.newer == ("False", "UpToDate")


def test_a_check_every_so_often_goes_by_the_status():
    every = Settings(images=ImageSettings(allowed_registries=("reg.example.com",), check_every_seconds=3600))
    world = World(settings=every)
    world.answer(digest=ONE)
    assert world.decide().look_again_at == NOW + 3600
    world.now = NOW + 3600
    plan = world.answer(digest=TWO)
    assert plan.status is not None
    assert world.status["imageCheckedAt"] == stamp(NOW + 3600)
    assert "handledRequests" not in world.status


# -- updating


def test_an_update_asks_first_and_then_stays_on_the_new_digest():
    world = started()
    world.requests["update"] = AT
    plan = world.answer(digest=TWO)
    assert world.status["imageDigest"] == f"{NAME}@{TWO}"
    assert world.status["handledRequests"] == {"update": AT}
    assert world.newer == ("False", "UpToDate")
    assert [event.reason for event in plan.events] == ["ImageUpdated"]
    assert "pullAnew" not in world.status


@pytest.mark.parametrize("settings", [ASKABLE, Settings()], ids=["refused", "not to be asked"])
def test_an_update_without_the_registrys_word_has_the_nodes_pull_anew(settings):
    world = started(settings=settings)
    world.requests["update"] = AT
    if settings is ASKABLE:
        world.answer(reason="RegistryRefused", message="no")
    else:
        world.decide()
    assert (world.status.get("imageDigest"), world.status["pullAnew"]) == (None, True)
    found = images.choose(TEAM, "", images.image_in_use(world.status, world.requests), settings)
    assert (found.reference, found.pull_anew, found.update) == (TEAM, True, AT)
    world.facts["reported"] = f"{NAME}@{TWO}"
    world.decide()
    assert world.status["imageDigest"] == f"{NAME}@{TWO}"
    assert "pullAnew" not in world.status


def test_an_update_never_takes_an_image_away_that_no_registry_gave():
    world = started(digest="sha256:77", settings=Settings())
    world.requests["update"] = AT
    world.decide()
    assert world.status["imageDigest"] == "sha256:77"
    assert "pullAnew" not in world.status


def test_where_nodes_never_pull_an_update_pins_nothing():
    never = Settings(image_pull_policy="Never", images=ASKABLE.images)
    world = started(settings=never)
    world.requests["update"] = AT
    assert [event.reason for event in world.answer(digest=TWO).events] == ["ImageUpToDate"]
    assert images.choose(TEAM, "", images.image_in_use(world.status, world.requests), never).reference == TEAM
    assert "pullAnew" not in world.status


@pytest.mark.parametrize(
    ("digest", "answer", "told", "words"),
    [
        ("", {"reason": "RegistryUnreachable", "message": "no route"}, "ImageNotUpdated", "nothing has changed"),
        ("sha256:77", {"reason": "RegistryUnreachable", "message": "no route"}, "ImageNotUpdated", "nothing has changed"),
        (f"{NAME}@{ONE}", {"reason": "RegistryUnreachable", "message": "no route"}, "ImagePulledAnew", f"the nodes' own pull of {TEAM}"),
        (f"{NAME}@{ONE}", {"digest": ONE}, "ImageUpToDate", f"{TEAM} is still {ONE}"),
        (f"{NAME}@{ONE}", {"digest": TWO, "same": True}, "ImageUpToDate", f"{TEAM} is still {ONE}"),
        (f"{NAME}@{ONE}", {"digest": TWO}, "ImageUpdated", f"{NAME}@{TWO} from now on"),
        ("", {"digest": ONE}, "ImageUpdated", f"{NAME}@{ONE} from now on"),
    ],
)
def test_an_update_tells_what_has_changed_and_what_has_not(digest, answer, told, words):
    world = started(digest=digest)
    before = images.choose(TEAM, "", images.image_in_use(world.status, {}), ASKABLE)
    world.requests["update"] = AT
    (event,) = world.answer(**answer).events
    assert (event.reason, event.warning) == (told, "reason" in answer)
    assert words in event.message
    assert answer.get("message", "") in event.message
    after = images.choose(TEAM, "", images.image_in_use(world.status, world.requests), ASKABLE)
    changed = (before.reference, before.pull_anew) != (after.reference, after.pull_anew)
    assert changed == (told in ("ImageUpdated", "ImagePulledAnew"))


def test_an_update_of_an_image_named_by_its_digest_changes_nothing():
    world = started(f"{NAME}@{ONE}")
    world.requests["update"] = AT
    (event,) = world.decide().events
    assert event.reason == "ImageUpToDate"
    assert world.status["imageDigest"] == f"{NAME}@{ONE}"


def test_both_requests_are_met_by_one_question():
    world = started()
    world.requests |= {"update": AT, "checkVersion": AT}
    world.answer(digest=TWO)
    assert world.status["handledRequests"] == {"update": AT, "checkVersion": AT}


def test_an_answer_to_another_question_is_none():
    world = started()
    world.requests["checkVersion"] = AT
    world.facts["check"] = ImageCheck(Question(TEAM, "another", ONE), digest=TWO)
    plan = world.decide()
    assert plan.question is not None
    assert world.newer == ("Unknown", "NotChecked")


# -- without prompt flow


def codes(world: World) -> list[str]:
    return [warning["code"] for warning in world.status.get("warnings", ())]


def test_a_custom_image_without_prompt_flow_is_warned_of_until_it_is_another_one():
    world = started()
    assert codes(world) == []
    world.facts["promptflow"] = False
    world.decide()
    assert codes(world) == ["ImageWithoutPromptflow"]
    world.facts.pop("promptflow")
    assert world.decide().status is None
    world.facts["promptflow"] = True
    world.decide()
    assert codes(world) == []


def test_another_image_is_not_warned_of_before_it_was_seen():
    world = started()
    world.facts["promptflow"] = False
    world.decide()
    world.facts, world.image = {"reported": ""}, "reg.example.com/other:1"
    world.decide()
    assert codes(world) == []


def test_the_default_image_is_never_warned_of():
    world = World("")
    world.facts["promptflow"] = False
    world.decide()
    assert codes(world) == []


def test_what_stands_is_read_from_the_status():
    assert images.image_in_use({}, {}) == ImageInUse()
