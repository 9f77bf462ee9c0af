"""An engine over an API server that can be listed."""

from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flowsession.cluster.agent.client import AgentClient
from flowsession.cluster.gateway import KubernetesCluster
from flowsession.cluster.vault import Vault
from flowsession.engine.loop import Engine
from flowsession.engine.resolutions import Resolutions
from flowsession.model.agent_views import AgentArchive
from flowsession.settings import Settings

Object = dict[str, Any]
Told = tuple[str, str, str]
"""Kind, name and reason of an Event."""


class Server:
    """An API server that can be listed, and that takes Events."""

    def __init__(self) -> None:
        self.lists: dict[str, list[Any] | Exception] = {}
        self.events: list[Object] = []
        self.listed: list[str] = []

    async def list(self, kind: str, *, labels: str = "", **_: str) -> AsyncIterator[tuple[list[Object], str]]:
        self.listed.append(kind)
        found = self.lists.get(kind, [])
        if isinstance(found, Exception):
            raise found
        yield found, "1000"

    async def create(self, manifest: Object) -> Object:
        self.events.append(manifest)
        return manifest

    @property
    def told(self) -> Sequence[Told]:
        return [(event["involvedObject"]["kind"], event["involvedObject"]["name"], event["reason"]) for event in self.events]


@pytest.fixture
def server() -> Server:
    return Server()


def made_engine(server: object, agent_client: object = None) -> Engine:
    """Return an engine over stand-ins for an API server and a client of agents."""
    return Engine(
        cluster=cast(KubernetesCluster, server),
        agent_client=cast(AgentClient, agent_client),
        settings=Settings(),
        public_keys="{}",
        archive=AgentArchive("", ""),
        instance="test",
        vault=Vault(bytes(32)),
        resolutions=Resolutions(Settings()),
    )


@pytest.fixture
async def engine(server) -> Engine:
    return made_engine(server, SimpleNamespace(forget=lambda uid: None))
