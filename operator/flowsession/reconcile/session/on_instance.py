"""A session on a ComputeInstance: whether the instance can be used, and what the session does while it can't."""

import difflib

from flowsession.api import GROUP
from flowsession.api.session import Phase
from flowsession.model.agent_views import AGAIN_SECONDS, FRESH_SECONDS, REFUSED_PAUSE, AgentView
from flowsession.model.plan import Probe, Retire
from flowsession.reconcile.restarts import remove
from flowsession.reconcile.session import edits, restart
from flowsession.reconcile.session.draft import Draft

Problem = tuple[str, str]
"""Reason and message."""


def wait(draft: Draft) -> bool:
    """Leave an instance that is stopping or gone, once the edits are saved. Wait until the instance that the spec names is ready."""
    ref, pod = draft.snapshot.spec.compute.instance_ref, draft.pod
    if pod is not None and pod.instance and (lost := problem_of(draft, pod.instance)) is not None:
        if edits.may_leave(draft):
            restart.leave_the_pod(draft)
            draft.event(warning=False, reason=lost[0], message=f"the session gives up its pod and waits: {lost[1]}")
            _wait(draft, lost)
        return False
    if ref is None or pod is not None:
        return True
    lacking = problem_of(draft, ref.name) or not_ready(draft, ref.name)
    if lacking is None:
        return True
    for stray in draft.snapshot.pods:
        remove(draft, stray)
    if draft.status.get("podName"):
        restart.leave_the_pod(draft)  # the pod was lost, with its node or otherwise
    _wait(draft, lacking)
    return False


def problem_of(draft: Draft, name: str) -> Problem | None:
    """Return why this instance can't be used until somebody changes something, or None if it can or will be usable by itself."""
    snapshot = draft.snapshot
    found, where = snapshot.instances.get(name), f"namespace {snapshot.namespace!r}"
    if found is None:
        near = difflib.get_close_matches(name, snapshot.other_instances, n=3, cutoff=0.4) or sorted(snapshot.other_instances)[:3]
        yours = f"name one of yours: {', '.join(near)}" if near else f"{snapshot.spec.user} has none there: create one"
        return "InstanceNotFound", f"there is no ComputeInstance {name!r} in {where}; {yours}, or set compute.type to Serverless"
    if found.user != snapshot.spec.user:
        message = f"instance {name!r} is {found.user}'s, and an instance serves one user only; name one of {snapshot.spec.user}'s own"
        return "InstanceOfAnotherUser", message
    if found.stopped == "User":
        return "InstanceStopped", f"instance {name!r} is stopped; set its spec.running to true, and the session starts with it"
    if found.stopped:
        way = f"set its annotation {GROUP}/resume-requested-at to a new timestamp, and the session starts with it"
        return "InstanceStopped", f"instance {name!r} was stopped because nobody used it; {way}"
    return None


def not_ready(draft: Draft, name: str) -> Problem | None:
    """Return why an instance that should run is not ready yet, or None if it is."""
    found = draft.snapshot.instances[name]
    return None if found.node else ("InstanceStarting", f"instance {name!r} is not ready yet: {found.message or 'it is being started'}")


def _wait(draft: Draft, problem: Problem) -> None:
    reason, message = problem
    draft.put("activatedAt", None)
    draft.set_condition("ComputeAllocated", False, reason, message)
    draft.set_condition("PackagesInstalled", None, "Waiting", "the next start installs")
    if draft.was("Active") is not None:
        draft.set_condition("Active", False, "Idle", "it has no compute")
    draft.not_ready(Phase.PENDING, reason, message)


def retire_for_instance(draft: Draft, agent: AgentView | None) -> bool:
    """Probe or retire the agent for the idle stop of its instance, and return whether it should retire now."""
    compute = draft.snapshot.spec.compute
    view = draft.snapshot.instances.get(compute.instance_ref.name) if compute.instance_ref else None
    if view is None or view.idle_at is None or view.stopped:
        return False
    if draft.now < view.idle_at:
        draft.look_again(view.idle_at)
        return False
    if not view.all_idle:
        asked = agent is not None and agent.asked_at >= view.idle_at
        draft.ask(agent, Probe(), not_before=agent.asked_at + AGAIN_SECONDS if agent and asked else 0.0)
        return False
    if draft.snapshot.server_silent or agent is None or agent.state is None:
        return False
    # The status keeps whole seconds, so the agent may know of slightly later work, and refuse.
    due = agent.state_at + (FRESH_SECONDS if agent.state.retired else REFUSED_PAUSE)
    draft.ask(agent, Retire(idle_at_least=float(view.idle_seconds)), not_before=due)
    return True
