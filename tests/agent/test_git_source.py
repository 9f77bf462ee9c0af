"""What a resolver's agent reads from real git servers, and its messages when it can't."""

import base64
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from localcluster.gitserver import PASSWORD, USER, HttpServer, Repository, SshServer, serving

from .conftest import StartAgent
from .support import descendants, eventually

FLOW: dict[str, bytes | None] = {"chat/flow.dag.yaml": b"nodes: []\n", "chat/requirements.txt": b"pandas\n", "shared/x.py": b"X = 1\n"}
Answer = dict[str, Any]
Read = Callable[..., Answer]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with a flow in a folder, served by `server`."""
    (tmp_path / "served").mkdir()
    found = Repository(tmp_path / "served")
    found.commit(FLOW)
    return found


@pytest.fixture
def server(repository: Repository) -> Iterator[HttpServer]:
    with serving(repository.bare.parent) as found:
        yield found


@pytest.fixture
def read(start: StartAgent, tmp_path: Path, server: HttpServer) -> Read:
    """Reads with a new agent each time, as each resolver pod has one: `read(revision="main")`. `secret` is the content of the Secret."""
    agents: list[int] = []

    def once(*, url: str = "", secret: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None, **git: str) -> Answer:
        folder = tmp_path / f"agent-{len(agents)}"
        agents.append(1)
        folder.mkdir()
        credentials = folder / "credentials"
        if secret:
            credentials.mkdir()
            for key, value in secret.items():
                (credentials / key).write_text(value)
                (credentials / key).chmod(0o400)
        given = {"FLOWSESSION_CREDENTIALS": str(credentials)} if secret is not None else {}
        agent = start(folder=folder, FLOWSESSION_RESOLVER="1", **given)
        order = {"git": {"url": url or f"{server.url}/flows.git", **git}, **(body or {})}
        status, answer = agent.call("PUT", "/v1/source?wait=60", order)
        assert status == 200, answer
        assert not list((agent.home / "tmp").iterdir()), "what was fetched goes away"
        if "archive" in answer:
            answer["files"], answer["links"] = unpacked(answer["archive"])
        return answer

    return once


def unpacked(archive: str) -> tuple[dict[str, bytes], dict[str, str]]:
    files, links = {}, {}
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(archive))) as packed:
        for member in packed:
            if member.issym():
                links[member.name] = member.linkname
            else:
                content = packed.extractfile(member)
                assert content
                files[member.name] = content.read()
    return files, links


def failed(answer: Answer, code: str, *words: str) -> None:
    """Assert that it failed with this code, and with these words in its message."""
    assert (answer["state"], answer.get("code")) == ("Failed", code), answer
    for word in words:
        assert word in answer["message"], answer["message"]


# -- what is read


def test_a_branch_a_tag_and_a_commit(read: Read, repository: Repository) -> None:
    first = repository.git("rev-parse", "HEAD")
    repository.tag("v1", annotated=True)
    repository.tag("v1-light")
    second = repository.commit({"chat/new.py": b"pass\n"})
    assert read(revision="main")["commit"] == second
    for revision in ("v1", "v1-light", "refs/tags/v1", first):
        answer = read(revision=revision)
        assert (answer["state"], answer["commit"], answer["files"]) == ("Done", first, FLOW), revision


def test_without_a_revision_it_is_the_default_branch(read: Read, repository: Repository) -> None:
    commit = repository.git("rev-parse", "HEAD")
    assert {key: read()[key] for key in ("revision", "commit")} == {"revision": "main", "commit": commit}


def test_a_branch_goes_before_a_tag_of_its_name(read: Read, repository: Repository) -> None:
    repository.tag("both")
    commit = repository.commit({"chat/new.py": b"pass\n"}, branch="both")
    assert read(revision="both")["commit"] == commit


def test_only_the_folder_that_path_names(read: Read) -> None:
    assert read(path="chat")["files"] == {"flow.dag.yaml": b"nodes: []\n", "requirements.txt": b"pandas\n"}
    assert read(path="./chat/")["files"].keys() == {"flow.dag.yaml", "requirements.txt"}


def test_a_server_that_sends_whole_commits_only(read: Read, repository: Repository) -> None:
    first = repository.git("rev-parse", "HEAD")
    repository.commit({"chat/new.py": b"pass\n"})
    repository.configure("uploadpack.allowFilter", "false")
    assert read(revision=first)["files"] == FLOW


def test_the_same_files_are_the_same_bytes(read: Read, repository: Repository) -> None:
    first = read()
    repository.commit()
    second = read()
    assert first["commit"] != second["commit"]
    assert first["archive"] == second["archive"]


def test_a_commit_that_is_known_already_is_not_fetched(read: Read, server: HttpServer, repository: Repository) -> None:
    commit = repository.git("rev-parse", "HEAD")
    answer = read(revision="main", known=commit)
    assert (answer["commit"], answer["unchanged"]) == (commit, True)
    assert "archive" not in answer
    assert len([line for line in server.requests if line.startswith("POST")]) == 1, "the list of branches only"


def test_links_come_as_links(read: Read, repository: Repository) -> None:
    (repository.tree / "chat" / "link.py").symlink_to("../shared/x.py")
    repository.commit()
    assert read()["links"] == {"chat/link.py": "../shared/x.py"}


def test_an_amlignore_leaves_files_out(read: Read, repository: Repository) -> None:
    repository.commit({".amlignore": b"data/\n*.bin\n!keep.bin\n", "data/a.csv": b"1", "chat/x.bin": b"1", "chat/keep.bin": b"1"})
    assert read()["files"].keys() == {*FLOW, ".amlignore", "chat/keep.bin"}


def test_attributes_and_hooks_of_the_repository_mean_nothing(read: Read, repository: Repository) -> None:
    repository.commit({".gitattributes": b"* text=auto eol=crlf filter=lfs\n*.py export-ignore ident\n"})
    assert read()["files"]["shared/x.py"] == b"X = 1\n"


def test_submodules_and_lfs_are_warned_of(read: Read, repository: Repository) -> None:
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{repository.git('rev-parse', 'HEAD')},vendor/other")
    (repository.tree / "model.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n")
    repository.git("add", "model.bin")
    repository.git("commit", "-q", "-m", "odd")
    repository.git("push", "-q", "origin", "HEAD:refs/heads/main")
    found = [(warning["code"], warning["file"]) for warning in read()["warnings"]]
    assert found == [("Submodule", "vendor/other"), ("LfsPointer", "model.bin")]


def test_asking_again_gives_the_same_answer(start: StartAgent, server: HttpServer) -> None:
    agent = start(FLOWSESSION_RESOLVER="1")
    body = {"git": {"url": f"{server.url}/flows.git"}}
    answers = [agent.call("PUT", "/v1/source?wait=60", body)[1] for _ in range(2)]
    assert answers[0] == answers[1]
    seen = len(server.requests)
    assert agent.call("PUT", "/v1/source", {"git": {"url": f"{server.url}/other.git"}})[1] == answers[0], "a pod reads one source"
    assert len(server.requests) == seen


def test_only_resolvers_read_sources(start: StartAgent) -> None:
    assert start().call("PUT", "/v1/source", {"git": {"url": "https://example.com/x.git"}})[1]["code"] == "NotFound"


# -- credentials


@pytest.mark.parametrize("secret", [{"username": USER, "password": PASSWORD}, {"username": USER, "token": f"{PASSWORD}\n"}])
def test_a_password_or_token(read: Read, server: HttpServer, secret: dict[str, str]) -> None:
    server.password = PASSWORD
    assert read(secret=secret)["files"] == FLOW


def test_no_password_in_arguments_variables_or_files(start: StartAgent, server: HttpServer, tmp_path: Path) -> None:
    server.password = PASSWORD
    server.go_on.clear()
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "password").write_text(PASSWORD)
    (tmp_path / "credentials" / "username").write_text(USER)
    agent = start(FLOWSESSION_RESOLVER="1", FLOWSESSION_CREDENTIALS=str(tmp_path / "credentials"))
    body = {"git": {"url": f"{server.url}/flows.git"}}
    assert agent.call("PUT", "/v1/source", body)[1]["state"] == "Running"
    eventually("git has shown the password", lambda: any("Basic" in line for line in server.requests))
    processes = {pid: command for pid, command in descendants(agent.pid).items() if "git" in command}
    assert len(processes) >= 2, "git and its helper for http"
    for pid, command in {**processes, agent.pid: ""}.items():
        assert PASSWORD not in command
        assert PASSWORD.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    files = [path for path in agent.home.rglob("*") if path.is_file()]
    assert any(path.name == "askpass" for path in files)
    for path in files:
        assert PASSWORD.encode() not in path.read_bytes(), path
    server.go_on.set()
    assert agent.call("PUT", "/v1/source?wait=60", body)[1]["state"] == "Done"
    assert PASSWORD not in agent.log.read_text()


def test_a_host_that_is_not_the_repositorys_gets_no_password(read: Read, server: HttpServer, repository: Repository) -> None:
    with serving(repository.bare.parent, password=PASSWORD) as other:
        server.redirect = other.url
        answer = read(secret={"username": USER, "password": PASSWORD})
        failed(answer, "AuthenticationFailed")
        assert other.requests
        assert all(line.endswith(" ") for line in other.requests), "without Authorization"


def test_ssh(read: Read, repository: Repository, tmp_path: Path) -> None:
    server = SshServer(tmp_path)
    try:
        url = f"ssh://root@127.0.0.1:{server.port}{repository.bare}"
        good = {"ssh-privatekey": server.key, "known_hosts": server.known_hosts}
        answer = read(url=url, secret=good)
        assert (answer["state"], answer.get("files")) == ("Done", FLOW), answer
        another = server.known_hosts.split()[0] + " " + (tmp_path / "user.pub").read_text()
        failed(
            read(url=url, secret={**good, "known_hosts": another}),
            "UnknownHostKey",
            "Host key verification failed",
            "known_hosts must hold",
        )
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "strange"], check=True)
        strange = (tmp_path / "strange").read_text()
        failed(read(url=url, secret={**good, "ssh-privatekey": strange}), "AuthenticationFailed", "Permission denied", "ssh-privatekey")
        failed(read(url=url + "x", secret=good), "RepositoryNotFound", "does not appear to be a git repository")
        failed(read(url=url, secret={**good, "ssh-privatekey": "abc"}), "CredentialsMissing", "does not end with a line end")
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("secret", "url", "words"),
    [
        ({}, "", ["does not exist in this namespace, or is empty"]),
        ({"user": "x"}, "", ["no key password or token (it has: user)"]),
        (None, "ssh://git@example.com/x.git", ["name it in credentialsSecretName"]),
        ({"ssh-privatekey": "x\n"}, "ssh://git@example.com/x.git", ["no key known_hosts", "ssh-keyscan"]),
        ({"password": "x"}, "ssh://git@example.com/x.git", ["no key ssh-privatekey (it has: password)"]),
    ],
)
def test_what_the_secret_lacks(read: Read, secret: dict[str, str] | None, url: str, words: list[str]) -> None:
    failed(read(secret=secret, url=url), "CredentialsMissing", *words)


# -- what can't be read


def test_what_is_wrong_is_named_with_the_way_out(read: Read, server: HttpServer, repository: Repository) -> None:
    url = f"{server.url}/flows.git"
    repository.tag("v1")
    failed(read(revision="nope"), "RevisionNotFound", url, "no branch or tag 'nope' (it has: main, v1)")
    failed(read(revision="abcdef0"), "RevisionNotFound", "a commit is named by its full id")
    failed(read(revision="0" * 39 + "1"), "RevisionNotFound", "has no commit 000")
    failed(read(path="chat/nope"), "PathNotFound", "no folder 'chat/nope' (path)", "it holds: chat, shared")
    failed(read(path="shared/x.py"), "PathNotFound", "no folder 'shared/x.py'")
    failed(read(url=f"{server.url}/other.git"), "RepositoryNotFound", "not found; check the URL")
    failed(read(url="http://127.0.0.1:1/x.git"), "Unreachable", "Failed to connect", "check that pods")
    failed(read(url="http://no-such-host.invalid/x.git"), "Unreachable", "Could not resolve host")
    server.password = PASSWORD
    failed(read(), "AuthenticationFailed", "name a Secret in credentialsSecretName")
    answer = read(secret={"username": USER, "password": "wrong-one"})
    failed(answer, "AuthenticationFailed", "Authentication failed", "check the Secret")
    assert "wrong-one" not in answer["message"]


def test_an_empty_repository(read: Read, server: HttpServer, repository: Repository) -> None:
    shutil.rmtree(repository.bare)
    subprocess.run(["git", "init", "-q", "--bare", repository.bare], check=True)
    failed(read(), "RevisionNotFound", "has no default branch")


def test_what_is_too_large(read: Read, repository: Repository) -> None:
    repository.commit({"big.csv": b"1" * 9_000_000})
    failed(read(), "TooLarge", "9,000,", "at most 8,388,608", "the largest: big.csv 9,000,000", ".amlignore", "persistentVolumeClaim")
    assert read(path="chat")["state"] == "Done"
    repository.commit({"big.csv": None, "noise.bin": os.urandom(1_100_000)})
    failed(read(), "TooLarge", "when packed, and at most 1,000,000", "noise.bin 1,100,000")
    repository.commit({"noise.bin": None, **{f"many/{number}": b"" for number in range(3001)}})
    failed(read(), "TooLarge", "3,004 files, and at most 3,000")


def test_a_server_that_never_answers(read: Read) -> None:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x.git"
        failed(read(url=url, body={"seconds": 2}), "Timeout", "took more than 2 s", "persistentVolumeClaim")


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"git": {"url": "file:///etc"}},
        {"git": {"url": "ext::sh -c id"}},
        {"git": {"url": "https://x/y z"}},
        {"git": {"url": "https://x/y", "revision": "--upload-pack=id"}},
        {"git": {"url": "https://x/y", "path": "../.."}},
        {"git": {"url": "https://x/y"}, "environment": {"GIT_SSH_COMMAND": "id"}},
        {"git": {"url": "https://x/y"}, "seconds": 0},
    ],
)
def test_an_order_that_can_not_be_meant(start: StartAgent, body: Any) -> None:
    status, answer = start(FLOWSESSION_RESOLVER="1").call("PUT", "/v1/source", body)
    assert (status, answer["code"]) == (400, "BadRequest")
