"""A real OCI registry (github.com/distribution/distribution) on this machine, and functions to push to it. Only for tests."""

import base64
import hashlib
import json
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import urllib3
import yaml
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from localcluster import binaries, wait
from localcluster.ports import free_port
from localcluster.say import CannotContinue

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
_ANY = {"Accept": f"{MANIFEST}, {INDEX}, application/vnd.docker.distribution.manifest.v2+json"}
BASE = "org.opencontainers.image.base"


class Registry:
    """A registry on plain HTTP. With `tokens` it requires a token of that token service."""

    def __init__(self, folder: Path, *, tokens: "Tokens | None" = None) -> None:
        binaries.build(binaries.REGISTRY)
        self.host = f"127.0.0.1:{free_port()}"
        self.tokens = tokens
        settings: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": self.host},
        }
        if tokens is not None:
            (folder / "jwks.json").write_text(json.dumps(tokens.jwks))
            settings["auth"] = {"token": {"realm": tokens.realm, "service": "tests", "issuer": "tests", "jwks": str(folder / "jwks.json")}}
        file = folder / "registry.yaml"
        file.write_text(yaml.safe_dump(settings))
        self._http = urllib3.PoolManager()
        with (folder / "registry.log").open("wb") as log:
            self._process = subprocess.Popen([binaries.REGISTRY.binary("registry"), "serve", file], stdout=log, stderr=log)
        if not wait.until(self._serves, seconds=20, saying="the registry"):
            self.stop()
            raise CannotContinue(f"the registry does not serve; see {folder}/registry.log")

    def stop(self) -> None:
        """Stop the registry. Its folder keeps what was pushed."""
        self._process.kill()
        self._process.wait()

    def push(self, name: str, *, labels: Mapping[str, str] | None = None, annotations: Mapping[str, str] | None = None) -> str:
        """Push an image without layers as `repository:tag`, and return its digest."""
        repository, _, tag = name.partition(":")
        return self._put_image(repository, tag, labels or {}, annotations or {})

    def digest(self, name: str) -> str:
        """Return the digest that a tag refers to now."""
        repository, _, tag = name.partition(":")
        return self._request("HEAD", repository, f"manifests/{tag}", headers=_ANY).headers["Docker-Content-Digest"]

    def tag(self, name: str, other: str) -> None:
        """Make another tag of the same repository refer to this image."""
        repository, _, tag = name.partition(":")
        found = self._request("GET", repository, f"manifests/{tag}", headers=_ANY)
        headers = {"Content-Type": found.headers["Content-Type"]}
        self._request("PUT", repository, f"manifests/{other.partition(':')[2]}", body=found.data, headers=headers)

    def push_index(self, name: str, *platforms: Mapping[str, str]) -> tuple[str, list[str]]:
        """Push an index with one image for each mapping of labels. Return its digest, and the images' digests."""
        repository, _, tag = name.partition(":")
        digests = [self._put_image(repository, "", labels, {}) for labels in platforms]
        entries = [
            {"mediaType": MANIFEST, "digest": digest, "size": 1, "platform": {"os": "linux", "architecture": f"a{number}"}}
            for number, digest in enumerate(digests)
        ]
        for entry in entries:
            entry["size"] = len(self._request("GET", repository, f"manifests/{entry['digest']}", headers={"Accept": MANIFEST}).data)
        return self._put_manifest(repository, tag, {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}), digests

    def _put_image(self, repository: str, tag: str, labels: Mapping[str, str], annotations: Mapping[str, str]) -> str:
        configuration = {
            "architecture": "amd64",
            "os": "linux",
            "created": datetime.now(UTC).isoformat(),
            "config": {"Labels": dict(labels)},
            "rootfs": {"type": "layers", "diff_ids": []},
        }
        blob = json.dumps(configuration).encode()
        digest = _digest(blob)
        begun = self._request("POST", repository, "blobs/uploads/")
        location = begun.headers["Location"]
        joined = f"{location}{'&' if '?' in location else '?'}digest={digest}"
        self._request("PUT", repository, joined, body=blob, headers={"Content-Type": "application/octet-stream"})
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(blob)},
            "layers": [],
            **({"annotations": dict(annotations)} if annotations else {}),
        }
        return self._put_manifest(repository, tag, manifest)

    def _put_manifest(self, repository: str, tag: str, manifest: dict[str, Any]) -> str:
        body = json.dumps(manifest).encode()
        self._request("PUT", repository, f"manifests/{tag or _digest(body)}", body=body, headers={"Content-Type": manifest["mediaType"]})
        return _digest(body)

    def _request(
        self, method: str, repository: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        url = path if path.startswith("http") else f"http://{self.host}/v2/{repository}/{path}"
        token = {"Authorization": f"Bearer {self.tokens.mint(repository, 'pull', 'push')}"} if self.tokens else {}
        answer = self._http.request(method, url, body=body, headers={**token, **(headers or {})})
        if answer.status >= 300:
            raise CannotContinue(f"{method} {url} was answered with {answer.status}: {answer.data[:500]!r}")
        return answer

    def _serves(self) -> bool:
        if self._process.poll() is not None:
            raise CannotContinue("the registry has ended; another program may listen on its port")
        try:
            return self._http.request("GET", f"http://{self.host}/v2/", retries=False).status in (200, 401)
        except urllib3.exceptions.HTTPError:
            return False


class Tokens:
    """The keys of the test's own token service (https://distribution.github.io/distribution/spec/auth/jwt)."""

    def __init__(self, realm: str) -> None:
        self.realm = realm
        self._key = rsa.generate_private_key(65537, 2048)
        numbers = self._key.public_key().public_numbers()
        self.jwks = {
            "keys": [{"kty": "RSA", "kid": "tests", "alg": "RS256", "use": "sig", "n": _number(numbers.n), "e": _number(numbers.e)}]
        }

    def mint(self, repository: str, *actions: str) -> str:
        """Return a token that gives access to one repository for a minute."""
        now = int(time.time())
        claims = {"iss": "tests", "sub": "", "aud": "tests", "iat": now, "nbf": now - 5, "exp": now + 60, "jti": str(now)}
        claims["access"] = [{"type": "repository", "name": repository, "actions": list(actions)}]
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "RS256", "kid": "tests"}, claims))
        return f"{signed}.{_encoded(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _number(value: int) -> str:
    return _encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
