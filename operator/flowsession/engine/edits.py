"""Saved edits of flow folders: sealed when they are written, opened for the next session, and deleted when they are too old."""

import base64
import json
import logging
import zlib
from dataclasses import replace
from typing import Any

from flowsession.cluster import errors
from flowsession.cluster.gateway import KubernetesCluster
from flowsession.cluster.vault import UnsealError, Vault
from flowsession.engine import provenance
from flowsession.engine.provenance import Origin
from flowsession.engine.queue import Queue
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.keys import Key
from flowsession.manifests.config_maps import EDITS, selector
from flowsession.manifests.saved_edits import SEQUENCE_ANNOTATION, USER_ANNOTATION
from flowsession.manifests.session_pod import ENVIRONMENT_LABEL, USER_LABEL, user_label
from flowsession.model import times
from flowsession.model.agent_views import SavedEdits
from flowsession.model.plan import FetchEdits, Manifest, Sealed

log = logging.getLogger(__name__)

Metadata = dict[str, Any]

ENTRY = "edits.sealed"
MOST_KEPT = 5
"""Saved edits that are kept for one user and environment. Only those that no session restored accumulate."""

MOST_READ = 10
"""Saved edits that are read, newest first, to find some that open; each may have 1 MiB."""

LARGEST_HEAD = 4 * 1024 * 1024
PRUNE_SECONDS = 3600.0
DAY = 86_400.0


class Edits:
    """Keeps archives in memory only between a session's start and the agent's answer, since each may have 1 MiB."""

    def __init__(self, cluster: KubernetesCluster, cache: Cache, queue: Queue[Key], vault: Vault, *, retention_days: int) -> None:
        self._cluster = cluster
        self._cache = cache
        self._queue = queue
        self._vault = vault
        self._retention = retention_days * DAY
        self._pruned_at = 0.0

    def mark(self, manifest: Manifest) -> Manifest:
        """Return the manifest to create; a session's pod gets the seal that later proves whose edits it has."""
        return provenance.seal(manifest, self._vault, self._cache.clock())

    async def take_over(self) -> None:
        """Record the owners of pods whose sessions were deleted while no operator ran: their agents keep unsaved edits for a while."""
        for pod in list(self._cache.pods.values()):
            session = self._cache.sessions.get((pod.view.namespace, pod.session)) if pod.session else None
            origin = provenance.read(pod, self._vault) if pod.provenance else None
            if origin is None or (session is not None and session.meta.uid == pod.owner_uid):
                continue
            since = await self._saved_last(pod.view.namespace, origin)
            entry = origin.entry(pod.view.namespace, {"savedAt": times.stamp(since)} if since else {})
            log.info("the session of a pod is gone", extra={"key": f"{pod.view.namespace}/{pod.view.name}", "session": origin.session})
            self._queue.add_all(self._cache.departed.note(entry, origin.environment_uid, [pod], self._cache.clock()))

    async def _saved_last(self, namespace: str, origin: Origin) -> float:
        """Return when edits of this user and environment were last saved, in seconds since 1970; 0: never. New ones must be newer."""
        wanted = FetchEdits(namespace, origin.environment, origin.environment_uid, origin.user, 0)
        latest = self._cache.clock() + DAY  # a number further ahead is from no working clock
        try:
            numbers = [_sequence(meta) / 1000 for meta in await self._listed(wanted)]
            return max((number for number in numbers if number <= latest), default=0.0)
        except errors.ClusterError as error:
            log.warning("saved edits can't be listed", extra={"key": f"{namespace}/{origin.session}", "error": str(error)})
            return 0.0

    async def _listed(self, wanted: FetchEdits) -> list[Metadata]:
        labels = selector(EDITS, {ENVIRONMENT_LABEL: wanted.environment, USER_LABEL: user_label(wanted.user)})
        listed = [meta async for meta in self._cluster.metadata("ConfigMap", wanted.namespace, labels=labels)]
        return [meta for meta in listed if _is_for(meta, wanted)]

    def seal(self, manifest: Manifest, content: Sealed) -> dict[str, Any]:
        """Return the manifest with the content sealed for this operator and its successors."""
        head = zlib.compress(json.dumps(dict(content.about), separators=(",", ":")).encode())
        plain = len(head).to_bytes(4, "big") + head + base64.b64decode(content.archive)
        sealed = self._vault.seal(plain, bound_to=_place(manifest["metadata"], _owner(manifest["metadata"])))
        return {**manifest, "binaryData": {ENTRY: base64.b64encode(sealed).decode()}}

    def wrote(self, body: dict[str, Any]) -> bool:
        """Return whether an operator with this key wrote this ConfigMap, for this place and this owner."""
        return self._opened(body, _owner(body["metadata"])) is not None

    async def fetch(self, key: Key, uid: str, wanted: FetchEdits) -> None:
        """Read the newest edits that this user saved of this environment (by uid) into the cache. Raises ClusterError."""
        saved = None
        try:
            found = sorted(await self._listed(wanted), key=_sequence, reverse=True)
            saved = await self._newest(found, wanted)
            if not (saved and saved.ignored):  # else it is unknown which of them are the operator's own
                await self._keep_few(found)
        except errors.NamespaceTerminating:
            raise
        except (errors.Rejected, errors.NotFound) as error:
            log.warning("saved edits can't be read", extra={"key": f"{key.namespace}/{key.name}", "error": str(error)})
        self._cache.saved[uid] = (wanted.incarnation, saved)
        self._queue.add(key)

    async def prune(self) -> None:
        """Delete edits older than the retention whose user has no session of the environment, once an hour. Raises ClusterError."""
        now = self._cache.clock()
        if now - self._pruned_at < PRUNE_SECONDS:
            return
        self._pruned_at = now
        sessions = self._cache.sessions.values()
        living = {(entry.meta.namespace, entry.spec.environment_ref.name, user_label(entry.spec.user)) for entry in sessions}
        old = [
            meta
            async for meta in self._cluster.metadata("ConfigMap", labels=selector(EDITS, {}))
            if now - (times.parse(meta["creationTimestamp"]) or now) > self._retention and _whose(meta) not in living
        ]
        for meta in old:
            await self._remove(meta)

    async def _newest(self, found: list[Metadata], wanted: FetchEdits) -> SavedEdits | None:
        """Return the newest edits that open and have an archive, with why later ones are lost and which ones don't open."""
        ignored: list[str] = []
        lost = ""
        newest = SavedEdits()
        for meta in found[:MOST_READ]:
            try:
                body = await self._cluster.get("ConfigMap", wanted.namespace, meta["name"])
            except errors.NotFound:
                continue
            read = self._opened(body, wanted.environment_uid)
            if read is None:
                ignored.append(meta["name"])
                log.warning("not saved by this operator: ignored", extra={"object": f"{wanted.namespace}/{meta['name']}"})
            elif read.archive:
                newest = read
                break
            else:
                lost = lost or f"what session {read.session} edited after that is lost: {read.lost}"
        if not (newest.name or lost or ignored):
            return None
        return replace(newest, lost=lost, ignored=tuple(ignored))

    async def _keep_few(self, found: list[Metadata]) -> None:
        """Delete all but the newest MOST_KEPT. A failure does not affect the session; the next fetch tries again."""
        for old in found[MOST_KEPT:]:
            try:
                await self._remove(old)
            except errors.ClusterError as error:
                log.warning("old saved edits stay", extra={"object": f"{old['namespace']}/{old['name']}", "error": str(error)})

    async def _remove(self, meta: Metadata) -> None:
        try:
            await self._cluster.delete("ConfigMap", meta["namespace"], meta["name"], uid=meta["uid"])
        except (errors.NotFound, errors.Conflict):
            return

    def _opened(self, body: dict[str, Any], environment_uid: str) -> SavedEdits | None:
        """Return the content, or None if another operator wrote it, or it is for another place or owner."""
        meta = body["metadata"]
        try:
            sealed = base64.b64decode((body.get("binaryData") or {}).get(ENTRY, ""))
            plain = self._vault.open(sealed, bound_to=_place(meta, environment_uid if _owner(meta) else ""))
            length = int.from_bytes(plain[:4], "big")
            about = json.loads(zlib.decompressobj().decompress(plain[4 : 4 + length], LARGEST_HEAD))
            return SavedEdits(
                name=meta["name"],
                saved_at=str(about["savedAt"]),
                session=str(about["session"]),
                revision=str(about["revision"]),
                flow_revision=str(about["flowRevision"]),
                deleted=tuple(map(str, about["deleted"])),
                base=dict(about["base"]),
                archive=base64.b64encode(plain[4 + length :]).decode(),
                lost=str(about.get("lost", "")),
            )
        except (UnsealError, ValueError, KeyError, TypeError, AttributeError, zlib.error):
            return None


def given(cache: Cache, key: Key) -> None:
    """Drop the archive of a session's saved edits, which the agent has now, and keep the rest."""
    entry = cache.sessions.get((key.namespace, key.name))
    known = cache.saved.get(entry.meta.uid) if entry else None
    if entry and known and known[1]:
        cache.saved[entry.meta.uid] = (known[0], replace(known[1], archive=""))


def _place(meta: Manifest, environment_uid: str) -> bytes:
    """Return what saved edits are bound to: they don't open with another namespace, owner, user, name or sequence number."""
    annotations = meta.get("annotations") or {}
    parts = [meta["namespace"], environment_uid, annotations.get(USER_ANNOTATION), meta["name"], annotations.get(SEQUENCE_ANNOTATION)]
    return json.dumps(parts).encode()


def _owner(meta: Manifest) -> str:
    return next((str(owner.get("uid")) for owner in meta.get("ownerReferences") or ()), "")


def _is_for(meta: Metadata, wanted: FetchEdits) -> bool:
    """Return whether edits are of this user and this environment's uid: labels hold only the user's hash and the environment's name."""
    owners = {owner["uid"] for owner in meta.get("ownerReferences", ())}
    return (meta.get("annotations") or {}).get(USER_ANNOTATION) == wanted.user and owners <= {wanted.environment_uid}


def _whose(meta: Metadata) -> tuple[str, str, str]:
    labels = meta.get("labels") or {}
    return meta["namespace"], labels.get(ENVIRONMENT_LABEL, ""), labels.get(USER_LABEL, "")


def _sequence(meta: Metadata) -> int:
    """Return the sequence number that edits are sealed with, 0 if it is invalid; with a wrong one they don't open."""
    number = (meta.get("annotations") or {}).get(SEQUENCE_ANNOTATION, "")
    return int(number) if number.isascii() and number.isdigit() and len(number) < 19 else 0
