"""A small synchronous client of the private API server: plain dicts in and out, and waiting for a condition with a deadline."""

import json
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import urllib3

import polling

Object = dict[str, Any]
T = TypeVar("T")

FLOWSESSION = "/apis/flowsession.dev/v1alpha1"
MERGE = "application/merge-patch+json"


class Refused(Exception):
    """A response that is not 2xx."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"HTTP {status}: {body}")
        self.status = status
        try:
            self.message = str(json.loads(body)["message"])
        except (ValueError, KeyError, TypeError):
            self.message = body


class Api:
    """The API server as seen by the administrator, or by a user whom the administrator impersonates. Bypasses the recorder."""

    def __init__(self, server: str, token: str, ca: Path, *, acting_for: str = "") -> None:
        self.server = server
        self.token = token
        self.ca = ca
        self._acting_for = acting_for
        self._http = urllib3.PoolManager(ssl_context=ssl.create_default_context(cafile=str(ca)), maxsize=8, retries=False, timeout=60)

    def call(self, method: str, path: str, body: Object | None = None, *, content_type: str = "application/json", accept: str = "") -> Any:
        """Return the decoded response. Raises Refused."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type, "Accept": accept or "application/json"}
        if self._acting_for:
            headers["Impersonate-User"] = self._acting_for
        answer = self._http.request(method, self.server + path, body=json.dumps(body) if body is not None else None, headers=headers)
        if answer.status >= 300:
            raise Refused(answer.status, answer.data.decode())
        return json.loads(answer.data)

    def acting_for(self, user: str) -> "Api":
        """Return the same client as this user."""
        return Api(self.server, self.token, self.ca, acting_for=user)

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def find(self, path: str) -> Any:
        """Return the object, or None if it does not exist."""
        try:
            return self.get(path)
        except Refused as error:
            if error.status == 404:
                return None
            raise

    def post(self, path: str, body: Object) -> Any:
        return self.call("POST", path, body)

    def patch(self, path: str, body: Object) -> Any:
        return self.call("PATCH", path, body, content_type=MERGE)

    def delete(self, path: str, body: Object | None = None) -> None:
        """Delete the object. Accept that it is gone already."""
        try:
            self.call("DELETE", path, body)
        except Refused as error:
            if error.status != 404:
                raise

    def watch(self, path: str) -> Iterator[Object]:
        """Yield events until the server ends the stream or sends nothing for 30 s."""
        answer = self._http.request(
            "GET",
            f"{self.server}{path}",
            headers={"Authorization": f"Bearer {self.token}"},
            preload_content=False,
            timeout=urllib3.Timeout(connect=5, read=30),
        )
        rest = b""
        try:
            for chunk in answer.stream(None, decode_content=False):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line)
        finally:
            answer.close()


def eventually(ask: Callable[[], T], *, seconds: float = 90, what: str = "") -> T:
    """Return the first true result of `ask`. An AssertionError in `ask` means "not yet" and is raised at the timeout."""
    began = time.monotonic()
    deadline = began + seconds
    while True:
        failure: AssertionError | None = None
        answer: Any = None
        try:
            answer = ask()
        except AssertionError as error:
            failure = error
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise failure or AssertionError(f"not within {seconds} s: {what or ask}")
        time.sleep(polling.pause(time.monotonic() - began))


def stays(ask: Callable[[], object], *, seconds: float) -> None:
    """Assert that `ask` stays true for this long. What must not happen gives nothing to wait for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert ask()
        time.sleep(0.05)
