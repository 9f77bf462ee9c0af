"""The duties of PID 1: reap, sample what the session does, and end it gracefully when the pod is deleted."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

from flowsession_protocol import EXIT_EDITS_UNSAVED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowsession_agent.server.agent import Agent

GRACE_SECONDS = 10
SAMPLE_SECONDS = 0.5
ANSWER_SECONDS = 1.0
"""Maximum wait at the end for responses to requests that changed something. One of these, settling the edits, triggers the end."""


def supervise(agent: Agent) -> int:
    """Wait for signals until one asks the agent to end, and exit with its exit code."""
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)  # a handler in Python, so that children start with the default one
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    adopt_orphans()
    agent.children.reap()  # processes that ended before the handler was set
    agent.children.thread(lambda: _sample(agent), name="sample")
    agent.children.thread(lambda: _run_periodic_duties(agent), name="count")
    agent.children.thread(agent.keeper.keep, name="edits")
    print(f"flowsession agent: serving pod {agent.pod_uid}", file=sys.stderr, flush=True)
    while True:
        numbers = os.read(wake, 64)
        agent.children.reap()
        asked_by = next((number for number in (signal.SIGTERM, signal.SIGINT) if number in numbers), None)
        if asked_by is not None:
            break
    asked_at = time.monotonic()
    agent.keeper.end()
    _end(agent)
    taken = agent.keeper.hand_over(since=asked_at, meanwhile=agent.children.reap)
    if not taken:
        print("flowsession agent: the last edits were not taken", file=sys.stderr)
    sys.stderr.flush()
    agent.unanswered.wait(seconds=ANSWER_SECONDS)
    os._exit(128 + asked_by if taken else EXIT_EDITS_UNSAVED)  # at once: threads that wait for a caller must not delay the pod's end


def _sample(agent: Agent) -> None:
    """Look at the processes twice a second. Begins late, so that nothing competes with the first response."""
    time.sleep(2 * SAMPLE_SECONDS)
    protect()
    while True:
        try:
            agent.activity.sample()
        except Exception as error:  # a momentarily unreadable /proc must not end idle detection for good
            print(f"flowsession agent: sampling failed: {error!r}", file=sys.stderr, flush=True)
        time.sleep(SAMPLE_SECONDS)


def _run_periodic_duties(agent: Agent) -> None:
    """Send datagrams, watch connections, end the runner in time, count packages. Separate from the looks, as each may take seconds."""
    while True:
        time.sleep(2 * SAMPLE_SECONDS)
        for duty in (
            agent.notify_kills,
            agent.notify_check_result,
            agent.connections.watch,
            agent.runners.end_unneeded,
            agent.packages.count,
        ):
            try:
                duty()
            except Exception as error:
                print(f"flowsession agent: {duty.__name__} failed: {error!r}", file=sys.stderr, flush=True)


def _end(agent: Agent) -> None:
    """Ask everything that the agent started to stop, SIGINT first (prompt flow loses its run's status on SIGTERM), and wait."""
    deadline = time.monotonic() + GRACE_SECONDS
    agent.children.ending = True
    for pid in agent.children.running():
        _signal(-pid, signal.SIGINT)
    for pid in _adopted(agent):
        _signal(pid, signal.SIGTERM)
    while time.monotonic() < deadline:
        agent.children.reap()
        if not agent.children.running() and not _adopted(agent):
            return
        time.sleep(0.02)
    for pid in agent.children.running():
        _signal(-pid, signal.SIGKILL)


def _adopted(agent: Agent) -> list[int]:
    """Return the processes that the agent adopted when their parents ended: somebody's `nohup`, a service that became a daemon."""
    from flowsession_agent.session.processes import Processes

    started = set(agent.children.running())
    return [pid for pid in Processes(children=agent.children).children() if pid not in started]


def _signal(target: int, number: int) -> None:
    """Signal a process, or the group -`target`, if it hasn't ended meanwhile."""
    try:
        os.kill(target, number)
    except OSError:
        return


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, as PID 1 is, where another process is PID 1."""
    if os.getpid() != 1:
        _prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def protect() -> None:
    """Make this process non-dumpable: the session's own processes have its UID and could read its memory by ptrace or /proc."""
    _prctl(4, 0)  # PR_SET_DUMPABLE


def _prctl(option: int, value: int) -> None:
    """Set one of this process's attributes (prctl(2)). Does nothing in a Python without ctypes."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
