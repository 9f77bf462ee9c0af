"""GET and HEAD requests to OCI registries, with limits on what a response can cause: sizes, redirects, token services and time."""

import asyncio
import errno
import ipaddress
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from flowsession.cluster.registry import credentials
from flowsession.images import reference as imageref
from flowsession.images.reference import ImageRef
from flowsession.settings import Settings

CONNECT_SECONDS = 5.0
MOST_REDIRECTS = 3
LARGEST_TOKEN = 64 * 1024

_PARAMETER = re.compile(r'(?<![a-zA-Z])([a-zA-Z]+)="([^"]{0,2000})"')
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class RegistryError(Exception):
    """A registry gave no usable response. `reason` is the condition's reason, the text a sentence for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Answer:
    """A response; the body is empty after a HEAD, and unless the status is 200."""

    headers: Mapping[str, str]
    body: bytes = b""


@dataclass
class Access:
    """The headers that give access to one repository, found out by the first request."""

    reference: ImageRef
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """Return the host of the registry's API."""
        return "registry-1.docker.io" if self.reference.registry == imageref.DOCKER_HUB else self.reference.registry


class RegistryHttp:
    """Sends requests to registries. Callers decide which ones may be asked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.images
        default = imageref.parse(settings.runtime_image)
        named = {pattern.partition("/")[0].lower() for pattern in self._settings.allowed_registries}
        self._named = named | ({default.registry} if default else set())
        self._trusted: aiohttp.ClientSession | None = None
        self._guarded: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close every connection."""
        for session in (self._trusted, self._guarded):
            if session is not None:
                await session.close()

    async def request(self, method: str, access: Access, path: str, *, accept: str, limit: int) -> Answer:
        """Send one request below the repository. Raises RegistryError, aiohttp.ClientError and OSError."""
        scheme = "http" if access.reference.registry in self._settings.insecure_registries else "https"
        url = f"{scheme}://{access.host}/v2/{access.reference.repository}/{path}"
        status, answer = await self._follow(method, url, access, accept, limit)
        if status == 401 and not access.headers:
            await self._authorize(access, answer.headers.get("WWW-Authenticate", ""), scheme)
            status, answer = await self._follow(method, url, access, accept, limit)
        if status != 200:
            raise _refused(status, access.reference)
        return answer

    async def _follow(self, method: str, url: str, access: Access, accept: str, limit: int) -> tuple[int, Answer]:
        own, scheme = urlsplit(url).netloc, urlsplit(url).scheme
        for _ in range(MOST_REDIRECTS + 1):
            at_home = urlsplit(url).netloc == own
            headers = {"Accept": accept, **(access.headers if at_home else {})}
            status, answer = await self._send(method, url, headers, limit=limit, trusted=at_home)
            if status not in _REDIRECTS:
                return status, answer
            url = urljoin(url, answer.headers.get("Location", ""))
            if urlsplit(url).scheme not in ("https", scheme):
                raise RegistryError("RegistryRefused", f"{access.reference.registry} sends the operator on to an address that is not https")
        raise RegistryError("RegistryRefused", f"{access.reference.registry} sends the operator on and on")

    async def _send(self, method: str, url: str, headers: Mapping[str, str], *, limit: int, trusted: bool) -> tuple[int, Answer]:
        """Send a request. Unless the platform team named the host itself, addresses of this machine and its link are out of bounds."""
        host = urlsplit(url).hostname or ""
        trusted = trusted and (urlsplit(url).netloc.lower() in self._named or host == "registry-1.docker.io")
        if not trusted and _is_address(host) and _out_of_bounds(host):
            raise RegistryError("RegistryRefused", f"a registry names {host}, an address that the operator does not connect to")
        session = self._session(trusted=trusted)
        async with session.request(method, url, headers={"Accept-Encoding": "identity", **headers}, allow_redirects=False) as response:
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise RegistryError("RegistryRefused", f"{host} sends compressed answers, which nobody asked for")
            body = bytearray()
            if method != "HEAD" and response.status == 200:
                async for chunk in response.content.iter_chunked(65536):
                    body += chunk
                    if len(body) > limit:
                        raise RegistryError("RegistryRefused", f"{host} sent more than the {limit:,} bytes that are taken")
            return response.status, Answer(response.headers.copy(), bytes(body))

    async def _authorize(self, access: Access, challenge: str, scheme: str) -> None:
        """Get what the registry demands: a token (https://distribution.github.io/distribution/spec/auth/token), or a password."""
        known = await asyncio.to_thread(credentials.read, self._settings.credentials_file, access.reference.registry)
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic" and known:
            access.headers["Authorization"] = known
        if kind.lower() != "bearer":
            return
        parameters = dict(_PARAMETER.findall(rest[:4000]))
        realm = urlsplit(parameters.get("realm", ""))
        if realm.scheme not in ("https", scheme) or not _same_site(realm.hostname or "", access.host.rpartition(":")[0] or access.host):
            message = f"{access.reference.registry} sends the operator to another site for a token, where it does not go"
            raise RegistryError("RegistryRefused", message)
        scope = f"repository:{access.reference.repository}:pull"
        query = urlencode([*parse_qsl(realm.query), ("service", parameters.get("service", "")), ("scope", scope)])
        url = realm._replace(query=query, fragment="").geturl()
        headers = {"Authorization": known} if known else {}
        status, answer = await self._send("GET", url, headers, limit=LARGEST_TOKEN, trusted=True)
        if status != 200:
            raise _refused(status, access.reference)
        access.headers["Authorization"] = f"Bearer {_token(answer.body, access.reference)}"

    def _session(self, *, trusted: bool) -> aiohttp.ClientSession:
        """Return the HTTP session, created for the first request: most operators never send one."""
        session = self._trusted if trusted else self._guarded
        if session is None:
            context = ssl.create_default_context()
            if self._settings.ca_bundle:
                context.load_verify_locations(cadata=self._settings.ca_bundle)
            resolver = None if trusted else _GuardedResolver()
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context, resolver=resolver, use_dns_cache=False, limit=8),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
            if trusted:
                self._trusted = session
            else:
                self._guarded = session
        return session


class _GuardedResolver(AbstractResolver):
    """The system's resolver without addresses that are out of bounds, since a name can resolve to any address."""

    def __init__(self) -> None:
        self._system = aiohttp.ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        found = [entry for entry in await self._system.resolve(host, port, family) if not _out_of_bounds(entry["host"])]
        if not found:
            raise OSError(errno.EACCES, f"{host} means an address that the operator does not connect to")
        return found

    async def close(self) -> None:
        await self._system.close()


def _refused(status: int, reference: ImageRef) -> RegistryError:
    if status in (401, 403):
        message = f"{reference.registry} does not let the operator see {reference.repository} (HTTP {status})"
        way = "have the platform team give it credentials by the chart's images.credentialsSecretName, or allow anonymous pulls"
        return RegistryError("RegistryRefused", f"{message}; {way}")
    if status == 404:
        return RegistryError("ImageNotFound", f"{reference.registry} has no {reference.repository}:{reference.tag}, or does not show it")
    if status == 429:
        return RegistryError("RegistryThrottled", f"{reference.registry} takes no more requests for now; ask again later")
    return RegistryError("RegistryUnreachable", f"{reference.registry} answers with HTTP {status}; ask again later")


def _token(body: bytes, reference: ImageRef) -> str:
    try:
        document = json.loads(body)
        token = document.get("token") or document.get("access_token")
    except (ValueError, RecursionError, AttributeError):
        token = None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise RegistryError("RegistryRefused", f"the token service of {reference.registry} gave no token")
    return token


def _same_site(one: str, other: str) -> bool:
    """Return whether two hosts belong to one organization by name: the same, or with the same last two labels."""
    if one == other or _is_address(one) or _is_address(other):
        return one == other
    return one.split(".")[-2:] == other.split(".")[-2:] and "." in one


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _out_of_bounds(address: str) -> bool:
    """Return whether an address is this machine's own, multicast, or of its link, where clouds have their metadata services."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified
