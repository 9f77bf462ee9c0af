"""Reports that a process of a session was killed for memory. Nothing else in the cluster reports that."""

from flowsession.model import times
from flowsession.model.plan import Probe
from flowsession.reconcile.session.draft import Draft

REASON = "ProcessKilledForMemory"
LEAST_BETWEEN = 60.0
"""Minimum seconds between two such Events of one session: an agent that somebody replaced may report kills all the time."""
LEAST_BETWEEN_CALLS = 1.0
"""Minimum seconds from any call of an agent to a call because of a kill."""


def report(draft: Draft) -> None:
    """Write an Event for a new kill, and its id into the status. Ask an agent that announced a kill."""
    pod = draft.pod
    if pod is None or not pod.running or draft.deletes_the_pod:
        return
    agent, hint = draft.fresh_agent_of(pod), draft.snapshot.hint
    last = draft.status.get("memoryKill") or {}
    due = (times.parse(last.get("at")) or 0.0) + LEAST_BETWEEN
    if hint is not None and hint.killed_at > (agent.state_at if agent else 0.0):
        draft.ask(agent, Probe(), not_before=max(due, agent.asked_at + LEAST_BETWEEN_CALLS if agent else 0.0), interrupts=True)
    if agent is None or agent.state is None or agent.state.memory_kill in ("", last.get("id")):
        return
    if due > draft.now:
        draft.look_again(due)
        return
    limit = pod.memory_limit or draft.snapshot.settings.session.limits.get("memory", "")
    process, most = agent.state.killed_process or "a process", f" ({limit})" if limit else ""
    message = f"{process} was killed: the session was out of memory{most}; choose a larger size, or let it hold less at once"
    draft.event(warning=True, reason=REASON, message=message)
    draft.put("memoryKill", {"id": agent.state.memory_kill, "process": process, "at": times.stamp(draft.now)})
