"""The tokens that agents require: JWTs signed with the operator's own key, valid for one pod and one minute."""

import base64
import hashlib
import json
import time
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from flowsession.cluster import errors
from flowsession.cluster.gateway import KubernetesCluster
from flowsession_protocol import TOKEN_SECONDS

SECRET = "flowsession-agent-keys"  # noqa: S105 - a name
REUSED_SECONDS = 20
"""Seconds for which a token is reused: a start calls its agent several times, and signing is the most expensive part of a call."""
MOST_REUSED = 1000
"""Maximum number of tokens kept."""


class Signer:
    """Signs tokens with one RSA key; only the public half ever leaves the operator."""

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        self._key = key
        numbers = key.public_key().public_numbers()
        modulus = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")
        exponent = numbers.e.to_bytes(3, "big")
        self._kid = hashlib.sha256(modulus).hexdigest()[:16]
        self._head = _b64(json.dumps({"alg": "RS256", "kid": self._kid, "typ": "JWT"}).encode())
        self.public_keys = json.dumps({"keys": [{"kty": "RSA", "kid": self._kid, "n": _b64(modulus), "e": _b64(exponent)}]})
        """The key set that pods get, as JSON."""
        self._lately: dict[tuple[str, float], tuple[float, str]] = {}
        """By pod and clock offset: when the last token was signed, by the operator's clock, and the token."""

    def token(self, pod_uid: str, *, clock_offset: float = 0.0) -> str:
        """Return a token for one pod. `clock_offset`: seconds by which the pod's clock is ahead of the operator's."""
        signed_at, lately = time.time(), self._lately.get((pod_uid, clock_offset))
        if lately and 0.0 <= signed_at - lately[0] < REUSED_SECONDS:
            return lately[1]
        if len(self._lately) >= MOST_REUSED:
            self._lately.clear()
        token = self._sign(pod_uid, int(signed_at + clock_offset))
        self._lately[pod_uid, clock_offset] = (signed_at, token)
        return token

    def _sign(self, pod_uid: str, now: int) -> str:
        claims: dict[str, Any] = {"aud": pod_uid, "iat": now, "exp": now + TOKEN_SECONDS}
        signed = f"{self._head}.{_b64(json.dumps(claims).encode())}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_b64(signature)}"


async def load_signer(cluster: KubernetesCluster, namespace: str) -> Signer:
    """Return the signer with the key in the operator's Secret, which the first operator to start creates. Raises ClusterError."""
    try:
        secret = await cluster.get("Secret", namespace, SECRET)
    except errors.NotFound:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "flowsession"}},
            "data": {"private.pem": base64.b64encode(pem).decode()},
        }
        try:
            secret = await cluster.create(manifest)
        except errors.AlreadyExists:
            secret = await cluster.get("Secret", namespace, SECRET)
    try:
        loaded = serialization.load_pem_private_key(base64.b64decode(secret["data"]["private.pem"]), password=None)
    except (KeyError, TypeError, ValueError):
        loaded = None
    if not isinstance(loaded, rsa.RSAPrivateKey):
        raise errors.Rejected(f"Secret {namespace}/{SECRET} holds no RSA key; delete it and restart the operator to have one made")
    return Signer(loaded)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
