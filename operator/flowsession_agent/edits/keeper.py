"""Gets edits saved: looks for new ones, notifies the operator, and delays the pod's end until they are taken.

A notification is a datagram with the pod's uid: the operator then requests the edits, as it does before any end. Nothing is sent while
no edits are waiting, and an unheeded datagram is repeated with growing pauses.
"""

from __future__ import annotations

import sys
import time

from flowsession_agent.server.datagrams import Reminder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

LOOK_SECONDS = 1.5
COST_SHARE = 0.01
"""The share of a core that scanning the files may take."""
QUIET_SECONDS = 3.0
"""Seconds without a change after which edits are reported as waiting."""
LONGEST_UNQUIET_SECONDS = 12.0
"""Seconds after the first change, after which edits are reported even if changes go on."""
LAST_PAUSE = 1.0
"""Seconds between two datagrams while the container is being stopped."""
UNHEARD_AFTER = 3
"""Unheeded datagrams after which the state has `unheard`, for an operator that requests the state for another reason."""
GRACE_SHARE = 2 / 3
"""The share of the pod's grace period spent waiting for edits that nobody takes."""


class Keeper:
    """Notifies of edits. `unsaved` returns the revision of edits not dealt with yet, empty for none; `say` sends one datagram."""

    def __init__(
        self, *, unsaved: Callable[[], str], say: Callable[[bool], None], grace_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._unsaved = unsaved
        self._say = say
        self._grace = grace_seconds * GRACE_SHARE
        self._clock = clock
        self._seen = ""
        self._first_at = self._changed_at = 0.0
        self._reminder = Reminder()
        self.pause = LOOK_SECONDS

    @property
    def unheard(self) -> bool:
        """Whether edits are waiting in spite of several datagrams."""
        return self._reminder.sent > UNHEARD_AFTER

    def look(self) -> None:
        """Look for edits once, and send a datagram if due. `pause` is then the time until the next look."""
        began = time.thread_time()
        revision, now = self._unsaved(), self._clock()
        self.pause = max(LOOK_SECONDS, (time.thread_time() - began) / COST_SHARE)
        if revision != self._seen:
            if not self._seen:
                self._first_at = now
            self._seen, self._changed_at = revision, now
        if not revision:
            self._reminder.heeded()
            return
        ripe = now - self._changed_at >= QUIET_SECONDS or now - self._first_at >= LONGEST_UNQUIET_SECONDS
        if ripe and self._reminder.due(now):
            self._say(False)

    def keep(self) -> None:
        """Look for edits forever."""
        while True:
            time.sleep(self.pause)
            try:
                self.look()
            except Exception as error:  # a folder that is unreadable for a moment must not end this loop
                print(f"flowsession agent: looking for edits failed: {error!r}", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Report edits when the container begins to stop, so that they can be taken while the session's processes end."""
        try:
            waits = self._unsaved()
        except OSError:
            return
        if waits:
            self._say(True)

    def hand_over(self, *, since: float, meanwhile: Callable[[], object], sleep: Callable[[float], None] = time.sleep) -> bool:
        """Wait until nothing is unsaved or a share of the grace period, which began at `since` by the clock, is over.

        Returns whether all edits were dealt with.
        """
        reported_at = float("-inf")
        while True:
            try:
                waits = self._unsaved()
            except OSError:
                waits = ""
            now = self._clock()
            if not waits or now - since >= self._grace:
                return not waits
            if now - reported_at >= LAST_PAUSE:
                self._say(True)
                reported_at = now
            meanwhile()
            sleep(0.05)
