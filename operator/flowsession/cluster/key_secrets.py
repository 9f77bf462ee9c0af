"""Keeps the Secrets with the operator's own keys: recreates a deleted one from memory, before a restart of the operator loses the key.

Without the agents' key every running session would refuse the next operator. Without the other key saved edits could not be opened.
"""

import asyncio
import logging
from collections.abc import Iterable

from flowsession.cluster import errors
from flowsession.cluster.gateway import KubernetesCluster, Object

log = logging.getLogger(__name__)

CHECK_SECONDS = 60.0
LONGEST_CHECK = 5.0
"""Maximum seconds of a check: a stopping operator has little time."""


class KeySecrets:
    """The Secrets as they were when this operator started."""

    def __init__(self, cluster: KubernetesCluster, secrets: Iterable[Object]) -> None:
        self._cluster = cluster
        self._manifests = [_manifest(secret) for secret in secrets]

    @classmethod
    async def read(cls, cluster: KubernetesCluster, namespace: str, names: Iterable[str]) -> "KeySecrets":
        """Read the Secrets with these names. Raises ClusterError."""
        return cls(cluster, [await cluster.get("Secret", namespace, name) for name in names])

    async def check(self) -> None:
        """Create missing Secrets, and log those that hold another key. Raises ClusterError."""
        for manifest in self._manifests:
            namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
            try:
                found = await self._cluster.get("Secret", namespace, name)
            except errors.NotFound:
                await self._put_back(manifest)
                continue
            if found.get("data") != manifest["data"]:
                log.error(
                    "a Secret holds another key than this operator uses; put the former one back before the operator restarts",
                    extra={"secret": f"{namespace}/{name}"},
                )

    async def check_forever(self) -> None:
        """Check every minute, and once more when canceled: a stopped operator may stay down until somebody notices."""
        try:
            while True:
                await asyncio.sleep(CHECK_SECONDS)
                await self._try()
        finally:
            await self._try()

    async def _try(self) -> None:
        try:
            async with asyncio.timeout(LONGEST_CHECK):
                await self.check()
        except (errors.ClusterError, TimeoutError) as error:
            log.warning("the operator's key Secrets could not be checked", extra={"error": str(error)})
        except Exception:  # the task must last for the operator's lifetime
            log.exception("the operator's key Secrets could not be checked")

    async def _put_back(self, manifest: Object) -> None:
        try:
            await self._cluster.create(manifest)
        except errors.AlreadyExists:
            return  # the next check compares its key
        where = f"{manifest['metadata']['namespace']}/{manifest['metadata']['name']}"
        log.warning("a Secret with a key of the operator's was deleted; it was put back", extra={"secret": where})


def _manifest(secret: Object) -> Object:
    """Return the manifest that creates the same Secret again."""
    meta = secret["metadata"]
    kept = {key: meta[key] for key in ("name", "namespace", "labels", "annotations") if key in meta}
    immutable = {"immutable": True} if secret.get("immutable") else {}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": kept, **immutable, "data": secret["data"]}
