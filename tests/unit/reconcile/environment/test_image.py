"""Which image a session starts from: references, allowed registries, what stays until an update, and what pods report and get."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsession.api.base import IMAGE_PATTERN
from flowsession.api.environment import ImageOrigin
from flowsession.images import reference as imageref
from flowsession.images.image import Image, ImageInUse
from flowsession.images.reference import refusal
from flowsession.model import pod_images as pods
from flowsession.model.plan import Deliver
from flowsession.model.resolved import Resolved, Unresolved
from flowsession.reconcile.environment import image as images
from flowsession.reconcile.environment import resolve
from flowsession.settings import ImageSettings, Settings
from unit.builders import (
    NOW,
    RUNTIME,
    agent,
    container,
    decide,
    from_folder,
    from_text,
    pending_pod,
    pod,
    resolved,
    session_snapshot,
    spec,
    status_after,
    verdict,
    waiting,
)

ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")
TEAM = "reg.example.com/team/flow:1"
PINNED = f"reg.example.com/team/flow@{ONE}"
ONLY_TEAM = Settings(images=ImageSettings(allowed_registries=("reg.example.com/team/*", "*.azurecr.io")))


def chosen(name: str = TEAM, *, settings: Settings | None = None, **in_use: str | bool) -> Image:
    return images.choose(name, "", ImageInUse(**in_use), settings or Settings())


# -- references


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("python", "docker.io", "library/python", "latest", ""),
        ("python:3.12-slim", "docker.io", "library/python", "3.12-slim", ""),
        ("index.docker.io/me/x", "docker.io", "me/x", "latest", ""),
        ("localhost/x:1", "localhost", "x", "1", ""),
        ("Reg.Example.com:5000/a/b_c.d:T", "reg.example.com:5000", "a/b_c.d", "T", ""),
        (f"reg.example.com/a:1@{ONE}", "reg.example.com", "a", "1", ONE),
        (f"127.0.0.1:5000/a@{ONE}", "127.0.0.1:5000", "a", "latest", ONE),
    ],
)
def test_a_reference_says_what_it_leaves_out(text, registry, repository, tag, digest):
    found = imageref.parse(text)
    assert found is not None
    assert (found.registry, found.repository, found.tag, found.digest) == (registry, repository, tag, digest)


@pytest.mark.parametrize(
    "text",
    ["", "UPPER/case", "a b", "reg.example.com/", "reg.example.com/../x", "x:tag:tag", "x@sha256:12", "http://x/y", "x/y@", "a//b", "x:"],
)
def test_what_is_no_reference(text):
    assert imageref.parse(text) is None


@pytest.mark.parametrize(
    ("image", "pattern", "fits"),
    [
        ("reg.example.com/team/x:1", "reg.example.com", True),
        ("reg.example.com/team/x:1", "reg.example.com/team/*", True),
        ("reg.example.com/teams/x:1", "reg.example.com/team/*", False),
        ("reg.example.com/team/x:1", "reg.example.com/team", False),
        ("one.azurecr.io/x", "*.azurecr.io", True),
        ("evil.example/one.azurecr.io/x", "*.azurecr.io", False),
        ("evil.example/one.azurecr.io/x", "*.azurecr.io/*", False),
        ("azurecr.io.evil.example/x", "*azurecr.io", False),
        ("reg.example.com:5000/x", "reg.example.com", False),
        ("python:3", "docker.io/library/*", True),
        ("me/x", "docker.io/library/*", False),
        ("REG.example.com/x", "reg.EXAMPLE.com", True),
    ],
)
def test_patterns(image, pattern, fits):
    reference = imageref.parse(image)
    assert reference is not None
    assert imageref.allowed(reference, [pattern]) is fits


# -- what is allowed


@pytest.mark.parametrize("image", ["python:3", "reg.example.com/other/x"])
def test_an_image_of_another_registry_is_refused_with_the_list(image):
    found = from_text(None, ONLY_TEAM, baseImage=image)
    assert isinstance(found, Unresolved)
    assert found.reason == "ImageNotAllowed"
    assert "reg.example.com/team/*, *.azurecr.io" in found.message
    assert "spec.baseImage" in found.message


@pytest.mark.parametrize("image", ["", RUNTIME, TEAM, "x.azurecr.io/y"])
def test_the_default_image_and_those_of_the_list_are_allowed(image):
    assert isinstance(from_text(None, ONLY_TEAM, baseImage=image), Resolved)


def test_without_a_list_every_image_is_allowed():
    assert isinstance(from_text(None, baseImage="anything.example.com/at/all:1"), Resolved)


@pytest.mark.parametrize("settings", [Settings(), ONLY_TEAM], ids=["no list", "a list"])
@pytest.mark.parametrize("image", ["Foo Bar:1", "Foo/bar", "python: 3", "http://x/y"])
def test_what_is_not_the_name_of_an_image_is_refused(image, settings):
    found = from_text(None, settings, baseImage=image)
    assert isinstance(found, Unresolved)
    assert found.reason == "InvalidImageName"
    assert f"spec.baseImage {image!r} is not the name of an image; write REGISTRY/PATH:TAG" in found.message
    folder = {"flow.dag.yaml": f'environment: {{image: "{image}"}}\nnodes: []\n'.encode()}
    found = from_folder(folder, settings)
    assert isinstance(found, Unresolved)
    assert (found.reason, "environment.image of flow.dag.yaml" in found.message) == ("InvalidImageName", True)


@given(st.from_regex(IMAGE_PATTERN) | st.text("aB0._-/:@[]", max_size=40) | st.sampled_from([TEAM, PINNED, "[::1]:5000/x", "a__b/c--d"]))
def test_the_api_server_refuses_no_image_that_the_operator_takes(image):
    if imageref.parse(image) is not None:
        assert re.search(IMAGE_PATTERN, image)


@pytest.mark.parametrize("image", ["Foo Bar:1", "a b", "UPPER:1", "x:tag:tag", "x@sha256:12", "http://x/y", " python", "python:3\n"])
def test_the_api_server_refuses_what_is_none(image):
    assert not re.fullmatch(IMAGE_PATTERN, image)


# -- what stays until an update


def test_a_digest_that_a_node_has_reported_is_what_further_sessions_start_from():
    image = chosen(image=TEAM, origin="Spec", digest=PINNED)
    assert (image.name, image.reference, image.digest) == (TEAM, PINNED, ONE)


@pytest.mark.parametrize(
    "digest", ["sha256:0123", f"mirror.example.com/team/flow@{ONE}", ""], ids=["no registry gave it", "another repository's", "none"]
)
def test_what_no_registry_would_know_pins_nothing(digest):
    assert chosen(image=TEAM, origin="Spec", digest=digest).reference == TEAM


def test_a_digest_is_of_one_image_even_where_only_the_tag_is_another():
    assert chosen("reg.example.com/team/flow:2", image=TEAM, origin="Spec", digest=PINNED).reference == "reg.example.com/team/flow:2"


def test_where_nodes_never_pull_the_tag_stays():
    assert chosen(settings=Settings(image_pull_policy="Never"), image=TEAM, origin="Spec", digest=PINNED).reference == TEAM


def test_an_environment_stays_on_the_default_that_it_has_resolved_to():
    image = chosen("", settings=Settings(runtime_image="runtime:2"), image="runtime:1", origin="Default")
    assert (image.name, image.origin) == ("runtime:1", ImageOrigin.DEFAULT)


def test_an_update_takes_the_present_default():
    image = chosen("", settings=Settings(runtime_image="runtime:2"), image="runtime:1", origin="Default", asked="2026-01-01T00:00:00Z")
    assert image.name == "runtime:2"


def test_an_image_that_is_no_longer_asked_for_gives_way_to_the_present_default():
    assert chosen("", settings=Settings(runtime_image="runtime:2"), image=TEAM, origin="Spec").name == "runtime:2"


def test_junk_is_no_update():
    status, at = {"baseImage": RUNTIME, "baseImageFrom": "Default"}, "2026-01-01T00:00:00Z"
    assert images.image_in_use(status, {"update": "now"}).asked == ""
    assert images.image_in_use({**status, "handledRequests": {"update": at}}, {"update": at}).asked == ""
    assert images.image_in_use(status, {"update": at}).asked == at


# -- what pods report


def image(name: str = TEAM, **fields: object) -> Image:
    return Image(name, ImageOrigin.SPEC, **fields)


def ran(image_id: str, *, name: str = TEAM, **fields: object):
    return pod(**{"image": name, "started_from": name, "container": container(image_id=image_id), **fields})


def reported(views, image, known):
    return pods.reported(filter(None, map(pods.report, views)), image, known)


def test_the_first_digest_that_a_node_reports_stays():
    assert reported([ran("sha256:77"), ran(PINNED)], image(), "") == PINNED
    assert reported([ran(f"reg.example.com/team/flow@{TWO}")], image(), PINNED) == PINNED
    assert reported([], image(), PINNED) == PINNED


def test_a_bare_id_is_shown_until_a_registrys_digest_is_known():
    assert reported([ran("sha256:77"), ran("sha256:88")], image(), "sha256:88") == "sha256:88"
    assert reported([ran("sha256:77")], image(), "sha256:88") == "sha256:77"
    assert reported([ran("sha256:77"), ran(PINNED)], image(), "sha256:77") == PINNED


def test_pods_of_another_image_or_from_before_the_update_say_nothing():
    earlier = [ran(PINNED, name="other:1"), ran(PINNED, image_update="then")]
    assert reported(earlier, image(update="now"), "") == ""
    assert reported([ran(PINNED, image_update="now")], image(update="now"), "") == PINNED


@pytest.mark.parametrize(
    ("found", "wanted", "changed"),
    [
        (ran(PINNED), image(), False),
        (ran(PINNED), image(pinned=PINNED), False),
        (ran(PINNED), image("other:1"), True),
        (ran(PINNED), image(pinned=f"reg.example.com/team/flow@{TWO}"), True),
        (ran("sha256:77"), image(pinned=PINNED), False),
        (ran("", started_from=PINNED), image(pinned=f"reg.example.com/team/flow@{TWO}"), True),
        (ran(PINNED), image(pull_anew=True, update="now"), True),
        (ran(PINNED, image_update="now"), image(pull_anew=True, update="now"), False),
    ],
)
def test_when_a_session_is_on_another_image(found, wanted, changed):
    assert pods.changed(found, wanted) is changed


# -- sessions


def environment_on(image: Image) -> Resolved:
    return replace(resolved(requirements=None, baseImage=image.name), image=image)


def manifest_of(image: Image):
    plan = decide(session_snapshot(environment=environment_on(image), known_config_maps={"flowsession-agent-abababababab": 0}), NOW)
    return next(create.manifest for create in plan.creates if create.manifest["kind"] == "Pod")


def test_a_pod_starts_from_the_digest_and_remembers_what_was_asked_for():
    found = manifest_of(image(pinned=PINNED, update="then"))
    (main,) = found["spec"]["containers"]
    assert (main["image"], main["imagePullPolicy"]) == (PINNED, "IfNotPresent")
    assert found["metadata"]["annotations"]["flowsession.dev/image"] == TEAM
    assert found["metadata"]["annotations"]["flowsession.dev/image-update"] == "then"


def test_after_an_update_without_a_digest_the_node_has_to_ask_the_registry():
    (main,) = manifest_of(image(pull_anew=True))["spec"]["containers"]
    assert (main["image"], main["imagePullPolicy"]) == (TEAM, "Always")


def test_a_session_on_an_earlier_digest_needs_a_reset():
    environment = environment_on(image(pinned=PINNED))
    running = {"agent": agent(environment=environment), "known_config_maps": {"flowsession-agent-abababababab": 0}}
    status = status_after(session_snapshot(ran(PINNED, started_from=PINNED), environment=environment, **running), NOW + 5)
    assert verdict(status, "InSync") == ("True", "InSync")
    before = session_snapshot(ran(PINNED, started_from=PINNED), environment=environment, status=status)
    newer = f"reg.example.com/team/flow@{TWO}"
    after = replace(before, environment=environment_on(image(pinned=newer)))
    assert verdict(status_after(after), "InSync") == ("False", "ImageChanged")
    said = next(c["message"] for c in status_after(after)["conditions"] if c["type"] == "InSync")
    assert newer in said
    assert not isinstance(decide(after).call, Deliver)


def test_a_session_that_can_not_pull_the_earlier_digest_starts_again_with_the_present_one():
    stuck = pending_pod(image=TEAM, started_from=PINNED, container=waiting("ErrImagePull", "manifest unknown"))
    plan = decide(session_snapshot(stuck, environment=environment_on(image(pinned=f"reg.example.com/team/flow@{TWO}"))))
    assert [deletion.name for deletion in plan.deletes] == [stuck.name]


def test_a_digest_that_the_registry_has_dropped_is_told_with_the_way_out():
    stuck = pending_pod(image=TEAM, started_from=PINNED, container=waiting("ErrImagePull", "manifest unknown"))
    status = status_after(session_snapshot(stuck, environment=environment_on(image(pinned=PINNED))))
    said = next(c["message"] for c in status["conditions"] if c["type"] == "Ready")
    assert PINNED in said
    assert "flowsession.dev/update-requested-at" in said


def test_an_earlier_default_that_is_gone_is_told_with_the_present_one():
    stuck = pending_pod(image="runtime:0", started_from="runtime:0", container=waiting("ErrImagePull", "not found"))
    status = status_after(session_snapshot(stuck, environment=environment_on(Image("runtime:0", ImageOrigin.DEFAULT))))
    said = next(c["message"] for c in status["conditions"] if c["type"] == "Ready")
    assert RUNTIME in said
    assert "flowsession.dev/update-requested-at" in said


def test_a_digest_of_ones_own_choice_is_no_matter_of_an_update():
    stuck = pending_pod(image=PINNED, started_from=PINNED, container=waiting("ErrImagePull", "not found"))
    status = status_after(session_snapshot(stuck, environment=environment_on(image(PINNED))))
    assert "update-requested-at" not in next(c["message"] for c in status["conditions"] if c["type"] == "Ready")


def test_an_own_image_changes_nothing_else_of_the_environment():
    environment = resolved(baseImage=TEAM)
    own = images.with_own(environment, "own:1")
    assert (own.base_image, own.requirements_text) == ("own:1", environment.requirements_text)
    assert own.packages_revision != environment.packages_revision
    assert images.with_own(environment, TEAM) is environment is images.with_own(environment, "")


def test_a_refused_own_image_is_the_sessions_own_affair():
    said = refusal("python:3", "spec.baseImage", ONLY_TEAM)
    assert said is not None
    refused = Unresolved(*said, own=True)
    status = status_after(session_snapshot(environment=refused))
    assert verdict(status, "EnvironmentResolved") == ("False", "ImageNotAllowed")
    said = next(c["message"] for c in status["conditions"] if c["type"] == "Ready")
    assert said.startswith("spec.baseImage python:3")


def test_what_stands_is_taken_into_account_when_an_environment_is_resolved():
    in_use = ImageInUse(image=TEAM, origin="Spec", digest=PINNED)
    found = resolve.resolve(spec(baseImage=TEAM), {}, Settings(), in_use=in_use)
    assert isinstance(found, Resolved)
    assert found.image.reference == PINNED
    assert found.packages_revision == resolved(requirements=None, baseImage=TEAM).packages_revision
