"""The operator's package cache: used for the indexes that it has if it responds, and skipped otherwise."""

from __future__ import annotations

import http.client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping

    from flowsession_agent.session.job import Outcome

PYPI = "https://pypi.org/simple"
SECONDS = 1.0
"""Timeout of the cache's health check, in seconds: less than the cache saves."""
OF_PIP = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")
OF_UV = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")


class PackageCache:
    """The cache at one address."""

    def __init__(self, indexes: Mapping[str, str]) -> None:
        self._indexes = {index.rstrip("/"): cached for index, cached in indexes.items()}
        self.address = next(iter(indexes.values())).partition("://")[2].partition("/")[0]

    def environ(self, direct: Mapping[str, str]) -> dict[str, str] | None:
        """Return the tools' environment with the cache in place of the indexes that it has, or None if it has none of them."""
        found = {name: value for name, value in direct.items() if value}
        if "PIP_INDEX_URL" not in found:
            found["PIP_INDEX_URL"] = PYPI
        if "UV_DEFAULT_INDEX" not in found and "UV_INDEX_URL" not in found:
            found["UV_DEFAULT_INDEX"] = PYPI
        changed = {name: " ".join(map(self._cached, found[name].split())) for name in (*OF_PIP, *OF_UV) if name in found}
        if all(found[name].split() == value.split() for name, value in changed.items()):
            return None
        host = self.address.rpartition(":")[0] or self.address
        # Plain HTTP: downloads are verified by hashes that the cache got from the index over TLS. The company's proxy can't reach it.
        changed["PIP_TRUSTED_HOST"] = " ".join([*direct.get("PIP_TRUSTED_HOST", "").split(), self.address])
        excepted = direct.get("no_proxy") or direct.get("NO_PROXY") or ""
        changed["no_proxy"] = changed["NO_PROXY"] = ",".join([*filter(None, [excepted]), host])
        return {**direct, **changed}

    def missing(self) -> str:
        """Return why the cache can't be used now; empty if it is healthy."""
        connection = http.client.HTTPConnection(self.address, timeout=SECONDS)
        try:
            connection.request("GET", "/healthz")
            status = connection.getresponse().status
            return "" if status == 200 else f"it answers {status}"
        except (OSError, http.client.HTTPException) as error:
            return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
        finally:
            connection.close()

    def blame(self, code: str, outcome: Outcome | None) -> str:
        """Return why the cache may have caused a failure with `code`, so that the indexes are tried directly; empty if it didn't."""
        if code in ("Timeout", "OutOfMemory", "NoSpace"):
            return ""
        named = outcome is not None and self.address in outcome.stdout + outcome.stderr
        return self.missing() or ("it could not bring a file" if named and code in ("IndexUnreachable", "HashMismatch", "Other") else "")

    def _cached(self, index: str) -> str:
        return self._indexes.get(index.rstrip("/"), index)
