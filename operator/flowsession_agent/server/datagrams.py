"""Datagrams to the operator: a pod's UID and one word, on which the operator queries this agent. Sent only while there is news."""

from __future__ import annotations

import socket
import time

from flowsession_protocol.datagrams import message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 60.0
"""Seconds between two datagrams about the same news, since they may get lost: the first pause and the longest."""


class Reminder:
    """The schedule for sending news until the operator asks for it: at once, then after 5, 10, 20 ... 60 seconds."""

    def __init__(self) -> None:
        self.sent = 0
        self._next_at = float("-inf")

    def due(self, now: float) -> bool:
        """Return whether to send now; if so, start the next pause."""
        if now < self._next_at:
            return False
        self._next_at = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.sent, 10))
        self.sent += 1
        return True

    def heeded(self) -> None:
        """Reset the schedule, since the operator has asked: the next news is sent at once."""
        self.sent = 0
        self._next_at = float("-inf")


class News:
    """Calls `say` about the newest news, identified by its id, until the operator has received it in a response."""

    def __init__(self, say: Callable[[], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._answered = ""
        self._reminder = Reminder()

    def look(self, newest: str) -> None:
        """Call `say` if there is news and a datagram is due. `newest` is the id of the news, empty if there is no news."""
        if newest == self._answered:
            self._reminder.heeded()
        elif self._reminder.due(self._clock()):
            self._say()

    def answered(self, newest: str) -> None:
        """Record the id of the news that the operator has received."""
        self._answered = newest


def send(address: str, pod_uid: str, word: str) -> None:
    """Send one datagram to HOST:PORT. Errors are ignored: the datagram is repeated until the operator asks."""
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)
        family, kind, protocol, _, target = found[0]
        with socket.socket(family, kind, protocol) as sender:
            sender.setblocking(False)
            sender.sendto(message(pod_uid, word), target)
    except (OSError, ValueError, IndexError):
        return
