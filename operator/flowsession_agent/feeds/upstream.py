"""Connections to feeds and to the identity's token service, through the installer's proxies, trusting its certificates and the system's."""

from __future__ import annotations

import base64
import http.client
import ssl
import urllib.request
from urllib.parse import unquote, urlsplit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping

TIMEOUT_SECONDS = 30.0


class Network:
    """The ways out of the pod: proxies and certificates."""

    def __init__(self, *, environ: Mapping[str, str], ca_bundle: str, seconds: float = TIMEOUT_SECONDS) -> None:
        """`seconds`: how long a server may be silent. Raises ssl.SSLError if `ca_bundle` holds no certificate."""
        self._environ = environ
        self._seconds = seconds
        self._context = ssl.create_default_context()
        # Like pip and uv, unlike Python 3.13: companies' own certificates often lack what the strict reading of RFC 5280 requires.
        self._context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        if ca_bundle:
            self._context.load_verify_locations(cadata=ca_bundle)

    def route(self, scheme: str, host: str, port: int) -> Route:
        """Return a connection to the server, not opened yet."""
        proxy = self._proxy(scheme, host, port)
        if proxy is None:
            return Route(self._connection(scheme, host, port), prefix="")
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
        headers = {"Proxy-Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}
        connection = self._connection(scheme, parts.hostname or "", parts.port or 80)
        if scheme == "https":
            connection.set_tunnel(host, port, headers)
            return Route(connection, prefix="")
        shown = f"[{host}]" if ":" in host else host
        return Route(connection, prefix=f"http://{shown}:{port}", headers=headers)

    def _connection(self, scheme: str, host: str, port: int) -> http.client.HTTPConnection:
        if scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=self._seconds, context=self._context)
        return http.client.HTTPConnection(host, port, timeout=self._seconds)

    def _proxy(self, scheme: str, host: str, port: int) -> str | None:
        without = self._setting("no_proxy")
        if without and urllib.request.proxy_bypass_environment(f"{host}:{port}", {"no": without}):  # type: ignore[attr-defined]
            return None
        return self._setting(f"{scheme}_proxy") or self._setting("all_proxy") or None

    def _setting(self, name: str) -> str:
        return self._environ.get(name) or self._environ.get(name.upper()) or ""


class Route:
    """A connection that is reused while the server keeps it open. Not thread-safe."""

    def __init__(self, connection: http.client.HTTPConnection, *, prefix: str, headers: Mapping[str, str] | None = None) -> None:
        self._connection = connection
        self._prefix = prefix  # of request targets: an HTTP proxy needs whole URLs
        self._headers = dict(headers or {})
        self._used = False

    def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None) -> http.client.HTTPResponse:
        """Send a request and return the response, whose body is still to be read. Raises OSError or http.client.HTTPException."""
        try:
            return self._ask(method, target, headers, body)
        except (ConnectionError, http.client.RemoteDisconnected):
            self._connection.close()
            if not self._used:
                raise
            self._used = False  # the server had closed it meanwhile
            return self._ask(method, target, headers, body)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> http.client.HTTPResponse:
        self._connection.request(method, self._prefix + target, body, {**headers, **self._headers})
        answer = self._connection.getresponse()
        self._used = True
        return answer


def reason(error: Exception) -> str:
    """Return why a server can't be reached, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error) or type(error).__name__
