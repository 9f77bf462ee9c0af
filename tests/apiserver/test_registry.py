"""The operator's requests to registries: to a real one, and to malicious ones."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from apiserver.background import Background
from flowsession.cluster.registry import client as registries
from flowsession.cluster.registry.client import RegistryClient
from flowsession.images.check import Base, ImageCheck, Question
from flowsession.settings import ImageSettings, Settings
from localcluster.ports import free_port
from localcluster.registry import BASE, Registry, Tokens

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Asker = Callable[..., Awaitable[ImageCheck]]
SHA = "sha256:" + "1" * 64


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    found = Registry(tmp_path_factory.mktemp("registry"))
    yield found
    found.stop()


@pytest.fixture
async def ask() -> AsyncIterator[Asker]:
    """Return a function that checks an image, as an operator that may use its registry over plain HTTP."""
    clients: list[RegistryClient] = []

    async def asked(image: str, *, known: str = "", **settings: Any) -> ImageCheck:
        host = image.partition("/")[0]
        chosen: dict[str, Any] = {"allowed_registries": (host,), "insecure_registries": (host,), **settings}
        clients.append(RegistryClient(Settings(images=ImageSettings(**chosen))))
        return await clients[-1].ask(Question(image, "token", known))

    yield asked
    for client in clients:
        await client.close()


@pytest.fixture
def serve(background: Background) -> Iterator[Callable[[Handler], str]]:
    """Return a function that serves a test's handler for every request and returns its HOST:PORT."""
    runners: list[web.AppRunner] = []

    async def start(handler: Handler, port: int) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        runners.append(runner)

    def served(handler: Handler) -> str:
        port = free_port()
        background.run(start(handler, port))
        return f"127.0.0.1:{port}"

    yield served
    for runner in runners:
        background.run(runner.cleanup())


# -- a real registry


async def test_a_tag_means_its_digest_until_it_moves(registry: Registry, ask: Asker) -> None:
    first = registry.push("team/moving:1")
    image = f"{registry.host}/team/moving:1"
    check = await ask(image, known=first)
    assert (check.digest, check.same, check.reason, check.base) == (first, True, "", None)
    second = registry.push("team/moving:1")
    check = await ask(image, known=first)
    assert (check.digest, check.same) == (second, False)


async def test_a_platforms_image_is_found_in_its_index(registry: Registry, ask: Asker) -> None:
    index, (_, one) = registry.push_index("team/many:1", {}, {})
    check = await ask(f"{registry.host}/team/many:1", known=one)
    assert (check.digest, check.same) == (index, True)


@pytest.mark.parametrize("how", ["labels", "annotations", "index"])
async def test_what_an_image_was_built_on_and_whether_that_has_moved(registry: Registry, ask: Asker, how: str) -> None:
    before = registry.push("team/base:1")
    name = f"{registry.host}/team/base:1"
    said = {f"{BASE}.name": name, f"{BASE}.digest": before}
    if how == "index":
        registry.push_index("team/built:1", said, {})
    else:
        registry.push("team/built:1", **{how: said})
    assert (await ask(f"{registry.host}/team/built:1")).base == Base(name, before, before)
    now = registry.push("team/base:1")
    assert (await ask(f"{registry.host}/team/built:1")).base == Base(name, before, now)


async def test_a_base_elsewhere_is_not_asked_about(registry: Registry, ask: Asker, serve: Callable[[Handler], str]) -> None:
    asked: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    name = f"{serve(elsewhere)}/inner:1"
    registry.push("team/pointing:1", labels={f"{BASE}.name": name, f"{BASE}.digest": SHA})
    assert (await ask(f"{registry.host}/team/pointing:1")).base == Base(name, SHA, "")
    assert asked == []


async def test_where_configurations_cannot_be_read_the_digest_is_known_all_the_same(ask: Asker, serve: Callable[[Handler], str]) -> None:
    """Registries keep blobs elsewhere, where a firewall may be in the way."""
    manifest = json.dumps({"config": {"digest": SHA}}).encode()
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"

    async def broken(request: web.Request) -> web.Response:
        if "blobs" in request.path:
            assert request.transport is not None
            request.transport.close()
        return web.Response(body=manifest, headers={"Docker-Content-Digest": digest})

    check = await ask(f"{serve(broken)}/x:1")
    assert (check.digest, check.base, check.reason) == (digest, None, "")


async def test_a_tag_that_is_not_there(registry: Registry, ask: Asker) -> None:
    check = await ask(f"{registry.host}/team/moving:none")
    assert (check.reason, check.digest) == ("ImageNotFound", "")


async def test_a_registry_with_tokens(tmp_path: Path, ask: Asker, serve: Callable[[Handler], str]) -> None:
    """Requests are anonymous if the token service allows that, and use credentials if not. A failure of both is reported."""
    password = base64.b64encode(b"operator:secret").decode()
    anonymous = True
    scopes: list[str] = []

    async def token(request: web.Request) -> web.Response:
        if not anonymous and request.headers.get("Authorization") != f"Basic {password}":
            return web.Response(status=401)
        scopes.append(request.query["scope"])
        _, repository, _ = request.query["scope"].split(":")
        return web.json_response({"token": tokens.mint(repository, "pull")})

    service = serve(token)
    tokens = Tokens(f"http://{service}/token")
    registry = Registry(tmp_path, tokens=tokens)
    try:
        digest, image = registry.push("team/closed:1"), f"{registry.host}/team/closed:1"
        named = {"allowed_registries": (registry.host, service)}
        assert (await ask(image, **named)).digest == digest
        assert set(scopes) == {"repository:team/closed:pull"}
        anonymous = False
        refused = await ask(image, **named)
        assert (refused.reason, refused.digest) == ("RegistryRefused", "")
        assert "images.credentialsSecretName" in refused.message
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"auths": {f"https://{registry.host}": {"auth": password}}}))
        assert (await ask(image, **named, credentials_file=str(file))).digest == digest
    finally:
        registry.stop()


# -- malicious registries


async def test_a_registry_that_was_not_named_is_not_asked(ask: Asker, serve: Callable[[Handler], str]) -> None:
    asked: list[str] = []

    async def inner(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    host = serve(inner)
    for patterns in ((), ("*",), ("127.0.0.1",)):
        assert (await ask(f"{host}/x:1", allowed_registries=patterns)).reason == "RegistryNotAllowed"
    assert asked == []


async def test_a_slow_registry_is_given_up(ask: Asker, serve: Callable[[Handler], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries, "SECONDS", 0.5)

    async def slow(request: web.Request) -> web.StreamResponse:
        if request.method == "HEAD":
            return web.Response(headers={"Docker-Content-Digest": SHA})
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)

    check = await ask(f"{serve(slow)}/x:1")
    assert check.reason == "RegistryUnreachable"
    assert "has not answered within" in check.message


async def test_a_registry_that_is_not_there(ask: Asker) -> None:
    check = await ask(f"127.0.0.1:{free_port()}/x:1")
    assert check.reason == "RegistryUnreachable"
    assert "can't be reached" in check.message


async def test_a_giant_manifest_is_left_alone(ask: Asker, serve: Callable[[Handler], str]) -> None:
    sent = 0

    async def giant(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        if request.method == "HEAD":
            return web.Response(headers={"Docker-Content-Digest": SHA})
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 1_000_000)
            sent += 1_000_000

    check = await ask(f"{serve(giant)}/x:1")
    assert check.reason == "RegistryRefused"
    assert "4,194,304 bytes" in check.message
    assert sent < 50_000_000


@pytest.mark.parametrize(
    ("body", "digest"),
    [(b"{}", SHA), (b"[" * 200_000, ""), (b"\xff\xfe", ""), (b'"text"', ""), (b'{"manifests": {"a": 1}, "config": [1]}', "")],
    ids=["another digest", "deep", "no text", "no object", "other types"],
)
async def test_what_is_no_manifest_harms_nobody(ask: Asker, serve: Callable[[Handler], str], body: bytes, digest: str) -> None:
    async def odd(request: web.Request) -> web.Response:
        return web.Response(body=body, headers={"Docker-Content-Digest": digest or "junk"})

    check = await ask(f"{serve(odd)}/x:1")
    assert check.reason in ("RegistryRefused", "") and check.base is None
    assert bool(check.digest) == body.startswith(b'{"manifests')


@pytest.mark.parametrize("status", [401, 403, 429, 500, 302])
async def test_every_status_is_told(ask: Asker, serve: Callable[[Handler], str], status: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": str(request.url)} if status == 302 else {})

    check = await ask(f"{serve(answer)}/x:1")
    expected = {429: "RegistryThrottled", 500: "RegistryUnreachable"}.get(status, "RegistryRefused")
    assert check.reason == expected, check


@pytest.mark.parametrize("way", ["redirect", "realm"])
async def test_a_registry_can_not_send_the_operator_elsewhere_in_the_cluster(ask: Asker, serve: Callable[[Handler], str], way: str) -> None:
    asked: list[str] = []

    async def inner(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    target = serve(inner)

    async def sends_on(request: web.Request) -> web.Response:
        if way == "redirect":
            return web.Response(status=307, headers={"Location": f"http://{target}/secrets"})
        realm = f"http://localhost:{target.partition(':')[2]}/secrets"
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'})

    check = await ask(f"{serve(sends_on)}/x:1")
    assert check.reason == "RegistryRefused", check
    assert asked == []


async def test_a_name_that_a_pattern_allows_may_not_mean_this_machine(ask: Asker, serve: Callable[[Handler], str]) -> None:
    """The owner of a domain decides where names below it point. A registry that is allowed by its full name may be anywhere."""
    asked: list[str] = []

    async def inner(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(headers={"Docker-Content-Digest": SHA})

    image = f"localhost:{serve(inner).partition(':')[2]}/x:1"
    check = await ask(image, allowed_registries=("local*",))
    assert check.reason == "RegistryUnreachable"
    assert "an address that the operator does not connect to" in check.message
    assert asked == []
    await ask(image)
    assert asked
