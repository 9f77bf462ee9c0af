"""Check the operator's tokens: compact JWTs, RS256, for this pod only and for a minute (RFC 7515, RFC 8017 section 8.2.2).

Written by hand: the standard library has no JWT, and verifying RSA is one `pow()`. Until the signature is verified, nothing that a caller
sends is parsed beyond the header's key id.
"""

from __future__ import annotations

import binascii
import json
import time
from _operator import _compare_digest

from flowsession_agent.digests import sha256
from flowsession_agent.errors import ApiError, StartError
from flowsession_protocol import TOKEN_HEADER, TOKEN_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

LEEWAY = 30
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")  # SHA-256 with parameters NULL, RFC 8017 section 9.2


class Keys:
    """The public keys by key id."""

    def __init__(self, key_set: str) -> None:
        """Raise StartError unless `key_set` is a JSON Web Key Set with at least one RSA key of 2048 to 8192 bits."""
        try:
            self._keys = dict(_rsa_key(key) for key in json.loads(key_set)["keys"] if key.get("kty") == "RSA")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise StartError(f"FLOWSESSION_PUBLIC_KEYS is not a JSON Web Key Set with RSA keys ({error}).") from error
        if not self._keys:
            raise StartError("FLOWSESSION_PUBLIC_KEYS holds no RSA key, so nobody could talk to the agent.")

    def verify(self, signed: bytes, signature: bytes, kid: str) -> bool:
        """Return whether `signature` is the RS256 signature of `signed` by the key named `kid`."""
        key = self._keys.get(kid)
        if key is None:
            return False
        modulus, exponent = key
        size = (modulus.bit_length() + 7) // 8
        number = int.from_bytes(signature, "big")
        if len(signature) != size or number >= modulus:
            return False
        found = pow(number, exponent, modulus).to_bytes(size, "big")
        suffix = DIGEST_INFO + sha256(signed).digest()
        wanted = b"\x00\x01" + b"\xff" * (size - len(suffix) - 3) + b"\x00" + suffix
        return _compare_digest(found, wanted)


def check(token: str | None, *, keys: Keys, audience: str, now: Callable[[], float] = time.time) -> None:
    """Raise ApiError with 401 unless `token` is signed by one of `keys`, is for `audience` and is valid at the time `now()`."""
    if not token:
        raise ApiError(401, "TokenMissing", f"The header {TOKEN_HEADER} is missing.")
    try:
        claims = _claims(token, keys)
        issued, expires = _seconds(claims["iat"]), _seconds(claims["exp"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise ApiError(401, "TokenInvalid", "The token is malformed, or not signed by a key that this pod knows.") from None
    if not 0 < expires - issued <= TOKEN_SECONDS:
        raise ApiError(401, "TokenInvalid", f"A token lives for at most {TOKEN_SECONDS} seconds.")
    if claims.get("aud") != audience:
        raise ApiError(401, "TokenNotForThisPod", "The token is for another pod: its audience is not this pod's UID.")
    clock = now()
    if not issued - LEEWAY <= clock < expires:
        raise ApiError(401, "TokenExpired", "The token is not valid now by the agent's clock, which `now` tells.", now=int(clock))


def _claims(token: str, keys: Keys) -> dict[str, Any]:
    head, claims, signature = token.encode("ascii").split(b".")
    header = json.loads(_decode(head))
    if header["alg"] != "RS256" or "crit" in header or not isinstance(header["kid"], str):
        raise ValueError("header")
    if not keys.verify(head + b"." + claims, _decode(signature), header["kid"]):
        raise ValueError("signature")
    body = json.loads(_decode(claims))
    if not isinstance(body, dict):
        raise ValueError("claims")
    return body


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**40:
        raise ValueError("time")
    return value


def _rsa_key(key: dict[str, Any]) -> tuple[str, tuple[int, int]]:
    modulus = int.from_bytes(_decode(key["n"].encode("ascii")), "big")
    exponent = int.from_bytes(_decode(key["e"].encode("ascii")), "big")
    if not 2048 <= modulus.bit_length() <= 8192 or not 3 <= exponent < 2**32 or not exponent & 1 or not isinstance(key["kid"], str):
        raise ValueError("a key is not RSA of 2048 to 8192 bits with a key id")
    return key["kid"], (modulus, exponent)


def _decode(data: bytes) -> bytes:
    """Decode base64url without padding (RFC 7515 appendix C). Raises ValueError for any other character."""
    if data.strip(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"):
        raise ValueError("not base64url")
    return binascii.a2b_base64(data.replace(b"-", b"+").replace(b"_", b"/") + b"=" * (-len(data) % 4))
