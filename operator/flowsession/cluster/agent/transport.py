"""Sends requests to an agent's port, by the pod's address or through the API server, and reads responses up to a limit."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from flowsession.cluster import errors
from flowsession.cluster.agent import http
from flowsession.cluster.gateway import KubernetesCluster
from flowsession.flow import packed
from flowsession.model.views import PodView
from flowsession_protocol import PORT

CALL_SECONDS = 10.0
LARGEST_STATE = 256 * 1024
"""Maximum bytes of a response with a state, whose longest texts, with every character escaped, take half of that."""
PROOF = "/healthz"
"""Requested from a peer that is to get a secret, to prove which pod it is. Sent without a token, since tokens name the pod."""
LARGEST_PROOF = 1024


class AgentError(Exception):
    """No usable answer from the agent; the text says why, for a condition."""


class NoAnswer(AgentError):
    """Nothing answered in time. Waiting costs next to nothing, and a starting agent does not listen yet."""


class NotListening(NoAnswer):
    """Nothing listens on the port yet."""


@dataclass(frozen=True)
class Request:
    """A request to an agent, and the limits of its response."""

    method: str
    path: str
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    """May contain a token."""
    timeout_seconds: float = CALL_SECONDS
    largest: int = LARGEST_STATE
    """Maximum bytes of the response: it is held in the operator's memory, which all sessions share."""
    secret: bool = False
    """Whether only the pod may see the body. It is then sent only to a peer that names the pod's uid without having received it."""


class Transport(Protocol):
    """Sends requests to an agent's port."""

    async def send(self, pod: PodView, request: Request, headers: dict[str, str]) -> tuple[int, bytes]:
        """Send a request; return HTTP status and body. Raises AgentError if the response is missing or too long."""


class DirectTransport:
    """Connects to the pod's address; works inside the cluster."""

    async def close(self) -> None:
        """Do nothing: no connection outlives its call, since ten thousand settled sessions must not hold ten thousand sockets."""

    async def send(self, pod: PodView, request: Request, headers: dict[str, str]) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(request.timeout_seconds):
                return await _exchange(pod, request, {"Connection": "close", **headers})
        except http.BadAnswer as error:
            raise AgentError(f"its answer {error}") from error
        except TimeoutError as error:
            raise NoAnswer(f"no answer from {pod.ip} within {request.timeout_seconds:.0f} s") from error
        except OSError as error:
            raise AgentError(f"no answer from {pod.ip}: {error.strerror or error}") from error


async def _exchange(pod: PodView, request: Request, headers: dict[str, str]) -> tuple[int, bytes]:
    try:
        connection = await http.connect(pod.ip, PORT)
    except TimeoutError as error:
        raise NoAnswer(f"no connection to {pod.ip} within {http.CONNECT_SECONDS:.0f} s") from error
    except OSError as error:
        raise NotListening(f"no connection to {pod.ip}: {error.strerror or error}") from error
    try:
        if request.secret:
            # On the same connection, so that no other pod can have taken over the address in between.
            check_pod(pod, *await connection.exchange("GET", PROOF, {}, None, largest=LARGEST_PROOF))
        return await connection.exchange(request.method, request.path, headers, request.body, largest=request.largest)
    finally:
        connection.close()


def check_pod(pod: PodView, status: int, raw: bytes) -> None:
    """Raise AgentError unless this response to a request without a token names the pod: only the pod and the API server know its uid."""
    if status != 200 or parsed(raw).get("podUID") != pod.uid:
        raise AgentError(f"what answers at {pod.ip} is not this pod; no secret was sent to it")


class ProxyTransport:
    """Connects through the API server; works wherever KUBECONFIG does. Go's reverse proxy limits interim responses and chunk extensions."""

    def __init__(self, cluster: KubernetesCluster) -> None:
        self._cluster = cluster

    async def close(self) -> None:
        """Do nothing: the connection is the cluster's own."""

    async def send(self, pod: PodView, request: Request, headers: dict[str, str]) -> tuple[int, bytes]:
        if request.secret:
            check_pod(pod, *await self.send(pod, Request("GET", PROOF, largest=LARGEST_PROOF), {}))
        try:
            status, answer = await self._cluster.proxy(
                request.method,
                pod.namespace,
                pod.name,
                PORT,
                request.path,
                packed.plain(request.body),
                headers,
                timeout_seconds=request.timeout_seconds,
                largest=request.largest,
            )
        except errors.TooLarge as error:
            raise AgentError(f"its answer {error}") from error
        except errors.ClusterError as error:
            raise AgentError(str(error)) from error
        if status in (502, 503):
            raise NotListening(f"the API server can't reach pod {pod.name}: {answer.decode(errors='replace')[:200]}")
        return status, answer


def parsed(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in a response. Raises AgentError."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        raise AgentError("its answer is not JSON") from None
    if not isinstance(document, dict):
        raise AgentError("its answer is not a JSON object")
    return document
