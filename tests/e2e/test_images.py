"""Images on real nodes: refused ones, the digest that sessions stay on, and the move to a newer one."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from demo.deploy import deploy
from demo.kubectl import Object
from localcluster import buildah
from localcluster.registry import Registry

from .conftest import Cluster, environment, session

FIRST, SECOND = "team/python:first", "team/python:second"
TAG = "team/python:1"


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@pytest.fixture(scope="module")
def registry(deployed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Run a registry on this machine's loopback address. Nodes that share its network pull from there over plain HTTP, but pods,
    including the operator's, can't reach it. The operator allows it and this machine's own images, and no others."""
    if "BASE" not in deployed.target.build_args:
        pytest.skip("this cluster's nodes do not share the machine's loopback address")
    found = Registry(tmp_path_factory.mktemp("registry"))
    base = deployed.target.build_args["BASE"]
    for name in (FIRST, SECOND):
        buildah.push(base, f"{found.host}/{name}", label=f"test={name}")
    deploy(deployed.target, {"images": {"allowedRegistries": [found.host, "localhost"]}})
    yield found
    found.stop()
    deploy(deployed.target)


@pytest.fixture
def image(registry: Registry) -> str:
    """Return an image whose tag means the first of two images."""
    registry.tag(FIRST, TAG)
    return f"{registry.host}/{TAG}"


def fenv(cluster: Cluster, name: str = "plain") -> Object:
    return (cluster.get("flowenvironment", name) or {}).get("status", {})


def until_environment(cluster: Cluster, kind: str, reason: str, name: str = "plain") -> Object:
    def check() -> Object | None:
        found = cluster.condition(name, kind, "flowenvironment")
        return found if found.get("reason") == reason else None

    return cluster.until(f"{kind} {reason} of environment {name}", check)


def ask(cluster: Cluster, kind: str, name: str, what: str) -> None:
    cluster.kubectl("annotate", kind, name, "--overwrite", f"flowsession.dev/{what}-requested-at={now()}")


def image_of(cluster: Cluster, name: str) -> str:
    pod = cluster.get("pod", cluster.status(name)["podName"]) or {}
    return str(pod["spec"]["containers"][0]["image"])


@pytest.mark.whole_cluster
def test_a_pulled_image_is_pinned_by_its_digest_until_an_update_and_a_reset(cluster: Cluster, registry: Registry, image: str) -> None:
    first, second, repository = registry.digest(FIRST), registry.digest(SECOND), image.rpartition(":")[0]
    assert first != second
    cluster.apply(environment(baseImage=image), session("ada", user="ada@example.com"))
    cluster.until_ready("ada")
    cluster.until("the digest is known", lambda: fenv(cluster).get("imageDigest") == f"{repository}@{first}")
    assert cluster.status("ada")["imageDigest"] == f"{repository}@{first}"

    registry.tag(SECOND, TAG)
    cluster.apply(session("bob", user="bob@example.com"))
    cluster.until_ready("bob")
    assert image_of(cluster, "bob") == f"{repository}@{first}", "the tag has moved, and the environment has not"
    assert cluster.status("bob")["imageDigest"] == f"{repository}@{first}"

    ask(cluster, "fenv", "plain", "update")
    cluster.until_condition("bob", "InSync", status="False", reason="ImageChanged")
    ask(cluster, "csess", "bob", "reset")
    cluster.until("the environment is on the new digest", lambda: fenv(cluster).get("imageDigest") == f"{repository}@{second}")
    cluster.until_condition("bob", "InSync", status="True")
    cluster.until_ready("bob")
    assert cluster.status("bob")["imageDigest"] == f"{repository}@{second}"
    cluster.until_condition("ada", "InSync", status="False", reason="ImageChanged")


@pytest.mark.whole_cluster
def test_the_operator_says_when_it_can_not_ask_the_registry(cluster: Cluster, image: str) -> None:
    cluster.apply(environment(baseImage=image))
    until_environment(cluster, "NewerImageAvailable", "NotChecked")
    ask(cluster, "fenv", "plain", "check-version")
    said = until_environment(cluster, "NewerImageAvailable", "RegistryUnreachable")
    assert said["status"] == "Unknown"
    assert image.partition("/")[0] in said["message"]
    assert fenv(cluster)["handledRequests"]["checkVersion"]


@pytest.mark.whole_cluster
def test_images_of_other_registries_are_refused_with_the_list(cluster: Cluster, registry: Registry) -> None:
    cluster.apply(environment(baseImage="docker.io/library/python:3.12"), session())
    said = until_environment(cluster, "Ready", "ImageNotAllowed")["message"]
    assert registry.host in said and "docker.io/library/python:3.12" in said
    cluster.until_condition("s", "EnvironmentResolved", status="False", reason="ImageNotAllowed")
    cluster.patch("flowenvironment", "plain", {"spec": {"baseImage": ""}})
    cluster.until_ready("s")
    cluster.apply(session("own", user="bob@example.com", baseImage="quay.io/x/y:1"))
    cluster.until_condition("own", "EnvironmentResolved", status="False", reason="ImageNotAllowed")


@pytest.mark.whole_cluster
def test_an_image_that_was_put_on_the_nodes_keeps_working_whatever_is_asked(
    cluster: Cluster, registry: Registry, python_image: str
) -> None:
    cluster.apply(environment(baseImage=python_image), session("ada", user="ada@example.com"))
    shown = cluster.until_ready("ada")["imageDigest"]
    assert shown.startswith("sha256:")
    cluster.until("its id is shown", lambda: fenv(cluster).get("imageDigest") == shown)
    ask(cluster, "fenv", "plain", "update")
    cluster.until("the update is answered", lambda: fenv(cluster).get("handledRequests", {}).get("update"))
    cluster.apply(session("bob", user="bob@example.com"))
    cluster.until_ready("bob")
    assert image_of(cluster, "bob") == python_image


def test_an_image_without_prompt_flow_is_warned_of(cluster: Cluster, python_image: str) -> None:
    cluster.apply(environment(baseImage=python_image), session())
    cluster.until_ready("s")
    warnings = cluster.until("the environment warns", lambda: fenv(cluster).get("warnings"))
    assert [warning["code"] for warning in warnings] == ["ImageWithoutPromptflow"]
    assert python_image in warnings[0]["message"]


def test_the_default_image_has_prompt_flow_and_a_session_may_have_an_image_of_its_own(cluster: Cluster, python_image: str) -> None:
    cluster.apply(environment(), session("ada", user="ada@example.com"), session("bob", user="bob@example.com", baseImage=python_image))
    cluster.until_ready("ada")
    cluster.until_ready("bob")
    listed = cluster.until("ada's packages are listed", lambda: cluster.status("ada").get("packages"))
    assert listed["promptflow"]
    assert cluster.status("bob")["baseImage"] == python_image
    told = cluster.until_event("bob", "ImageWithoutPromptflow")
    assert python_image in told[0]["message"]
    assert "warnings" not in fenv(cluster)
    assert fenv(cluster)["baseImageFrom"] == "Default"
