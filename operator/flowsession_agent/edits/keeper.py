"""Sees that edits are saved: looks for new ones, says so to the operator, and puts the pod's end off until they are taken.

What it sends is a datagram with the pod's uid: the operator then asks for the edits as it does before any end. Nothing is sent while
nothing waits, and what is not heeded is said again after ever longer pauses.
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
"""The share of a core that looking at the files may take."""
QUIET_SECONDS = 3.0
"""So long nothing must have changed before edits are said to wait ..."""
LONGEST_UNQUIET_SECONDS = 12.0
"""... but no longer than this is waited for that."""
LAST_PAUSE = 1.0
"""Between two datagrams while the container is being stopped."""
UNHEARD_AFTER = 3
"""Datagrams that nobody heeded, after which the state says so, for an operator that asks for another reason."""
GRACE_SHARE = 2 / 3
"""The part of the pod's grace period that edits which nobody takes may use up."""


class Keeper:
    """`unsaved` gives the revision of the edits that nobody has dealt with, empty for none; `say` sends one datagram."""

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
        """Whether edits wait although that was said again and again."""
        return self._reminder.sent > UNHEARD_AFTER

    def look(self) -> None:
        """Look once, and say what is to be said; `pause` is how long to wait for the next look."""
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
        """Look for ever."""
        while True:
            time.sleep(self.pause)
            try:
                self.look()
            except Exception as error:  # a folder that can't be read for a moment must not end this for good
                print(f"flowsession agent: looking for edits failed: {error!r}", file=sys.stderr, flush=True)

    def end(self) -> None:
        """The container is being stopped: what is unsaved by now may be taken while the session's processes end."""
        try:
            waits = self._unsaved()
        except OSError:
            return
        if waits:
            self._say(True)

    def hand_over(self, *, since: float, meanwhile: Callable[[], object], sleep: Callable[[float], None] = time.sleep) -> bool:
        """While the container is being stopped, by the clock `since`: wait until nothing is unsaved, or for a part of the grace period.

        Returns whether all was dealt with.
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
