"""Follow an object: its present state and each change, across watches that end and connections that break."""

import sys
import time
from collections.abc import Iterator

from flowsession_cli.cluster import Cluster, Object
from flowsession_cli.errors import NotFound, Unreachable

_PAUSE_SECONDS = (0.5, 5.0)
"""Seconds before the API server is asked again: at first, and at most."""


def of(cluster: Cluster, kind: str, name: str, *, noun: str, deleted: str = "") -> Iterator[Object]:
    """Yield the object as it is and at each change, without end. Report a broken connection and connect again.

    Raises NotFound when the object is deleted. `deleted`: what that means, for the message.
    """
    first, lost, pause, gone = True, False, _PAUSE_SECONDS[0], f"{noun} {name} was deleted{deleted}"
    while True:
        try:
            if not first and cluster.find(kind, name) is None:  # a watch would wait for it forever
                raise NotFound(gone)
            with cluster.watch(kind, name) as changes:
                for change in changes:
                    if lost:
                        print("the cluster answers again", file=sys.stderr)
                    lost, pause = False, _PAUSE_SECONDS[0]
                    if change["type"] == "DELETED":
                        raise NotFound(gone)
                    yield change["object"]
        except Unreachable as error:
            if not lost:
                print(f"{error}; {noun} {name} goes on, and is looked for again until ^C", file=sys.stderr)
            lost = True
        first = False
        time.sleep(pause)
        pause = min(pause * 2, _PAUSE_SECONDS[1])
