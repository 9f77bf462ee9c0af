"""An environment stays on its image and reports newer ones, with a real registry and a simulated node."""

from collections.abc import Iterator
from typing import Any

import pytest

from apiserver.agents import HttpAgent
from apiserver.api import Object, eventually
from apiserver.background import Background
from apiserver.lab import Lab
from apiserver.operator_process import RUNTIME_IMAGE, SETTINGS
from localcluster.registry import BASE, Registry

NEWER = "NewerImageAvailable"
ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")
PRIVATE = "reg.example.com/team/flow"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    found = Registry(tmp_path_factory.mktemp("registry"))
    yield found
    found.stop()


def start(lab: Lab, **settings: Any) -> None:
    lab.operator.kill()
    lab.operator.start(settings={**SETTINGS, **settings})


def environment(lab: Lab) -> Object:
    status: Object = lab.api.get(lab.path("flowenvironments", "env"))["status"]
    return status


def ask(lab: Lab, **requests: str) -> None:
    """Set the environment's request annotations."""
    annotations = {f"flowsession.dev/{what.replace('_', '-')}-requested-at": at for what, at in requests.items()}
    lab.api.patch(lab.path("flowenvironments", "env"), {"metadata": {"annotations": annotations}})


def reset(lab: Lab, name: str, at: str) -> None:
    lab.api.patch(lab.path("computesessions", name), {"metadata": {"annotations": {"flowsession.dev/reset-requested-at": at}}})


def until_newer(lab: Lab, reason: str) -> Object:
    return lab.until_condition(NEWER, reason, "env", plural="flowenvironments")


def until_digest(lab: Lab, digest: str) -> None:
    def so() -> bool:
        assert environment(lab).get("imageDigest") == digest, environment(lab)
        return True

    eventually(so)


def image_of(lab: Lab, session: str) -> tuple[str, str]:
    (main,) = lab.the_pod(session)["spec"]["containers"]
    return main["image"], main["imagePullPolicy"]


def test_sessions_start_from_the_digest_that_the_first_one_ran(started: Lab) -> None:
    started.kubelet.image_ids |= {f"{PRIVATE}:1": f"{PRIVATE}@{ONE}", f"{PRIVATE}@{ONE}": f"{PRIVATE}@{ONE}"}
    started.create_environment(baseImage=f"{PRIVATE}:1")
    started.create_session("ada")
    assert started.until_ready("ada")["status"]["imageDigest"] == f"{PRIVATE}@{ONE}"
    until_digest(started, f"{PRIVATE}@{ONE}")
    assert image_of(started, "ada") == (f"{PRIVATE}:1", "IfNotPresent")
    started.create_session("bob")
    started.until_ready("bob")
    assert image_of(started, "bob") == (f"{PRIVATE}@{ONE}", "IfNotPresent")
    for name in ("ada", "bob"):
        assert started.until_condition("InSync", "InSync", name)
        assert started.session(name)["status"]["baseImage"] == f"{PRIVATE}:1"


def test_an_image_without_a_digest_keeps_its_tag_and_costs_one_write(started: Lab) -> None:
    started.create_environment(baseImage="localhost/own:1")
    started.until_environment("Resolved")
    before = started.recorder.mark()
    started.create_session("ada")
    started.until_ready("ada")
    until_digest(started, "sha256:0123456789abcdef")
    started.create_session("bob")
    started.until_ready("bob")
    started.settle()
    assert image_of(started, "bob") == ("localhost/own:1", "IfNotPresent")
    assert started.lines(since=before).count("PATCH flowenvironments/status") <= 2
    ask(started, update="2026-01-01T00:00:00Z")
    until_newer(started, "RegistryNotAllowed")
    started.create_session("cy")
    started.until_ready("cy")
    assert image_of(started, "cy") == ("localhost/own:1", "IfNotPresent")


def test_an_update_without_a_registry_to_ask_has_the_nodes_ask_it(started: Lab) -> None:
    started.kubelet.image_ids[f"{PRIVATE}:1"] = f"{PRIVATE}@{ONE}"
    started.create_environment(baseImage=f"{PRIVATE}:1")
    started.create_session("ada")
    started.until_ready("ada")
    until_digest(started, f"{PRIVATE}@{ONE}")
    started.kubelet.image_ids[f"{PRIVATE}:1"] = f"{PRIVATE}@{TWO}"
    ask(started, update="2026-01-01T00:00:00Z")
    started.until_condition("InSync", "ImageChanged", "ada")
    assert "imageDigest" not in environment(started)
    reset(started, "ada", "2026-01-01T00:00:00Z")
    until_digest(started, f"{PRIVATE}@{TWO}")
    started.until_condition("InSync", "InSync", "ada")
    assert image_of(started, "ada") == (f"{PRIVATE}:1", "Always")
    assert "pullAnew" not in environment(started)


def test_an_update_that_can_not_ask_the_registry_and_changes_nothing_says_so(started: Lab) -> None:
    nowhere = "127.0.0.1:1"
    start(started, images={"allowedRegistries": [nowhere], "insecureRegistries": [nowhere]})
    started.create_environment(baseImage=f"{nowhere}/team/flow:1")
    started.until_environment("Resolved")
    ask(started, update="2026-01-01T00:00:00Z")
    said = started.until_event("ImageNotUpdated", "env")
    assert said["type"] == "Warning"
    assert "nothing has changed" in said["message"]
    assert nowhere in said["message"]
    assert started.events("env", reason="ImageUpdated") == []
    assert environment(started)["handledRequests"] == {"update": "2026-01-01T00:00:00Z"}


def test_a_tag_that_moves_is_told_then_taken_then_run(started: Lab, registry: Registry) -> None:
    name = f"{registry.host}/team/flow"
    first = registry.push("team/flow:1")
    started.kubelet.image_ids[f"{name}:1"] = f"{name}@{first}"
    start(started, images={"allowedRegistries": [registry.host], "insecureRegistries": [registry.host]})
    started.create_environment(baseImage=f"{name}:1")
    started.create_session("ada")
    started.until_ready("ada")
    until_digest(started, f"{name}@{first}")
    ask(started, check_version="2026-01-01T00:00:00Z")
    until_newer(started, "UpToDate")

    second = registry.push("team/flow:1")
    started.settle()
    assert started.condition(NEWER, "env", plural="flowenvironments")["reason"] == "UpToDate", "nobody has asked"
    ask(started, check_version="2026-01-02T00:00:00Z")
    said = until_newer(started, "TagMoved")
    assert (said["status"], environment(started)["latestImage"]) == ("True", f"{name}@{second}")
    assert first in said["message"] and second in said["message"]
    assert environment(started)["handledRequests"] == {"checkVersion": "2026-01-02T00:00:00Z"}
    assert started.condition("InSync")["reason"] == "InSync"

    ask(started, update="2026-01-02T00:00:00Z")
    until_digest(started, f"{name}@{second}")
    until_newer(started, "UpToDate")
    changed = started.until_condition("InSync", "ImageChanged")
    assert second in changed["message"]
    assert image_of(started, "ada") == (f"{name}:1", "IfNotPresent")
    reset(started, "ada", "2026-01-02T00:00:00Z")
    started.until_condition("InSync", "InSync")
    eventually(lambda: image_of(started, "ada") == (f"{name}@{second}", "IfNotPresent"))
    started.until_ready()


def test_a_base_that_moves_is_told(started: Lab, registry: Registry) -> None:
    base = registry.push("team/base:1")
    labels = {f"{BASE}.name": f"{registry.host}/team/base:1", f"{BASE}.digest": base}
    built = registry.push("team/built:1", labels=labels)
    start(started, images={"allowedRegistries": [registry.host], "insecureRegistries": [registry.host]})
    started.create_environment(baseImage=f"{registry.host}/team/built:1")
    ask(started, check_version="2026-01-01T00:00:00Z")
    until_newer(started, "NotStarted")
    newer = registry.push("team/base:1")
    ask(started, check_version="2026-01-02T00:00:00Z")
    said = until_newer(started, "BaseImageMoved")["message"]
    assert base in said and newer in said
    assert environment(started)["latestImage"].endswith(built)


def test_an_operator_that_dies_between_question_and_answer_asks_again(started: Lab, registry: Registry) -> None:
    registry.push("team/again:1")
    settings = {"allowedRegistries": [registry.host], "insecureRegistries": [registry.host]}
    start(started, images=settings)
    started.create_environment(baseImage=f"{registry.host}/team/again:1")
    started.until_environment("Resolved")
    started.operator.kill()
    ask(started, check_version="2026-01-01T00:00:00Z")
    start(started, images=settings)
    until_newer(started, "NotStarted")
    started.settle()
    before = started.recorder.mark()
    start(started, images=settings)
    started.settle(quiet=1.0)
    assert started.lines(since=before) == []


def test_an_environment_stays_on_the_default_of_its_day(started: Lab) -> None:
    started.create_environment()
    started.create_session("ada")
    started.until_ready("ada")
    started.settle()
    start(started, runtimeImage="localhost/runtime:next")
    said = until_newer(started, "NewerDefault")
    assert (said["status"], environment(started)["latestImage"]) == ("True", "localhost/runtime:next")
    started.create_session("bob")
    started.until_ready("bob")
    assert image_of(started, "bob")[0] == RUNTIME_IMAGE
    assert started.condition("InSync", "ada")["reason"] == "InSync"
    ask(started, update="2026-01-01T00:00:00Z")
    until_newer(started, "IsDefault")
    assert environment(started)["baseImage"] == "localhost/runtime:next"
    started.until_condition("InSync", "ImageChanged", "ada")
    reset(started, "ada", "2026-01-01T00:00:00Z")
    started.until_condition("InSync", "InSync", "ada")
    eventually(lambda: image_of(started, "ada")[0] == "localhost/runtime:next")


def test_images_of_other_registries_are_refused_with_the_list(started: Lab) -> None:
    start(started, images={"allowedRegistries": ["reg.example.com/team/*"]})
    started.create_environment(baseImage="docker.io/library/python:3")
    started.until_environment("ImageNotAllowed", says="reg.example.com/team/*")
    started.create_session("ada")
    started.until_condition("EnvironmentResolved", "ImageNotAllowed", "ada", says="docker.io/library/python:3")
    started.api.patch(started.path("flowenvironments", "env"), {"spec": {"baseImage": ""}})
    started.until_ready("ada")
    started.create_session("bob", baseImage="python:3")
    started.until_condition("EnvironmentResolved", "ImageNotAllowed", "bob", says="spec.baseImage python:3")
    assert started.pods(session="bob") == []
    started.change_session("bob", baseImage=f"{PRIVATE}:1")
    started.until_ready("bob")
    assert image_of(started, "bob")[0] == f"{PRIVATE}:1"
    started.change_session("bob", baseImage="")
    started.until_condition("InSync", "ImageChanged", "bob")


def test_an_image_without_prompt_flow_is_warned_of(started: Lab, background: Background) -> None:
    started.kubelet.make_agent = lambda: HttpAgent(background=background, packages=[{"name": "pip", "version": "24.0", "layer": "image"}])
    started.create_environment(baseImage="localhost/python:3")
    started.create_session("ada")
    assert started.until_ready("ada")["status"]["packages"]["promptflow"] == ""

    def warned() -> bool:
        return [w["code"] for w in environment(started).get("warnings", ())] == ["ImageWithoutPromptflow"]

    eventually(warned, what="the environment warns of it")
    started.settle()
    started.operator.restart()
    started.settle(quiet=0.5)
    assert warned()


def test_prompt_flow_in_the_image_is_told_by_its_version(started: Lab) -> None:
    started.create_environment(baseImage="localhost/own:1")
    started.create_session("ada")
    assert started.until_ready("ada")["status"]["packages"]["promptflow"] == "1.18.5"
    started.settle()
    assert "warnings" not in environment(started)
