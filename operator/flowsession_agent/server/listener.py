"""The two listeners, the pod's port and the Unix socket: accept, check the token, respond. Callers without a token can't block them."""

from __future__ import annotations

import contextlib
import sys
import threading
import time

from flowsession_agent.errors import ApiError
from flowsession_agent.server import tokens
from flowsession_agent.server.wire import GoneError, Wire
from flowsession_protocol import TOKEN_HEADER

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any, Mapping

    from flowsession_agent.server.agent import Agent
    from flowsession_agent.server.tokens import Keys
    from flowsession_agent.server.wire import Request

CONNECTIONS_LIMIT = 32
FIRST_HEAD_SECONDS = 5
NEXT_HEAD_SECONDS = 30
BODY_SECONDS = 60


class Caller:
    """One accepted connection; `trusted` once it has presented a valid token."""

    def __init__(self, connection: socket.socket, peer: str) -> None:
        self.connection = connection
        self.peer = peer
        self.trusted = False


class Listener:
    """One listening socket. If `keys` is None, whoever can connect may call (the Unix socket, mode 0600)."""

    def __init__(self, listener: socket.socket, *, agent: Agent, keys: Keys | None) -> None:
        self._listener = listener
        self._agent = agent
        self._keys = keys
        self._callers: list[Caller] = []
        self._lock = threading.Lock()

    def open(self) -> None:
        """Start to serve, in separate threads."""
        self._agent.children.thread(self._accept, name="accept")

    def _accept(self) -> None:
        while True:
            try:
                connection, address = self._listener.accept()
            except OSError:  # out of descriptors, or the caller is already gone
                time.sleep(0.05)
                continue
            caller = Caller(connection, str(address[0]) if address else "")
            self._admit(caller)
            try:
                self._serve_in_a_thread(caller)
            except RuntimeError:  # the pod's thread limit
                self._dismiss(caller)

    def _serve_in_a_thread(self, caller: Caller) -> None:
        self._agent.children.thread(lambda: self._serve(caller), name="call")

    def _admit(self, caller: Caller) -> None:
        """Add a connection. At the limit, close the busiest peer's oldest one, preferring those without a token."""
        with self._lock:
            if len(self._callers) >= CONNECTIONS_LIMIT:
                candidates = [known for known in self._callers if not known.trusted] or self._callers
                peers = [known.peer for known in candidates]
                busiest = max(peers, key=peers.count)
                victim = next(known for known in candidates if known.peer == busiest)
                self._callers.remove(victim)
                _hang_up(victim.connection)
            self._callers.append(caller)

    def _dismiss(self, caller: Caller) -> None:
        with self._lock:
            if caller in self._callers:
                self._callers.remove(caller)
        caller.connection.close()

    def _serve(self, caller: Caller) -> None:
        wire = Wire(caller.connection)
        try:
            while self._answer_one(caller, wire):
                pass
        except GoneError:
            return
        finally:
            self._dismiss(caller)

    def _answer_one(self, caller: Caller, wire: Wire) -> bool:
        """Read one request and respond; return whether the connection stays open."""
        with contextlib.ExitStack() as answering:
            return self._answer(caller, wire, answering)

    def _answer(self, caller: Caller, wire: Wire, answering: contextlib.ExitStack) -> bool:
        status, keep_alive, refused_early = 200, False, True
        try:
            request = wire.read_head(within=NEXT_HEAD_SECONDS if caller.trusted else FIRST_HEAD_SECONDS)
            self._check(request, caller)
            body = wire.read_body(request, within=BODY_SECONDS if caller.trusted else FIRST_HEAD_SECONDS)
            refused_early, keep_alive = False, request.keep_alive
            if request.method != "GET":
                answering.enter_context(self._agent.unanswered)
            members: Mapping[str, Any] = self._health(request) if request.path == "/healthz" else self._agent.call(request, body)
        except ApiError as error:
            status = error.status
            members = {"podUID": self._agent.pod_uid, "code": error.code, "message": error.message, **error.members}
        except GoneError:
            raise
        except Exception as error:
            self._log_failure(error)
            status, keep_alive = 500, False
            members = {"podUID": self._agent.pod_uid, "code": "InternalError", "message": f"The agent failed: {type(error).__name__}."}
        keep_alive = wire.answer(status, members, keep_alive=keep_alive)
        if status == 200 and self._keys is not None:
            self._agent.answered(members)
        if refused_early:
            wire.drain(within=FIRST_HEAD_SECONDS)
        return keep_alive

    def _check(self, request: Request, caller: Caller) -> None:
        """Raise ApiError for a call without a valid token. /healthz needs no token and takes no body."""
        if request.path == "/healthz":
            if request.length:
                raise ApiError(413, "TooLarge", "/healthz takes no body.")
            return
        if self._keys is not None:
            tokens.check(request.headers.get(TOKEN_HEADER.lower()), keys=self._keys, audience=self._agent.pod_uid)
        caller.trusted = True

    def _health(self, request: Request) -> dict[str, Any]:
        if request.method != "GET":
            raise ApiError(405, "MethodNotAllowed", f"/healthz takes GET, not {request.method}.")
        return {"ok": True, "podUID": self._agent.pod_uid}

    def _log_failure(self, error: Exception) -> None:
        import traceback

        traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(2)
    except OSError:
        return
