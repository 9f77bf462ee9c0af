"""The agents of all of kwok's pods in one event loop. The address of a request selects the pod's agent."""

import asyncio
import json
import socket
import ssl
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

from apiserver.agents import PORT, HttpAgent
from apiserver.api import Api
from apiserver.background import Background

Object = dict[str, Any]

_ADDRESSES = 4096
"""Maximum number of pods at once. kwok assigns a network's addresses upward from 1 and reuses free ones first."""

_LAG_SECONDS = 5.0
"""Seconds by which this may see a pod later than the operator."""


class Switchboard:
    """Listens at every address that kwok may give to a pod, and watches the pods to know their addresses.

    A single watch replaces lists by address, for which the API server scans every pod. For a thousand pods that was half of its work.
    """

    def __init__(self, api: Api, network: str) -> None:
        self._api = api
        self._network = network
        self._background = Background()
        self.agents: dict[str, HttpAgent] = {}
        """Agents by address."""
        self._pods: dict[str, Object] = {}
        """The youngest pod of each address, as a JSON object."""
        self._changed = asyncio.Condition()

    @staticmethod
    def free_network() -> str:
        """Return the first half of addresses such as 127.90.0.1, in which nobody else on this machine has agents."""
        for second in range(90, 250):
            with socket.socket() as probe, suppress(OSError):
                probe.bind((f"127.{second}.0.1", PORT))
                return f"127.{second}"
        raise AssertionError("no free network below 127.0.0.0/8")

    def __enter__(self) -> Self:
        self._background.run(self._listen())
        self._watching = asyncio.run_coroutine_threadsafe(self._watch(), self._background.loop)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._watching.cancel()
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
            agent = await self._called_at(address, request)
        if agent is None:
            return web.json_response({"code": "NotFound", "message": f"no pod has {address}"}, status=502)
        return await agent.handle(request)

    async def _called_at(self, address: str, request: web.Request) -> HttpAgent | None:
        """Return the agent of the youngest pod with this address. Waits for the watch, since the operator may see the pod earlier."""
        async with self._changed:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait_for(lambda: self._is_for_its_pod(address, request)), _LAG_SECONDS)
        return self.agents.get(address)

    def _is_for_its_pod(self, address: str, request: web.Request) -> bool:
        if (pod := self._pods.pop(address, None)) is not None:
            self.agents[address] = HttpAgent(background=self._background)
            self.agents[address].belong_to(pod)
        return address in self.agents and self.agents[address].is_for(request)

    async def _watch(self) -> None:
        """Watch the pods that have an address. Restart the watch whenever the API server ends it."""
        tls = ssl.create_default_context(cafile=str(self._api.ca))
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {self._api.token}"}, read_bufsize=1 << 20) as session:
            while True:
                # Without a resourceVersion a watch begins with the existing objects.
                async with session.get(
                    f"{self._api.server}/api/v1/pods?watch=1&fieldSelector=status.podIP!%3D",
                    ssl=tls,
                    timeout=aiohttp.ClientTimeout(total=None),
                ) as answer:
                    async for line in answer.content:
                        await self._see(json.loads(line))

    async def _see(self, event: Object) -> None:
        pod, address = event["object"], event["object"].get("status", {}).get("podIP", "")
        if event["type"] != "ADDED" or not pod["spec"]["containers"][0].get("env"):
            return
        async with self._changed:
            self._pods[address] = pod
            self._changed.notify_all()
