"""Index URLs that need a login: what an environment says about them, what the agent gets, and which Secret is read for it."""

import base64
from typing import Any, cast

import pytest

from flowsession.cluster import errors
from flowsession.cluster.agent import feeds
from flowsession.cluster.agent.client import AgentClient
from flowsession.cluster.agent.feeds import FeedCredentials
from flowsession.cluster.agent.transport import Request
from flowsession.cluster.gateway import KubernetesCluster
from flowsession.cluster.tokens import Signer
from flowsession.model.plan import Deliver, Probe
from flowsession.model.resolved import Resolved, Unresolved
from flowsession.reconcile.requests import REQUESTS
from flowsession.requirements.review import review
from flowsession.settings import InstallerDefaults, Settings
from unit.builders import NAMESPACE, agent, condition, from_folder, from_text, installing, pod, session_snapshot, status_after, verdict

DEVOPS = "https://{private}@pkgs.dev.azure.com/org/_packaging/feed/pypi/simple/"
OWN = "https://{private}@pypi.corp/simple/"
SECRET = {"credentialsSecretName": "team-feed"}


def warned(text: str, **installer: Any) -> dict[str, str]:
    """Return the code and message of each warning."""
    found = from_text(text, installer=installer)
    assert isinstance(found, Resolved), found
    return {warning.code: warning.message for warning in found.warnings}


@pytest.mark.parametrize("option", ["-i ", "--index-url ", "--extra-index-url=", "--find-links "])
def test_azure_devops_works_by_an_identity_or_by_a_secret(option):
    (message,) = warned(f"{option}{DEVOPS}\nmy-tools\n").values()
    assert message.startswith("https://pkgs.dev.azure.com asks for a token: sessions that have no identity with workload identity need")
    assert "flowsession.dev/feed=true" in message and "spec.installer.credentialsSecretName" in message
    assert warned(f"{option}{DEVOPS}\nmy-tools\n", **SECRET) == {}


def test_any_other_feed_works_by_a_secret_only():
    assert "identities have a token for pkgs.dev.azure.com, *.pkgs.visualstudio.com only" in warned(f"-i {OWN}\nx\n")["PrivateFeed"]
    assert warned(f"-i {OWN}\nx\n", **SECRET) == {}


@pytest.mark.parametrize("installer", [{"indexURL": OWN}, {"extraIndexURLs": ["https://pypi.corp/simple", OWN]}])
def test_the_settings_are_judged_too(installer):
    assert list(warned("x\n", **installer)) == ["PrivateFeed"]
    assert warned("", **installer) == {}, "nothing is installed"


def test_the_platform_teams_own_index():
    settings = Settings(installer=InstallerDefaults(index_url=OWN, identity_feed_hosts=("pypi.corp",)))
    (warning,) = from_text("x\n", settings).warnings
    assert (warning.file, warning.code) == ("installer.indexURL", "PrivateFeed")
    assert "sessions that have no identity" in warning.message


def test_a_line_is_named_with_its_file():
    files = {"flow.dag.yaml": b"nodes: []\n", "requirements.txt": b"-r deps/more.txt\n", "deps/more.txt": f"x\n-i {OWN}\n".encode()}
    (warning,) = from_folder(files).warnings
    assert (warning.file, warning.line, warning.code) == ("deps/more.txt", 2, "PrivateFeed")


def test_each_thing_is_said_once():
    assert len(from_text(f"-i {OWN}\n--extra-index-url {OWN}other/\nx\n").warnings) == 1


def test_a_token_in_the_clear():
    assert "use https" in warned("-i http://{private}@pypi.corp/simple\nx\n", **SECRET)["PlainFeed"]


def test_a_password_in_the_text_is_not_repeated():
    found = warned("-i https://me:hunter2@pypi.corp/simple\nx\n")
    assert list(found) == ["LoginInURL"]
    assert "hunter2" not in found["LoginInURL"] and "{private}" in found["LoginInURL"]
    assert warned("-i https://${FEED_LOGIN}@pypi.corp/simple\nx\n") == {}, "a variable is no password"


@pytest.mark.parametrize(
    "line", ["my-tools @ https://{private}@pypi.corp/my_tools-1.0-py3-none-any.whl", "git+https://{private}@dev.azure.com/x"]
)
def test_a_link_takes_no_token(line):
    found = from_text(f"{line}\n")
    assert isinstance(found, Unresolved)
    assert found.reason == "RequirementsRejected"
    assert "{private} stands in index URLs only" in found.message


LONG = "https://me:" + "hunter2" * 20 + "@pypi.corp/x.whl"


@pytest.mark.parametrize(
    "line",
    [f"./a {LONG}", f"--proxy {LONG}", f"x @ {LONG} @", f"two words {LONG}", "https://me:hunter2@2@pypi.corp/x.whl --user"],
)
def test_no_finding_repeats_a_password(line):
    """This holds for any length, and with an @ in the password."""
    found = review(f"{line}\nok --hash=sha256:00\n")
    assert found.errors
    assert "hunter2" not in f"{found.errors}{found.warnings}" and "2@pypi" not in f"{found.errors}{found.warnings}"


def test_another_secret_is_another_install():
    revisions = {from_text("x\n", installer=installer).packages_revision for installer in ({}, SECRET, {"credentialsSecretName": "other"})}
    assert len(revisions) == 3


def test_where_nothing_is_installed_no_secret_is_read():
    assert (from_text("x\n", installer=SECRET).feed_secret, from_text("", installer=SECRET).feed_secret) == ("team-feed", "")


# -- what the agent gets


class Wire:
    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def send(self, view: Any, request: Request, headers: dict[str, str]) -> tuple[int, bytes]:
        self.requests.append(request)
        return 200, b'{"podUID": "pod-1", "version": 1, "environment": {"packagesRevision": "p"}}'


class Signs:
    def token(self, pod_uid: str, *, clock_offset: float = 0.0) -> str:
        return "signed"


async def test_the_token_travels_with_the_environment_and_stands_in_no_repr():
    wire, found = Wire(), from_text(f"-i {OWN}\nx\n", installer=SECRET)
    credentials = FeedCredentials("Secret 'team-feed'", "hunter2")
    await AgentClient(wire, cast(Signer, Signs())).call(pod(), Deliver(found.wire, feed_secret="team-feed"), credentials)
    body = wire.requests[0].body
    assert body["installer"] == {**found.wire["installer"], "feed": {"token": "hunter2", "from": "Secret 'team-feed'", "problem": ""}}
    assert body["installer"]["identityFeedHosts"] == ["pkgs.dev.azure.com", "*.pkgs.visualstudio.com"]
    assert "feed" not in found.wire["installer"], "what is kept has none"
    assert "hunter2" not in f"{wire.requests}{credentials}"
    await AgentClient(wire, cast(Signer, Signs())).call(pod(), Probe())
    assert wire.requests[1].body is None


# -- the Secret


def secret(data: dict[str, bytes] | None = None, labels: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "metadata": {"name": "team-feed", "labels": {"flowsession.dev/feed": "true"} if labels is None else labels},
        "data": {key: base64.b64encode(value).decode() for key, value in ({"token": b"hunter2\n"} if data is None else data).items()},
    }


async def read(answer: Any) -> FeedCredentials:
    class Cluster:
        async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
            assert (kind, namespace, name) == ("Secret", NAMESPACE, "team-feed")
            if isinstance(answer, Exception):
                raise answer
            return answer

    return await feeds.read(cast(KubernetesCluster, Cluster()), NAMESPACE, "team-feed")


async def test_the_token_without_the_line_end_that_a_file_brings():
    assert await read(secret()) == FeedCredentials("Secret 'team-feed'", "hunter2")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (errors.NotFound("x"), ["does not exist", "kubectl create secret generic team-feed", "flowsession.dev/feed=true"]),
        (errors.Rejected("secrets is forbidden"), ["may not read", "secrets is forbidden", "installer.readFeedSecrets"]),
        (secret(labels={}), ["not labelled", "kubectl label secret team-feed flowsession.dev/feed=true"]),
        (secret(labels={"flowsession.dev/feed": "false"}), ["not labelled"]),
        (secret({"password": b"hunter2"}), ["no key token"]),
        (secret({}), ["no key token"]),
        (secret({"token": b" \n"}), ["something else"]),
        (secret({"token": b"hunter2\nhunter2"}), ["something else"]),
        (secret({"token": b"\xff\xfe"}), ["something else"]),
        (secret({"token": b"hunter2" * 10_000}), ["something else"]),
    ],
)
async def test_a_secret_that_is_of_no_use_is_named_with_the_way_out(answer, words):
    found = await read(answer)
    assert found.token == ""
    assert [word for word in ["Secret 'team-feed'", *words] if word not in found.problem] == []
    assert "hunter2" not in found.problem


async def test_a_server_that_does_not_answer_is_asked_again():
    with pytest.raises(errors.Unavailable):
        await read(errors.Unavailable("connection refused"))


@pytest.mark.parametrize("code", ["FeedCredentialsMissing", "FeedRefused"])
def test_the_condition_says_which_and_how_to_go_on(code):
    said = "There is no token for feed https://pypi.corp."
    snapshot = session_snapshot(pod(), agent=agent(installing(state="Failed", code=code, message=said, tool="")))
    status = status_after(snapshot)
    assert condition(status, "PackagesInstalled")["reason"] == code
    message = condition(status, "PackagesInstalled")["message"]
    assert message == f"{said} Then try again by the annotation {REQUESTS['install']}"
    assert verdict(status, "Ready") == ("False", "InstallFailed")
