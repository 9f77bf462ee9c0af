"""Encrypts what the operator keeps in ConfigMaps that others may read and write: only the operator can read it or write it validly.

AES-256-GCM with the operator's own key. The key signs nothing, so a new key for the agents' tokens loses no saved edits.
"""

import base64
import binascii
import os
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from flowsession.cluster import errors
from flowsession.cluster.gateway import KubernetesCluster

SECRET = "flowsession-edits-key"  # noqa: S105 - a name
ENTRY = "key"
KEY_BYTES = 32
NONCE_BYTES = 12
FORM = b"\x01"
"""First byte of sealed content, to distinguish this form from later ones."""


class UnsealError(Exception):
    """The content was not sealed with this key for this place: somebody else wrote it, or it was changed or moved."""


class Vault:
    """Seals and opens content with one key. `bound_to` names the content's place and owner, and must be the same for both."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, content: bytes, *, bound_to: bytes) -> bytes:
        """Return the sealed content, unreadable to others and different each time."""
        nonce = os.urandom(NONCE_BYTES)
        return FORM + nonce + self._cipher.encrypt(nonce, content, FORM + bound_to)

    def open(self, sealed: bytes, *, bound_to: bytes) -> bytes:
        """Return the opened content. Raises NotSealedHereError."""
        nonce = sealed[1 : 1 + NONCE_BYTES]
        if sealed[:1] != FORM or len(nonce) != NONCE_BYTES:
            raise UnsealError
        try:
            return self._cipher.decrypt(nonce, sealed[1 + NONCE_BYTES :], FORM + bound_to)
        except InvalidTag:
            raise UnsealError from None


async def load_vault(cluster: KubernetesCluster, namespace: str) -> Vault:
    """Return the vault with the key in the operator's Secret, which the first operator to start creates. Raises ClusterError."""
    try:
        secret = await cluster.get("Secret", namespace, SECRET)
    except errors.NotFound:
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "flowsession"}},
            "immutable": True,
            "data": {ENTRY: base64.b64encode(os.urandom(KEY_BYTES)).decode()},
        }
        try:
            secret = await cluster.create(manifest)
        except errors.AlreadyExists:
            secret = await cluster.get("Secret", namespace, SECRET)
    key = _key(secret)
    if len(key) != KEY_BYTES:
        wrong = f"Secret {namespace}/{SECRET} holds no key of {KEY_BYTES} bytes under {ENTRY!r}"
        raise errors.Rejected(f"{wrong}; put back the key that saved edits were sealed with, or delete the Secret and lose them")
    return Vault(key)


def _key(secret: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(secret["data"][ENTRY], validate=True)
    except (KeyError, TypeError, binascii.Error):
        return b""
