"""The gateway to the API server: plain dicts in and out, typed errors, a limit on concurrent requests."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import client, config

from flowsession import metrics
from flowsession.api import GROUP, VERSION
from flowsession.cluster import errors

Object = dict[str, Any]
Page = tuple[list[Object], str]
"""Objects, and the resourceVersion of the list."""

REQUESTS_AT_ONCE = 32
PAGE = 500
PAGES = {"ConfigMap": 20}
"""Objects in one page of a LIST, for kinds that differ from PAGE: a ConfigMap may have 1 MiB."""
TIMEOUT_SECONDS = 30.0
_PLURALS = {
    "ComputeSession": (f"/apis/{GROUP}/{VERSION}", "computesessions"),
    "FlowEnvironment": (f"/apis/{GROUP}/{VERSION}", "flowenvironments"),
    "Pod": ("/api/v1", "pods"),
    "ConfigMap": ("/api/v1", "configmaps"),
    "Secret": ("/api/v1", "secrets"),
    "Event": ("/api/v1", "events"),
    "VMSize": (f"/apis/{GROUP}/{VERSION}", "vmsizes"),
    "ComputeInstance": (f"/apis/{GROUP}/{VERSION}", "computeinstances"),
    "FlowRun": (f"/apis/{GROUP}/{VERSION}", "flowruns"),
    "ResourceQuota": ("/api/v1", "resourcequotas"),
    "Node": ("/api/v1", "nodes"),
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
}
_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_JSON = "application/json"
_MERGE = "application/merge-patch+json"
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class KubernetesCluster:
    """Uses the official client's connection (kubernetes.aio) without its models, which cost more than the request. Raises ClusterError."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api
        self._at_once = asyncio.Semaphore(REQUESTS_AT_ONCE)

    @classmethod
    async def connect(cls) -> "KubernetesCluster":
        """Connect with the pod's service account inside a cluster, else with KUBECONFIG. Raises ClusterError with what was tried."""
        configuration = client.Configuration()
        try:
            if _TOKEN.exists():  # noqa: ASYNC240 - once, before anything runs
                config.load_incluster_config(client_configuration=configuration)
            else:
                await config.load_kube_config(client_configuration=configuration)
        except config.ConfigException as error:
            raise errors.Unavailable(f"no cluster to work on: {error}; set KUBECONFIG") from error
        # The client's default reads proxy variables and ~/.netrc for every request, which doubles its cost.
        configuration.client_session_kwargs = {"trust_env": False}
        configuration.connection_pool_maxsize = 0
        return cls(client.ApiClient(configuration))

    async def close(self) -> None:
        """Close every connection."""
        await self._api.close()

    async def get(self, kind: str, namespace: str, name: str) -> Object:
        """Return one object."""
        return await self._request("GET", _path(kind, namespace, name))

    async def list(self, kind: str, *, namespace: str = "", labels: str = "", fields: str = "") -> AsyncIterator[Page]:
        """Yield every object of a kind, in one namespace or in all, page by page, each page with its resourceVersion."""
        query = {"limit": str(PAGES.get(kind, PAGE))}
        query |= ({"labelSelector": labels} if labels else {}) | ({"fieldSelector": fields} if fields else {})
        async for page in self._pages(_path(kind, namespace), query):
            yield page

    async def metadata(self, kind: str, namespace: str = "", *, labels: str = "") -> AsyncIterator[Object]:
        """Yield only the metadata of the objects with these labels, in one namespace or in all."""
        query = {"limit": str(PAGE)} | ({"labelSelector": labels} if labels else {})
        async for items, _ in self._pages(_path(kind, namespace), query, accept=_METADATA_ONLY):
            for item in items:
                yield item["metadata"]

    async def create(self, manifest: Object) -> Object:
        """Create an object, and return it as the server stored it."""
        return await self._request("POST", _path(manifest["kind"], manifest["metadata"]["namespace"]), manifest)

    async def patch_status(
        self, kind: str, namespace: str, name: str, status: Object, *, resource_version: str, valid_until: float | None = None
    ) -> Object:
        """Merge-patch the status if the object still has this resourceVersion. Raises TooLate if it could not be sent in time."""
        body = {"metadata": {"resourceVersion": resource_version}, "status": status}
        path = _path(kind, namespace, name) + "/status"
        return await self._request("PATCH", path, body, content_type=_MERGE, valid_until=valid_until)

    async def patch(self, kind: str, namespace: str, name: str, body: Object) -> Object:
        """Merge-patch an object."""
        return await self._request("PATCH", _path(kind, namespace, name), body, content_type=_MERGE)

    async def delete(
        self,
        kind: str,
        namespace: str,
        name: str,
        *,
        uid: str,
        resource_version: str | None = None,
        grace_seconds: int | None = None,
        valid_until: float | None = None,
    ) -> Object:
        """Delete the object with this uid (without a uid, any object with the name), if it still has the resourceVersion, where given.

        Returns the server's response. Raises TooLate if it could not be sent in time.
        """
        preconditions = ({"uid": uid} if uid else {}) | ({"resourceVersion": resource_version} if resource_version else {})
        body: Object = {"preconditions": preconditions, "propagationPolicy": "Background"}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        return await self._request("DELETE", _path(kind, namespace, name), body, valid_until=valid_until)

    async def proxy(
        self,
        method: str,
        namespace: str,
        pod: str,
        port: int,
        path: str,
        body: Object | None,
        headers: dict[str, str],
        *,
        timeout_seconds: float,
        largest: int,
    ) -> tuple[int, bytes]:
        """Call a pod's port through the API server's pod proxy. Returns any HTTP status, and the body of at most `largest` bytes.

        Raises ClusterError without a response, TooLarge.
        """
        url = f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}"
        return await self._send(method, url, body, headers=headers, timeout_seconds=timeout_seconds, largest=largest)

    async def _pages(self, path: str, query: dict[str, str], *, accept: str = _JSON) -> AsyncIterator[Page]:
        more = ""
        while True:
            page = await self._request("GET", f"{path}?{urlencode(query | ({'continue': more} if more else {}))}", accept=accept)
            meta, items = page.get("metadata"), page.get("items") or []  # null in empty lists of metadata
            if not isinstance(meta, dict) or not isinstance(items, list):
                raise errors.Unavailable(f"GET {path}: the answer is no list of objects")
            yield items, str(meta.get("resourceVersion") or "0")
            if not (more := str(meta.get("continue") or "")):
                return

    async def _request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        content_type: str = _JSON,
        accept: str = _JSON,
        valid_until: float | None = None,
    ) -> Object:
        async with self._at_once:
            # Checked only now: under load most of the time is spent waiting for the semaphore.
            if valid_until is not None and time.time() > valid_until:
                raise errors.TooLate(f"{method} {path.partition('?')[0]}: not sent, {time.time() - valid_until:.1f} s too late")
            started = time.perf_counter()
            status, answer = await self._send(method, path, body, headers={"Content-Type": content_type, "Accept": accept})
            metrics.api_requests.labels(method, str(status)).observe(time.perf_counter() - started)
        if status >= 300:
            raise errors.from_answer(status, answer)
        try:
            parsed = json.loads(answer)
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            # A proxy in front of the API server may send its own pages, some with status 200.
            raise errors.Unavailable(f"{method} {path.partition('?')[0]}: the answer with status {status} is not the API server's")
        return parsed

    async def _send(
        self,
        method: str,
        path: str,
        body: Object | None,
        *,
        headers: dict[str, str],
        timeout_seconds: float = TIMEOUT_SECONDS,
        largest: int | None = None,
    ) -> tuple[int, bytes]:
        configuration = self._api.configuration
        token = await configuration.get_api_key_with_prefix("BearerToken")
        auth = {"Authorization": token} if token else {}
        try:
            response = await self._api.rest_client.request(
                method,
                configuration.host + path,
                headers={"Accept": "application/json", "User-Agent": "flowsession", **auth, **headers},
                body=body,
                _request_timeout=aiohttp.ClientTimeout(total=timeout_seconds, connect=5.0),
            )
            return response.status, await (response.read() if largest is None else capped(response.response, largest))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise errors.Unavailable(f"{method} {path.partition('?')[0]}: {error or type(error).__name__}") from error


async def capped(response: aiohttp.ClientResponse, largest: int) -> bytes:
    """Return the body of a response. Raises TooLarge as soon as it has more than `largest` bytes."""
    data = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        data += chunk
        if len(data) > largest:
            response.close()
            raise errors.TooLarge(f"has more than {largest:,} bytes")
    return bytes(data)


def _path(kind: str, namespace: str, name: str = "") -> str:
    base, plural = _PLURALS[kind]
    path = f"{base}/namespaces/{quote(namespace)}/{plural}" if namespace else f"{base}/{plural}"
    return f"{path}/{quote(name)}" if name else path
