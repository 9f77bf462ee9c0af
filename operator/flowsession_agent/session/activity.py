"""Track when the session last worked, by the agent's own work and its processes, and refuse new work while the session retires."""

from __future__ import annotations

import contextlib
import threading
import time

from flowsession_agent.errors import ApiError, retired

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterator

    from flowsession_agent.server.state import State
    from flowsession_agent.session.processes import ProcessActivity
    from flowsession_protocol import messages


RETIREMENT_SECONDS = 30
"""Seconds after which new work is accepted again, in case the operator died between retiring the session and ending it."""

AWAY_SECONDS = 3
"""Seconds between two looks, usually half a second apart, beyond which the agent was stopped, frozen or starved. It saw no work then, and
perhaps none was possible, so this time never counts as idle."""


class Activity:
    """The one clock of idleness. `look` returns what processes are doing, by the same clock. It is called with the lock held.

    So is `edited`, which returns when a file of the flow folder last changed (0: never) and which, with True after a scan of all files.
    """

    def __init__(
        self,
        *,
        state: State,
        look: Callable[[], ProcessActivity],
        edited: Callable[[bool], tuple[float, str]] = lambda _: (0.0, ""),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = state
        self._look = look
        self._edited = edited
        self._clock = clock
        self._lock = threading.RLock()
        self._running: list[str] = []
        self._seen = ""
        self._last_at = self._sampled_at = clock()
        self._last_what = "start"
        self._retired_at = 0.0

    @contextlib.contextmanager
    def work(self, what: str) -> Iterator[None]:
        """Count as busy while the block runs. Raises ApiError if the session is retired."""
        self.begin(what)
        try:
            yield
        finally:
            self.end(what)

    def begin(self, what: str) -> None:
        """Begin work that ends in another thread. Raises ApiError if the session is retired."""
        with self._lock:
            if self._state.retired:
                raise retired()
            self._running.append(what)
            self._touch(what)

    def end(self, what: str) -> None:
        """End work begun with `begin`."""
        with self._lock:
            self._running.remove(what)
            self._touch(what)

    def sample(self, *, thorough: bool = False) -> None:
        """Look at the processes and the flow folder. The sampler calls this twice a second. `thorough`: scan all files at any cost."""
        with self._lock:
            if self._state.retired and self._clock() - self._retired_at > RETIREMENT_SECONDS:
                self._set_retired(False)
            look = self._look()
            edited_at, edited = self._edited(thorough)
            now, before, self._seen = self._clock(), self._sampled_at, look.now
            self._sampled_at = now
            if look.at > self._last_at:
                self._last_at, self._last_what = look.at, look.what or self._last_what
            if edited_at > self._last_at:
                self._last_at, self._last_what = edited_at, f"edit {edited}"
            if now - before > AWAY_SECONDS:
                self._touch(self._last_what)

    def retire(self, *, idle_at_least: float) -> None:
        """Refuse new work from now on. Raises ApiError with 409 if something works now, or did in the last `idle_at_least` seconds."""
        with self._lock:
            self.sample(thorough=True)
            activity = self.members()
            if activity["busy"] or self._clock() - self._last_at < idle_at_least:
                self.reopen()  # a terminal may have been opened since: `kubectl exec` can't be refused
                raise ApiError(409, "InUse", _in_use(activity), activity=activity)
            self._retired_at = self._clock()
            if not self._state.retired:
                self._set_retired(True)

    def reopen(self) -> None:
        """Accept new work again."""
        with self._lock:
            if self._state.retired:
                self._set_retired(False)

    def members(self) -> messages.Activity:
        """Return the object under `activity` in the protocol."""
        with self._lock:
            busy = bool(self._running or self._seen)
            what = self._running[-1] if self._running else self._seen or self._last_what
            until = self._sampled_at if self._seen else self._clock()
            return {"busy": busy, "idleSeconds": 0 if self._running else int((until - self._last_at) * 10) / 10, "what": what}

    def _touch(self, what: str) -> None:
        self._last_at = self._clock()
        self._last_what = what

    def _set_retired(self, value: bool) -> None:
        def edit() -> None:
            self._state.retired = value

        self._state.change(edit)


def _in_use(activity: messages.Activity) -> str:
    if activity["busy"]:
        return f"The session is in use: {activity['what']}."
    return f"The session was in use {activity['idleSeconds']:.0f} s ago: {activity['what']}."
