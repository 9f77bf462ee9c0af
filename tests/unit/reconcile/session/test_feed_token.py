"""Which sessions get the token of their environment's feed."""

from dataclasses import replace
from typing import Any

import pytest

from flowsession.manifests.session_pod import settings_of
from flowsession.model.plan import Deliver
from flowsession.model.resolved import Resolved
from flowsession.settings import ImageSettings, Settings
from unit.builders import decide, from_folder, from_text, pod, session_snapshot, session_spec

SECRET = {"credentialsSecretName": "team-feed"}
LISTED = Settings(images=ImageSettings(allowed_registries=("team.azurecr.io",)))


def told(environment: Any = None, settings: Settings | None = None, *, created_with: Any = None, **spec: Any) -> Deliver:
    """The delivery to the agent of a fresh pod."""
    environment = environment or from_text("x", installer=SECRET)
    assert isinstance(environment, Resolved), environment
    wanted = session_spec(**spec)
    running = pod(image=environment.image.name, settings=settings_of(created_with or wanted))
    snapshot = session_snapshot(running, environment=environment, spec=wanted, settings=settings or Settings(), saved_known=True)
    call = decide(snapshot).call
    assert isinstance(call, Deliver)
    return call


def variable(name: str) -> Any:
    return [{"name": name, "value": "x"}]


def test_a_session_of_the_environments_image_gets_it():
    for environment in (None, from_text("x", installer=SECRET, baseImage="team/flow:1")):
        call = told(environment, env=variable("PYTHONUNBUFFERED"))
        assert (call.feed_secret, call.feed_problem) == ("team-feed", "")


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONINSPECT", "PATH", "SSL_CERT_FILE", "OPENSSL_CONF", "BASH_ENV"]
)
def test_not_beside_variables_that_take_programs_over(name):
    """The API server now refuses some of these variables, but older sessions still have them."""
    assert f"sets {name}" in told(env=variable(name)).feed_problem


def test_not_in_a_pod_that_was_created_with_such_a_variable():
    assert "other variables than its spec says now" in told(created_with=session_spec(env=variable("LD_PRELOAD"))).feed_problem


def test_not_in_an_image_that_others_have_chosen():
    folder = {"flow.dag.yaml": b"environment: {image: 'team.azurecr.io/flow:1'}\nnodes: []\n", "requirements.txt": b"x\n"}
    flows = from_folder(folder, installer=SECRET)
    assert "named by flow.dag.yaml alone" in told(flows).feed_problem
    assert told(flows, LISTED).feed_problem == "", "the platform team vouches for its registries"
    assert told(from_folder(folder, installer=SECRET, baseImage="team.azurecr.io/flow:1")).feed_problem == ""


def test_nothing_is_said_where_no_secret_is_named():
    assert told(from_text("x"), env=variable("LD_PRELOAD")).feed_problem == ""


def test_not_in_a_pod_of_another_image():
    environment = from_text("x", installer=SECRET)
    assert isinstance(environment, Resolved)
    snapshot = session_snapshot(pod(image="mallory/flow:1"), environment=environment)
    call = decide(replace(snapshot, saved_known=True)).call
    assert isinstance(call, Deliver) and "another image" in call.feed_problem
