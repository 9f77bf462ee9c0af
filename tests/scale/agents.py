"""The agents of all of kwok's pods behind one event loop: a call is answered for the pod whose address it was sent to."""

import asyncio
import socket
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from apiserver.agents import PORT, FakeAgent
from apiserver.api import Api
from apiserver.background import Background

_ADDRESSES = 2048
"""kwok counts a network's addresses up from 1 and takes those that are free again first; so many pods may be there at once."""


class PodAgent(FakeAgent):
    """A fake agent that has no door of its own."""

    async def _start(self, ip: str) -> None:
        """The switchboard serves the address already."""

    def stop(self) -> None:
        """Nothing to end."""

    def is_for(self, request: web.Request) -> bool:
        """Whether the operator means this agent's pod."""
        return self._problem(request.headers.get("X-Flowsession-Token", "")) != "TokenNotForThisPod"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        return await self._handle(request)


class Switchboard:
    """Listens at every address that kwok may give to a pod, and asks the API server whose it is when the first call comes."""

    def __init__(self, api: Api, network: str) -> None:
        self._api = api
        self._network = network
        self._background = Background()
        self.agents: dict[str, PodAgent] = {}
        """By address."""

    @staticmethod
    def free_network() -> str:
        """The first half of addresses such as 127.90.0.1, in which nobody else on this machine has agents."""
        for second in range(90, 250):
            with socket.socket() as probe, suppress(OSError):
                probe.bind((f"127.{second}.0.1", PORT))
                return f"127.{second}"
        raise AssertionError("no free network below 127.0.0.0/8")

    def __enter__(self) -> Self:
        self._background.run(self._listen())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._background.run(self._runner.cleanup())
        self._background.stop()

    async def _listen(self) -> None:
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        for number in range(1, _ADDRESSES):
            listener = socket.create_server((f"{self._network}.{number // 256}.{number % 256}", PORT), backlog=16)
            await web.SockSite(self._runner, listener).start()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        address = request.transport.get_extra_info("sockname")[0]
        agent = self.agents.get(address)
        if agent is None or not agent.is_for(request):
            agent = await asyncio.to_thread(self._called_at, address)
        if agent is None:
            return web.json_response({"code": "NotFound", "message": f"no pod has {address}"}, status=502)
        return await agent.answer(request)

    def _called_at(self, address: str) -> PodAgent | None:
        """The agent of the youngest pod with this address."""
        pods: list[dict[str, Any]] = self._api.get(f"/api/v1/pods?fieldSelector=status.podIP={address}")["items"]
        if not pods:
            return None
        pod = max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
        agent = PodAgent(self._background)
        agent.start(pod, address)
        self.agents[address] = agent
        return agent
