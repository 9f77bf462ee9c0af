"""`installer.credentialsSecretName` with a real API server, agent and index: who reads the Secret, when, and what is reported."""

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.feeds import Index, closing, wheel
from apiserver.agents import RealAgent
from apiserver.background import Background
from apiserver.lab import Lab
from apiserver.recorder import Recorder
from flowsession.model import times

LABEL = "flowsession.dev/feed"


@pytest.fixture
def token() -> str:
    return secrets.token_urlsafe(40)


@pytest.fixture
def index(tmp_path: Path, token: str) -> Iterator[Index]:
    index = Index(tmp_path / "index", token)
    wheel(index.packages, "inner_tool", value="inner")
    with closing(index):
        yield index


@pytest.fixture
def real(started: Lab, background: Background, tmp_path: Path) -> Callable[[], RealAgent]:
    """Run the real agent in all future pods. The result makes another one."""

    def make() -> RealAgent:
        made.append(RealAgent(background, tmp_path / str(len(made))))
        return made[-1]

    made: list[RealAgent] = []
    started.kubelet.make_agent = make
    return make


def create_secret(lab: Lab, token: str, *, key: str = "token", labelled: bool = True, hosts: str | None = "127.0.0.1") -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "team-feed", "labels": {LABEL: "true"} if labelled else {}},
        "stringData": {key: token, **({} if hosts is None else {"hosts": hosts})},
    }
    lab.api.post(lab.path("secrets"), body)


def create_environment(lab: Lab, index: Index) -> None:
    lab.create_environment(requirementsText=f"-i {index.url()}\ninner-tool\n", installer={"credentialsSecretName": "team-feed"})


def install_again(lab: Lab) -> None:
    annotations = {"flowsession.dev/install-requested-at": times.stamp(time.time())}
    lab.api.patch(lab.path("computesessions", "ada"), {"metadata": {"annotations": annotations}})


def readings(lab: Lab) -> list[str]:
    """Return the operator's requests for the namespace's Secrets."""
    return [str(request) for request in lab.recorder.requests(lab.namespace) if request.kind == "secrets"]


def all_that_can_be_read(lab: Lab) -> str:
    """Return every object of the namespace except Secrets, and the operator's log."""
    plurals = ("computesessions", "flowenvironments", "pods", "configmaps", "events")
    return json.dumps([lab.api.get(lab.path(plural)) for plural in plurals]) + json.dumps(lab.operator.lines())


def holds(text: str, token: str) -> bool:
    return token in text or base64.b64encode(token.encode()).decode() in text


def test_the_secrets_token_gets_to_the_feed_and_nowhere_else(started: Lab, real: Any, index: Index, token: str) -> None:
    create_secret(started, f"{token}\n")
    create_environment(started, index)
    started.create_session()
    started.until_ready(seconds=30)
    assert index.front.logins == {f"flowsession:{token}"}
    assert started.condition("PackagesInstalled")["reason"] == "Installed"
    assert set(readings(started)) == {f"GET secrets {started.namespace}/team-feed -> 200"}, "by its name, and no others"
    before = readings(started)
    started.change_session(idle={"timeoutSeconds": 7200})
    started.settle()
    assert readings(started) == before, "not without an install"
    assert not holds(all_that_can_be_read(started), token)
    assert "team-feed" in all_that_can_be_read(started)


def test_a_session_without_such_a_setting_reads_none(started: Lab) -> None:
    started.create_environment(requirementsText="pandas\n")
    started.create_session()
    started.until_ready()
    assert readings(started) == []
    assert "feed" not in started.agent().order["installer"]


@pytest.mark.parametrize(
    ("make", "correct", "says"),
    [
        (
            lambda lab, token: None,
            create_secret,
            "Secret 'team-feed' of spec.installer.credentialsSecretName does not exist",
        ),
        (
            lambda lab, token: create_secret(lab, token, labelled=False),
            lambda lab, token: lab.api.patch(lab.path("secrets", "team-feed"), {"metadata": {"labels": {LABEL: "true"}}}),
            "Secret 'team-feed' is not labelled flowsession.dev/feed=true",
        ),
        (
            lambda lab, token: create_secret(lab, token, key="password"),
            lambda lab, token: lab.api.patch(lab.path("secrets", "team-feed"), {"stringData": {"token": token}}),
            "Secret 'team-feed' has no key token",
        ),
    ],
    ids=["missing", "not labelled", "without the key"],
)
def test_a_secret_that_can_not_be_used_is_named_and_seen_when_it_is_corrected(
    started: Lab, real: Any, index: Index, token: str, make: Any, correct: Any, says: str
) -> None:
    make(started, token)
    create_environment(started, index)
    started.create_session()
    found = started.until_condition("PackagesInstalled", "FeedCredentialsMissing", says=says, seconds=30)
    assert found["message"].endswith("Then try again by the annotation flowsession.dev/install-requested-at")
    assert started.session()["status"]["phase"] == "Failed"
    assert index.front.requests == []
    assert started.until_event("FeedCredentialsMissing")["message"] in found["message"] + started.condition("Ready")["message"]
    correct(started, token)
    install_again(started)
    started.until_ready(seconds=30)
    assert not holds(all_that_can_be_read(started), token)


def test_a_changed_secret_is_seen_at_the_next_install(started: Lab, real: Any, index: Index, token: str) -> None:
    create_secret(started, "out-of-date-token")
    create_environment(started, index)
    started.create_session()
    says = f"Feed {index.origin}/simple/inner-tool/ answered 403: the token of Secret 'team-feed' is refused"
    started.until_condition("PackagesInstalled", "FeedRefused", says=says, seconds=30)
    started.api.patch(started.path("secrets", "team-feed"), {"stringData": {"token": token}})
    install_again(started)
    started.until_ready(seconds=30)
    for secret in (token, "out-of-date-token"):
        assert not holds(all_that_can_be_read(started), secret)


def test_an_operator_that_may_not_read_it_says_so(started: Lab, real: Any, index: Index) -> None:
    forbidden = Recorder.answer(403, "Forbidden", 'secrets "team-feed" is forbidden')
    started.recorder.inject(lambda request: request.kind == "secrets" and request.name == "team-feed", forbidden, times=100)
    create_environment(started, index)
    started.create_session()
    started.until_condition("PackagesInstalled", "FeedCredentialsMissing", says="the operator may not read Secret 'team-feed'", seconds=30)
    assert "installer.readFeedSecrets" in started.condition("PackagesInstalled")["message"]


def test_a_reading_that_fails_is_tried_again(started: Lab, real: Any, index: Index, token: str) -> None:
    create_secret(started, token)
    broken = Recorder.answer(500, "InternalError", "injected")
    fault = started.recorder.inject(lambda request: request.kind == "secrets" and request.name == "team-feed", broken)
    create_environment(started, index)
    started.create_session()
    started.until_ready(seconds=30)
    assert fault.done.is_set()


def test_an_operator_killed_during_the_install(started: Lab, real: Any, index: Index, token: str) -> None:
    create_secret(started, token)
    create_environment(started, index)
    index.front.open.clear()
    started.create_session()
    started.until_condition("PackagesInstalled", "Installing", seconds=30)
    started.operator.kill()
    index.front.open.set()
    started.operator.start()
    started.until_ready(seconds=30)
    assert not holds(all_that_can_be_read(started), token)


def test_an_agent_killed_during_the_install(started: Lab, real: Any, index: Index, token: str) -> None:
    """The new agent has no token, and the operator sends it again."""
    create_secret(started, token)
    create_environment(started, index)
    index.front.open.clear()
    started.create_session()
    started.until_condition("PackagesInstalled", "Installing", seconds=30)
    started.kubelet.restart_container(started.the_pod(), real())
    index.front.open.set()
    started.until_ready(seconds=30)
    assert index.front.logins == {f"flowsession:{token}"}
    assert len(readings(started)) >= 2


# -- attacks on the token


@pytest.fixture
def stranger(tmp_path: Path, token: str) -> Iterator[Index]:
    """Run the server of a stranger who may write the requirements but not read the Secret."""
    stranger = Index(tmp_path / "stranger", token)
    wheel(stranger.packages, "inner_tool", "99.0", value="stranger")
    with closing(stranger):
        yield stranger


@pytest.mark.parametrize("named", [True, False])
def test_a_server_that_the_requirements_name_gets_no_token(
    started: Lab, real: Any, index: Index, stranger: Index, token: str, named: bool
) -> None:
    create_secret(started, token, hosts=f"pypi.corp.example, {index.place}\n" if named else None)
    started.create_config_map(flow__dag__yaml="nodes: []\n", requirements__txt="inner-tool\n")
    installer = {"credentialsSecretName": "team-feed", "indexURL": index.url()}
    started.create_environment(source={"configMap": {"name": "flow"}}, installer=installer)
    started.create_session()
    started.until_ready(seconds=30)
    assert index.front.logins == {f"flowsession:{token}"}
    started.change_config_map(requirements__txt=f"--extra-index-url {stranger.url()}\ninner-tool\n")
    says = f"feed {stranger.origin} is not among them"
    started.until_condition("PackagesInstalled", "FeedCredentialsMissing", says=says, seconds=30)
    assert stranger.front.requests == []
    assert not holds(all_that_can_be_read(started), token)


@pytest.mark.parametrize("hosts", ["https://pypi.corp.example/simple", "pypi.corp.example ?"])
def test_hosts_that_are_none(started: Lab, real: Any, index: Index, token: str, hosts: str) -> None:
    create_secret(started, token, hosts=hosts)
    create_environment(started, index)
    started.create_session()
    says = "under its key hosts: write names of hosts there, such as pypi.example.com"
    started.until_condition("PackagesInstalled", "FeedCredentialsMissing", says=says, seconds=30)
    assert index.front.requests == []


@pytest.mark.parametrize(
    ("environment", "session", "says"),
    [
        ({}, {"baseImage": "mallory/flow:1"}, "with an image of its user's choice"),
        ({}, {"env": [{"name": "SSL_CERT_FILE", "value": "/tmp/own.pem"}]}, "whose spec.env sets SSL_CERT_FILE"),
        ({"image": "mallory/flow:1"}, {}, "image mallory/flow:1 is named by flow.dag.yaml alone"),
    ],
    ids=["own image", "own certificates", "the flow's image"],
)
def test_a_session_whose_user_decides_what_handles_the_token_does_not_get_it(
    started: Lab, token: str, environment: Any, session: Any, says: str
) -> None:
    create_secret(started, token)
    started.create_config_map(flow__dag__yaml=json.dumps({"nodes": [], "environment": environment}), requirements__txt="inner-tool\n")
    started.create_environment(source={"configMap": {"name": "flow"}}, installer={"credentialsSecretName": "team-feed"})
    started.create_session(**session)
    started.until_ready()
    feed = started.agent().order["installer"]["feed"]
    assert feed["token"] == "" and says in feed["problem"]
    assert readings(started) == []
    assert not any(token in str(call.body) for call in started.agent().calls)
