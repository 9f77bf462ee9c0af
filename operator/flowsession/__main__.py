"""The operator's entry point: `flowsession-operator [--settings FILE] [--agent FILE]`."""

import argparse
import asyncio
import base64
import gc
import hashlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import kopf
import uvloop
import yaml
from aiohttp import web

from flowsession import __version__, handlers
from flowsession.cluster import errors, tokens
from flowsession.cluster import vault as vaults
from flowsession.cluster.agent.client import AgentClient
from flowsession.cluster.agent.transport import DirectTransport, ProxyTransport
from flowsession.cluster.gateway import KubernetesCluster
from flowsession.cluster.key_secrets import KeySecrets
from flowsession.cluster.tokens import load_signer
from flowsession.cluster.vault import load_vault
from flowsession.engine.hints import Hints, listen
from flowsession.engine.loop import Engine
from flowsession.engine.resolutions import WorkerResolutions
from flowsession.logs import configure as configure_logs
from flowsession.model.agent_views import AgentArchive
from flowsession.probes import application
from flowsession.settings import AgentVia, Settings, load

log = logging.getLogger(__name__)

GARBAGE_THRESHOLD = 50_000
"""New objects between two garbage collections. Those of a burst hardly ever form cycles, and each collection walks the whole cache."""


def main() -> None:
    """Run the operator until a signal stops it. Exit with status 1 and one sentence if it can't work."""
    arguments = _arguments()
    configure_logs(arguments.log_level)
    gc.freeze()  # imported modules stay, so no collection need walk them
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 20)
    try:
        settings = load(arguments.settings).model_copy(update={"edits_address": _address(arguments.edits_address)})
        archive = _archive(arguments.agent)
    except (OSError, ValueError, yaml.YAMLError) as error:
        sys.exit(f"flowsession-operator: {error}")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(settings, archive, namespace=arguments.namespace, port=arguments.port, edits_port=arguments.edits_port))
    except errors.ClusterError as error:
        sys.exit(f"flowsession-operator: {error}")


async def _run(settings: Settings, archive: AgentArchive, *, namespace: str, port: int, edits_port: int) -> None:
    cluster = await KubernetesCluster.connect()
    transport = ProxyTransport(cluster) if settings.agent_via == AgentVia.PROXY else DirectTransport()
    try:
        signer, vault = await load_signer(cluster, namespace), await load_vault(cluster, namespace)
        keys = await KeySecrets.read(cluster, namespace, (tokens.SECRET, vaults.SECRET))
        engine = Engine(
            cluster=cluster,
            agent_client=AgentClient(transport, signer),
            settings=settings,
            public_keys=signer.public_keys,
            archive=archive,
            instance=socket.gethostname(),
            vault=vault,
            resolutions=WorkerResolutions(settings),
        )
        probes = web.AppRunner(application(engine), access_log=None)
        await probes.setup()
        if port:
            await web.TCPSite(probes, port=port).start()
        hints = await listen(Hints(engine.cache, engine.queue), edits_port) if settings.edits_address else None
        await engine.start()
        keeping = asyncio.get_running_loop().create_task(keys.check_forever(), name="key-secrets")
        log.info("started", extra={"version": __version__, "sessions": len(engine.cache.sessions)})
        try:
            await _listen(engine)
        finally:
            await engine.stop()
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            if hints:
                hints.close()
            await probes.cleanup()
    finally:
        await transport.close()
        await cluster.close()


async def _listen(engine: Engine) -> None:
    """Watch until a signal stops the process. Raises the error that ended a watch for good, since only a restart helps then."""
    stop = asyncio.Event()
    watches = await kopf.spawn_tasks(registry=handlers.registry(engine), settings=handlers.settings(), clusterwide=True, standalone=True)
    # After kopf's own handlers, to replace them: those would give the other tasks five seconds to end by themselves, and they never do.
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopped = asyncio.get_running_loop().create_task(stop.wait())
    done, pending = await asyncio.wait({stopped, *watches}, return_when=asyncio.FIRST_COMPLETED)
    asyncio.get_running_loop().set_exception_handler(_at_the_end)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done - {stopped}:
        task.result()


def _at_the_end(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Ignore errors of async generators: a cancelled kopf watch leaves one behind, which may fail when the loop closes it."""
    if "asyncgen" not in context:
        loop.default_exception_handler(context)


def _archive(path: Path) -> AgentArchive:
    data = path.read_bytes()
    return AgentArchive(sha256=hashlib.sha256(data).hexdigest(), base64=base64.b64encode(data).decode())


def _address(text: str) -> str:
    """Return HOST:PORT, or an empty string: a variable of a Service that was created after this pod is not expanded."""
    return "" if "$(" in text or not text.rpartition(":")[0] else text


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="flowsession-operator", description="Reconciles FlowEnvironments and ComputeSessions.")
    parser.add_argument("--settings", type=Path, help="YAML file with the settings; without it the defaults hold")
    parser.add_argument("--agent", type=Path, default=Path("/opt/flowsession/agent.pyz"), help="agent.pyz for images that have no agent")
    parser.add_argument(
        "--namespace", default=os.environ.get("POD_NAMESPACE", "flowsession-system"), help="namespace of the operator's own Secret"
    )
    parser.add_argument("--port", type=int, default=8080, help="port of /healthz, /readyz and /metrics; 0 for none")
    parser.add_argument("--edits-port", type=int, default=8081, help="UDP port on which agents say that edits wait")
    parser.add_argument("--edits-address", default="", help="HOST:PORT by which sessions' pods reach that port; without it they are asked")
    parser.add_argument("--log-level", default=os.environ.get("LOG_LEVEL", "info"), choices=("debug", "info", "warning", "error"))
    parser.add_argument("--version", action="version", version=__version__)
    return parser.parse_args()


if __name__ == "__main__":
    main()
