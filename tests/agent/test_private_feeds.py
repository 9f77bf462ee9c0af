"""`{private}` in an index URL: a real index that requires a password gets the token, and nobody else sees it."""

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localcluster.ports import free_port

from . import feeds
from .conftest import StartAgent
from .feeds import Authority, Entra, Index, Server, Tunnel, closing, places_with
from .support import Agent, descendants, eventually

SECRET = "Secret 'team-feed'"


@pytest.fixture
def token() -> str:
    return secrets.token_urlsafe(40)


@pytest.fixture
def index(tmp_path: Path, token: str) -> Iterator[Index]:
    index = Index(tmp_path / "index", token)
    feeds.wheel(index.packages, "inner_tool", requires=["inner-base>=1"], value="inner")
    feeds.wheel(index.packages, "inner_base", "1.1", value="base")
    with closing(index):
        yield index


@pytest.fixture
def agent(start: StartAgent, plain_base: str) -> Agent:
    return start(python=plain_base)


@pytest.fixture(params=["Uv", "Pip"])
def tool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def offered(token: str, *hosts: str) -> dict[str, Any]:
    return {"token": token, "from": SECRET, "hosts": list(hosts or ("127.0.0.1",))}


def install(agent: Agent, text: str, *, revision: str = "p1", **arguments: Any) -> dict[str, Any]:
    """Install without this machine's own index and CA bundle, unless the test gives them."""
    return agent.install(revision, text, **{"caBundle": "", "indexURL": "", **arguments})


def value_of(agent: Agent, module: str) -> str:
    command = [agent.home / "venv" / "bin" / "python", "-c", f"import {module}; print({module}.VALUE)"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return ran.stdout.strip()


def told(agent: Agent) -> str:
    """Return everything about an install that people can read."""
    return f"{agent.state()}{agent.call('GET', '/v1/packages')}{agent.log.read_text()}"


def test_in_the_requirements(agent: Agent, index: Index, token: str, tool: str) -> None:
    done = install(agent, f"-i {index.url()}\ninner-tool\n", tool=tool, feed=offered(token))
    assert (done["state"], done["tool"], done["changed"]) == ("Succeeded", tool.lower(), 2), done
    assert (value_of(agent, "inner_tool"), value_of(agent, "inner_base")) == ("inner", "base")
    assert index.front.logins == {f"flowsession:{token}"}
    assert token not in told(agent)


def test_with_the_oldest_and_the_newest_python(start: StartAgent, python: str, tmp_path: Path, token: str) -> None:
    authority = Authority(tmp_path)
    index = Index(tmp_path / "index", token, context=authority.context)
    feeds.wheel(index.packages, "inner_base", value="base")
    agent = start(python=python)
    with closing(index):
        done = install(agent, f"-i {index.url()}\ninner-base\n", tool="Pip", feed=offered(token), caBundle=authority.pem)
    assert done["state"] == "Succeeded", done["message"] + done["stderrTail"]
    assert places_with(token, agent) == []


@pytest.mark.parametrize("setting", ["indexURL", "extraIndexURLs"])
def test_in_the_settings(agent: Agent, index: Index, token: str, tool: str, setting: str) -> None:
    nothing = Server(lambda path, headers: (404, {}, b""))
    urls: dict[str, Any] = {"indexURL": index.url()}
    if setting == "extraIndexURLs":
        urls = {"indexURL": f"http://{nothing.place}/simple/", "extraIndexURLs": [index.url()]}
    with closing(nothing):
        done = install(agent, "inner-tool\n", tool=tool, feed=offered(token), **urls)
    assert done["state"] == "Succeeded", done
    assert token not in f"{nothing.asked}", "the other index is asked too, and has no business with the token"


def test_the_user_s_name_of_the_url_is_kept(agent: Agent, index: Index, token: str) -> None:
    assert install(agent, f"-i {index.url('alice:{private}')}\ninner-base\n", feed=offered(token))["state"] == "Succeeded"
    assert index.front.logins == {f"alice:{token}"}


def test_in_an_included_file_and_in_find_links(agent: Agent, index: Index, token: str, tool: str) -> None:
    files = {
        "deps/requirements.txt": b"-r more.txt\n",
        "deps/more.txt": f"--no-index\n--find-links {index.url(path='/packages/')}\n-c limits.txt\ninner-tool\n".encode(),
        "deps/limits.txt": b"inner-base==1.1\n",
    }
    done = install(agent, "-r more.txt\n", path="deps/requirements.txt", files=files, flow="f1", tool=tool, feed=offered(token))
    assert done["state"] == "Succeeded", done
    assert {path.relative_to(agent.home / "flow").as_posix(): path.read_bytes() for path in (agent.home / "flow").rglob("*.txt")} == files
    assert agent.state()["edits"]["count"] == 0


def test_behind_a_private_ca(agent: Agent, tmp_path: Path, token: str, tool: str) -> None:
    authority = Authority(tmp_path)
    index = Index(tmp_path / "index", token, context=authority.context)
    feeds.wheel(index.packages, "inner_base", value="tls")
    with closing(index):
        text = f"-i {index.url()}\ninner-base\n"
        refused = install(agent, text, tool=tool, feed=offered(token), environment={"UV_HTTP_RETRIES": "0", "PIP_RETRIES": "0"})
        assert (refused["code"], index.front.logins) == ("IndexUnreachable", set()), "no token to a server that nobody vouches for"
        assert index.origin in refused["message"] and "certificate" in refused["message"] and "caBundleConfigMapName" in refused["message"]
        done = install(agent, text, revision="p2", tool=tool, feed=offered(token), caBundle=authority.pem)
        assert (done["state"], value_of(agent, "inner_base")) == ("Succeeded", "tls"), done


def test_a_private_ca_beside_the_system_s(start: StartAgent, plain_base: str, tmp_path: Path, token: str, tool: str) -> None:
    """The settings' certificates are added to the system's, which the public index needs."""
    (tmp_path / "system").mkdir()
    system, own = Authority(tmp_path / "system"), Authority(tmp_path)
    (tmp_path / "system.pem").write_text(system.pem)
    agent = start(python=plain_base, SSL_CERT_FILE=str(tmp_path / "system.pem"), PIP_CERT="", PIP_FIND_LINKS="")
    public = Index(tmp_path / "public", "open", context=system.context)
    feed = Index(tmp_path / "feed", token, context=own.context)
    feeds.wheel(public.packages, "outer_base", value="public")
    feeds.wheel(feed.packages, "inner_tool", requires=["outer-base"], value="private")
    with closing(public, feed):
        text = f"-i {public.url('flowsession:open')}\n--extra-index-url {feed.url()}\ninner-tool\n"
        done = install(agent, text, tool=tool, feed=offered(token), caBundle=own.pem)
    assert done["state"] == "Succeeded", done["message"] + done["stderrTail"]
    assert (value_of(agent, "inner_tool"), value_of(agent, "outer_base")) == ("private", "public")


def test_by_a_proxy(agent: Agent, index: Index, tmp_path: Path, token: str, tool: str) -> None:
    """The agent reaches the feed through the company's proxy. The installer never uses the proxy to reach the agent."""
    asked = "http://127.0.0.9:8080/simple/inner-base/"

    def answer(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if not path.startswith("http://127.0.0.9:8080/") or "Authorization" not in headers:
            return 404, {}, b""
        if path.endswith(".whl"):
            return 200, {"Content-Type": "application/octet-stream"}, file.read_bytes()
        return 200, {"Content-Type": "text/html"}, _page("text/html", "inner-base", f"/files/{file.name}", file)

    file = feeds.wheel(tmp_path / "made", "inner_base", value="proxied")
    proxy = Server(answer)
    with closing(proxy):
        text = "-i http://{private}@127.0.0.9:8080/simple/\ninner-base\n"
        environment = {"HTTP_PROXY": f"http://me:pass@{proxy.place}", "NO_PROXY": "other.example"}
        done = install(agent, text, tool=tool, feed=offered(token, "127.0.0.9"), environment=environment)
    assert done["state"] == "Succeeded", done
    assert asked in [path for _, path, _, _ in proxy.asked]
    assert {headers["Proxy-Authorization"] for _, _, headers, _ in proxy.asked} == {"Basic bWU6cGFzcw=="}


def test_by_a_proxy_with_tls_to_the_feed(agent: Agent, tmp_path: Path, token: str, tool: str) -> None:
    authority = Authority(tmp_path)
    index = Index(tmp_path / "index", token, context=authority.context)
    feeds.wheel(index.packages, "inner_base", value="tunnelled")
    tunnel = Tunnel()
    with closing(index, tunnel):
        text = f"-i {index.url()}\ninner-base\n"
        environment = {"HTTPS_PROXY": f"http://{tunnel.place}"}
        done = install(agent, text, tool=tool, feed=offered(token), environment=environment, caBundle=authority.pem)
    assert (done["state"], value_of(agent, "inner_base")) == ("Succeeded", "tunnelled"), done
    assert {line.rpartition(" ")[0] for line in tunnel.asked} == {f"CONNECT {index.place}"}


def test_a_hunt_for_the_token(agent: Agent, index: Index, token: str, tool: str) -> None:
    """The token is nowhere to be found while the tool waits for the feed, nor afterwards."""
    index.front.open.clear()
    _, state = agent.put(
        "p1",
        requirements={"text": f"-i {index.url()}\ninner-tool\n", "path": None},
        installer={"tool": tool, "feed": offered(token), "indexURL": "", "caBundle": ""},
    )
    command = "uv pip install" if tool == "Uv" else "-m pip install"
    eventually("the tool runs", lambda: [line for line in descendants(agent.pid).values() if command in line])
    assert places_with(token, agent) == []
    index.front.open.set()
    assert agent.installed(state)["state"] == "Succeeded"
    assert places_with(token, agent) == []
    assert token not in told(agent)
    assert places_with("inner_base", agent), "the hunt looks where things are"


def test_the_agents_own_memory_is_nobodys_to_read(agent: Agent, index: Index, token: str) -> None:
    """The agent is not dumpable, so root owns its files in /proc, and other processes of its own user can't read them either."""
    index.front.open.clear()
    _, state = agent.put("p1", requirements={"text": f"-i {index.url()}\ninner-tool\n", "path": None}, installer={"feed": offered(token)})
    without = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]
    read = ["python3", "-c", f"open('/proc/{agent.pid}/mem', 'rb')"]
    ran = subprocess.run([*without, *read], capture_output=True, text=True, check=False)
    assert "PermissionError" in ran.stderr
    index.front.open.set()
    agent.installed(state)


def test_the_gate_is_gone_after_the_install(agent: Agent, index: Index, token: str) -> None:
    install(agent, f"-i {index.url()}\ninner-tool\n", feed=offered(token))
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    mine = [line for line in listening.splitlines() if f"pid={agent.pid}," in line]
    assert len(mine) == 1 and f":{agent.port} " in mine[0]


def test_uv_finds_again_what_an_earlier_install_brought(agent: Agent, index: Index, token: str) -> None:
    text = f"-i {index.url()}\ninner-tool\n"
    install(agent, text, feed=offered(token))
    before = [line for line in index.front.requests if line.endswith(".whl")]
    assert install(agent, f"{text}# again\n", revision="p2", feed=offered(token))["state"] == "Succeeded"
    assert before == [line for line in index.front.requests if line.endswith(".whl")] != []


@pytest.mark.parametrize("kind", ["text/html", "application/vnd.pypi.simple.v1+json"])
def test_another_server_gets_no_token(agent: Agent, tmp_path: Path, token: str, tool: str, kind: str) -> None:
    """No link or redirect sends the token to another server. An absolute link to the feed itself, which needs it, works."""
    outer = feeds.wheel(tmp_path / "made", "by_link", value="link")
    other = Server(lambda path, headers: (200, {"Content-Type": "application/octet-stream"}, _made(tmp_path, path)))
    redirected = feeds.wheel(tmp_path / "made", "by_redirect", value="redirect")
    own = feeds.wheel(tmp_path / "made", "own_file", value="own")
    links = {
        "by-link": (f"http://{other.place}/files/{outer.name}", outer),
        "by-redirect": (f"/moved/{redirected.name}", redirected),
        "own-file": (f"http://FEED/own/{own.name}", own),
    }

    def answer(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if not headers.get("Authorization"):
            return 401, {"WWW-Authenticate": "Basic"}, b""
        if path.startswith("/moved/"):
            return 302, {"Location": f"http://{other.place}/files/{path.rpartition('/')[2]}"}, b""
        if path.startswith("/own/"):
            return 200, {"Content-Type": "application/octet-stream"}, _made(tmp_path, path)
        name = path.strip("/").rpartition("/")[2]
        if name not in links:
            return 404, {}, b""
        url, file = links[name]
        return 200, {"Content-Type": kind}, _page(kind, name, url.replace("FEED", feed.place), file)

    feed = Server(answer)
    with closing(other, feed):
        text = f"-i http://{{private}}@{feed.place}/simple/\nby-link\nby-redirect\nown-file\n"
        done = install(agent, text, tool=tool, feed=offered(token))
    assert done["state"] == "Succeeded", done
    assert [value_of(agent, name) for name in ("by_link", "by_redirect", "own_file")] == ["link", "redirect", "own"]
    assert {path.rpartition("/")[2] for _, path, _, _ in other.asked} >= {outer.name, redirected.name}
    assert not [headers for _, _, headers, _ in other.asked if "Authorization" in headers]


def _made(folder: Path, path: str) -> bytes:
    return (folder / "made" / path.rpartition("/")[2]).read_bytes()


def _page(kind: str, name: str, url: str, file: Path) -> bytes:
    if kind == "text/html":
        return f'<!DOCTYPE html><a data-requires-python=">=3.8" href="{url}#sha256={feeds.sha256(file)}">{file.name}</a>'.encode()
    files = f'[{{"filename": "{file.name}", "url": "{url}", "hashes": {{"sha256": "{feeds.sha256(file)}"}}}}]'
    return f'{{"meta": {{"api-version": "1.0"}}, "name": "{name}", "files": {files}}}'.encode()


def test_a_token_that_is_refused(agent: Agent, index: Index, tool: str) -> None:
    done = install(agent, f"-i {index.url()}\ninner-tool\n", tool=tool, feed=offered("wrong-one"))
    assert (done["state"], done["code"]) == ("Failed", "FeedRefused"), done
    assert f"Feed {index.origin}/simple/inner-tool/ answered 403: the token of {SECRET} is refused" in done["message"]
    assert "wrong-one" not in told(agent)


def test_a_refusal_is_no_reason_to_take_the_package_from_elsewhere(agent: Agent, index: Index, tmp_path: Path, tool: str) -> None:
    """Otherwise the package of whoever publishes its name on a public index would be installed instead."""
    strangers = Index(tmp_path / "strangers", "open")
    feeds.wheel(strangers.packages, "inner_tool", "99.0", value="stranger")
    with closing(strangers):
        extra = strangers.url("flowsession:open")
        done = install(agent, f"-i {extra}\n--extra-index-url {index.url()}\ninner-tool\n", tool=tool, feed=offered("wrong-one"))
    assert (done["state"], done["code"]) == ("Failed", "FeedRefused"), done
    assert not (agent.home / "venv").exists()
    assert "flowsession:open" not in told(agent), "what is written in a URL is not repeated either"


PASSWORD = "hunter2" * 20


@pytest.mark.parametrize("line", [f"x @ https://me:{PASSWORD}@GONE/x-1.0-py3-none-any.whl", f"x y https://me:2@{PASSWORD}@GONE/x.whl"])
def test_a_password_in_a_line_is_not_repeated(agent: Agent, tool: str, line: str) -> None:
    """This holds for a long password, where a message may be cut before the @ that marks it, and for one with an @ in it."""
    text = line.replace("GONE", f"127.0.0.1:{free_port()}")
    done = install(agent, f"{text}\n", tool=tool, environment={"UV_HTTP_RETRIES": "0", "PIP_RETRIES": "0"})
    assert done["state"] == "Failed"
    assert "hunter2" not in told(agent)


def test_a_package_that_the_feed_lacks(agent: Agent, index: Index, token: str, tool: str) -> None:
    done = install(agent, f"-i {index.url()}\nno-such-thing\n", tool=tool, feed=offered(token))
    assert done["code"] == "NoMatchingDistribution"
    assert "no-such-thing" in done["message"] and f"Feed {index.origin} answered 404" in done["message"] and SECRET in done["message"]


def test_tails_name_the_feed_and_not_the_gate(agent: Agent, index: Index, token: str) -> None:
    done = install(agent, f"-i {index.url()}\ninner-tool\nno-such-thing\n", tool="Pip", feed=offered(token))
    assert f"Looking in indexes: {index.url()}" in done["stdoutTail"]


def test_without_a_token(agent: Agent, index: Index) -> None:
    done = install(agent, f"-i {index.url()}\ninner-tool\n")
    assert (done["code"], index.front.requests) == ("FeedCredentialsMissing", [])
    assert index.origin in done["message"] and "credentialsSecretName" in done["message"] and "flowsession.dev/feed=true" in done["message"]


def test_a_secret_that_can_not_be_used(agent: Agent, index: Index) -> None:
    problem = "Secret 'team-feed' has no key token; add it"
    done = install(agent, f"-i {index.url()}\ninner-tool\n", feed={"from": SECRET, "problem": problem})
    assert done["code"] == "FeedCredentialsMissing" and problem in done["message"]


def test_a_secret_that_nobody_needs_is_nobodys_trouble(agent: Agent) -> None:
    assert install(agent, "pip\n", feed={"problem": "Secret 'team-feed' does not exist"})["state"] == "Succeeded"


def test_a_feed_that_can_not_be_reached(agent: Agent, token: str, tool: str) -> None:
    place = f"127.0.0.1:{free_port()}"
    quick = {"UV_HTTP_RETRIES": "0", "PIP_RETRIES": "0"}
    done = install(agent, f"-i http://{{private}}@{place}/simple/\ninner-tool\n", tool=tool, feed=offered(token), environment=quick)
    assert done["code"] == "IndexUnreachable"
    assert f"Feed http://{place} can't be reached (Connection refused)" in done["message"]


@pytest.mark.parametrize("hosts", [[], ["pypi.corp.example", "*.example.com"], ["127.0.0.1:1"], ["127.0.0.1:ninety"]])
def test_the_token_goes_to_no_server_that_the_secret_does_not_name(agent: Agent, index: Index, token: str, hosts: list[str]) -> None:
    """Whoever may write the requirements can name their own server."""
    done = install(agent, f"-i {index.url()}\ninner-tool\n", feed={**offered(token), "hosts": hosts})
    assert (done["code"], index.front.requests) == ("FeedCredentialsMissing", []), done
    assert f"feed {index.origin} is not among them: have it added to the key hosts of the Secret" in done["message"]


def test_a_secret_without_hosts_is_for_the_settings_feeds(agent: Agent, index: Index, tmp_path: Path, token: str) -> None:
    other = Index(tmp_path / "other", token)
    feeds.wheel(other.packages, "inner_tool", "99.0", value="stranger")
    bare = {"token": token, "from": SECRET}
    with closing(other):
        done = install(agent, f"--extra-index-url {other.url()}\ninner-tool\n", indexURL=index.url(), feed=bare)
        assert (done["code"], other.front.requests) == ("FeedCredentialsMissing", [])
        assert f"{SECRET} does not say which hosts its token is for" in done["message"]
        assert install(agent, "inner-tool\n", revision="p2", indexURL=index.url(), feed=bare)["state"] == "Succeeded"
        two = {"indexURL": index.url(), "extraIndexURLs": [other.url()]}
        assert install(agent, "inner-tool\n", revision="p3", feed=bare, **two)["state"] == "Succeeded"


def test_a_host_is_named_with_or_without_its_port(agent: Agent, index: Index, token: str) -> None:
    done = install(agent, f"-i {index.url()}\ninner-tool\n", feed={**offered(token), "hosts": ["pypi.corp.example", index.place]})
    assert done["state"] == "Succeeded"


def test_no_token_goes_in_the_clear(identified: Agent, entra: Entra, token: str, tool: str) -> None:
    text = "-i http://{private}@pkgs.dev.azure.com/simple/\ninner-tool\n"
    done = install(identified, text, tool=tool, feed=offered(token, "pkgs.dev.azure.com"))
    assert (done["code"], entra.asked) == ("FeedCredentialsMissing", [])
    assert "write https in its URL" in done["message"]


ASSERTION = "eyJhbGciOiJSUzI1NiJ9.c2VydmljZSBhY2NvdW50.c2lnbmF0dXJl"


@pytest.fixture
def entra(token: str) -> Iterator[Entra]:
    entra = Entra(token)
    with closing(entra):
        yield entra


@pytest.fixture
def identified(start: StartAgent, plain_base: str, tmp_path: Path, entra: Entra) -> Agent:
    """An agent in a pod that AKS's webhook gave an identity."""
    (tmp_path / "federated").write_text(ASSERTION)
    return start(
        python=plain_base,
        AZURE_CLIENT_ID="11111111-2222-3333-4444-555555555555",
        AZURE_TENANT_ID="66666666-7777-8888-9999-000000000000",
        AZURE_FEDERATED_TOKEN_FILE=str(tmp_path / "federated"),
        AZURE_AUTHORITY_HOST=f"http://{entra.place}/",
    )


DEVOPS = {"identityFeedHosts": ["127.0.0.1"]}
"""The index's host, in place of Azure DevOps."""


def test_the_identity_s_token(identified: Agent, index: Index, entra: Entra, token: str, tool: str) -> None:
    done = install(identified, f"-i {index.url()}\ninner-tool\n", tool=tool, **DEVOPS)
    assert done["state"] == "Succeeded", done
    assert index.front.logins == {f"flowsession:{token}"}
    expected = {
        "grant_type": "client_credentials",
        "client_id": "11111111-2222-3333-4444-555555555555",
        "scope": "499b84ac-1321-427f-aa17-267ca6975798/.default",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": ASSERTION,
    }
    assert entra.forms == [("/66666666-7777-8888-9999-000000000000/oauth2/v2.0/token", expected)]
    assert places_with(token, identified) == []
    assert token not in told(identified)


def test_the_identity_s_token_goes_to_azure_devops_only(identified: Agent, index: Index, entra: Entra, token: str) -> None:
    """A requirements file must not send it to a server of its author's choice."""
    done = install(identified, f"-i {index.url()}\ninner-tool\n")
    assert (done["code"], entra.asked, index.front.requests) == ("FeedCredentialsMissing", [], [])
    assert "pkgs.dev.azure.com" in done["message"]
    assert install(identified, f"-i {index.url()}\ninner-tool\n", revision="p2", feed=offered(token))["state"] == "Succeeded"


def test_entra_s_no_is_passed_on(identified: Agent, index: Index, entra: Entra) -> None:
    entra.error = f"AADSTS70021: No matching federated identity record found for {ASSERTION}. Trace ID: 1 Timestamp: 2026-01-01"
    done = install(identified, f"-i {index.url()}\ninner-tool\n", **DEVOPS)
    assert done["code"] == "FeedCredentialsMissing"
    assert "AADSTS70021: No matching federated identity record found" in done["message"]
    assert "11111111-2222-3333-4444-555555555555" in done["message"] and "Trace ID" not in done["message"]
    assert ASSERTION not in told(identified)


def test_the_secret_helps_out_where_the_identity_has_nothing(identified: Agent, index: Index, entra: Entra, token: str) -> None:
    entra.error = "AADSTS70021: No matching federated identity record found."
    done = install(identified, f"-i {index.url()}\ninner-tool\n", feed=offered(token), **DEVOPS)
    assert done["state"] == "Succeeded", done
    assert any("AADSTS70021" in warning and SECRET in warning for warning in done["warnings"])
    assert len(entra.asked) == 1, "and it is not asked again for every file"


def test_an_identity_that_the_feed_does_not_know(identified: Agent, index: Index, entra: Entra) -> None:
    entra.token = "of-somebody-else"
    done = install(identified, f"-i {index.url()}\ninner-tool\n", **DEVOPS)
    assert done["code"] == "FeedRefused"
    assert "identity 11111111-2222-3333-4444-555555555555" in done["message"] and "Feed Reader" in done["message"]


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"{}", b'{"access_token": ""}'])
def test_an_answer_of_entra_s_that_is_none(identified: Agent, index: Index, entra: Entra, answer: bytes) -> None:
    entra.raw = answer
    done = install(identified, f"-i {index.url()}\ninner-tool\n", **DEVOPS)
    assert (done["code"], index.front.requests) == ("FeedCredentialsMissing", [])
    assert f"http://{entra.place} answered 200" in done["message"]
