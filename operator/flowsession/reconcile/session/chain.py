"""Decides about a ComputeSession: a chain of stages that write into one draft. Each stage may end the chain."""

from collections.abc import Callable
from dataclasses import replace

from flowsession.api.session import IdleAction, Phase
from flowsession.model.plan import ENDING_SECONDS, Plan, Subject
from flowsession.model.resolved import Resolved, Unresolved
from flowsession.reconcile import requests
from flowsession.reconcile.restarts import delete_all
from flowsession.reconcile.session import (
    authorship,
    autoscaler,
    flow_check,
    idle,
    install,
    lost_key,
    memory,
    move,
    on_instance,
    ready,
    saving,
    start,
    suspend,
)
from flowsession.reconcile.session.cost import of_session
from flowsession.reconcile.session.draft import Draft, Live
from flowsession.reconcile.session.snapshot import SessionSnapshot

Stage = Callable[[Draft], bool]
"""A function that writes its findings into the draft, and returns False to end the chain."""

LiveStage = Callable[[Draft, Live], bool]
"""A stage for a session with a resolved environment and a pod."""


def decide(snapshot: SessionSnapshot, now: float) -> Plan:
    """Return the session's plan. It depends only on snapshot and time. Once it is carried out, nothing is left to do."""
    if snapshot.namespace_ending:
        return Plan(look_again_at=now + ENDING_SECONDS)
    draft = Draft(snapshot, now)
    saving.save_last(draft)
    if snapshot.deleting:
        return draft.plan()
    if all(stage(draft) for stage in STAGES):
        live = _live_of(draft)
        all(stage(draft, live) for stage in LIVE_STAGES)
    saving.keep(draft)
    memory.report(draft)
    of_session(draft)
    return draft.plan()


def _live_of(draft: Draft) -> Live:
    pod, environment = draft.pod, draft.snapshot.environment
    assert pod is not None and isinstance(environment, Resolved), "the stages before ensure it"
    return Live(pod, environment, draft.agent_of(pod))


def decide_gone(snapshot: SessionSnapshot, now: float) -> Plan:
    """Return the plan for a deleted session: save its pod's edits. Events are written for both the session and its environment."""
    if snapshot.namespace_ending:
        return Plan()
    draft = Draft(snapshot, now)
    saving.save_last(draft)
    plan = draft.plan()
    about = [Subject("ComputeSession", snapshot.name, snapshot.uid)]
    if snapshot.environment_uid:
        about.append(Subject("FlowEnvironment", snapshot.spec.environment_ref.name, snapshot.environment_uid))
    events = tuple(
        replace(event, about=subject, message=f"session {snapshot.name}: {event.message}") for event in plan.events for subject in about
    )
    return replace(plan, status=None, events=events, remember=draft.status.get("edits") or {})


def refuse_duplicate(draft: Draft) -> bool:
    """Refuse a second session of the same user and environment. The oldest wins; the others get no pod until their user asks again."""
    snapshot = draft.snapshot
    before = draft.was("Ready")
    refused_before = before is not None and before.reason == "DuplicateSession" and before.observed_generation == snapshot.generation
    if not snapshot.older_session and not refused_before:
        return True
    asked = [what for what in requests.REQUESTS if requests.pending(draft, what)]
    if not snapshot.older_session and {"reset", "resume"} & set(asked):
        return True  # its user asks again, and no other session is older
    delete_all(draft, snapshot.pods)
    for what in asked:
        requests.refuse(draft, what, "the session is a duplicate and gets no pod; see its Ready condition")
    if not snapshot.older_session:
        return False
    draft.not_ready(
        Phase.FAILED,
        "DuplicateSession",
        f"{snapshot.spec.user} already has session {snapshot.older_session!r} of environment {snapshot.spec.environment_ref.name!r};"
        f" use that one, or delete it and then ask for this one by the annotation {requests.REQUESTS['reset']}",
    )
    return False


def resolve(draft: Draft) -> bool:
    """Return whether the environment is resolved. If not, a running session continues with what it has."""
    environment = draft.snapshot.environment
    if isinstance(environment, Resolved):
        draft.set_condition("EnvironmentResolved", True, "Resolved", f"image {environment.base_image}")
        authorship.take_up(draft)
        return True
    if environment is None or _may_come_yet(draft, environment):
        return False
    draft.set_condition("EnvironmentResolved", False, environment.reason, _in_environment(draft.snapshot, environment))
    if draft.was_ready and any(pod.running for pod in draft.snapshot.pods):
        requests.done(draft, "resume")
        for what in ("reset", "install"):  # refused now: nobody expects it days later, once the environment is fixed
            if requests.pending(draft, what):
                why = f"{requests.REQUESTS[what]} has no effect while the environment can't be used; fix it and ask again"
                requests.refuse(draft, what, f"{why}: {_in_environment(draft.snapshot, environment)}")
        _go_on_without_environment(draft)
        return False
    reason = "Starting" if environment.reason == "Resolving" else "EnvironmentNotReady"
    draft.not_ready(Phase.PENDING, reason, _in_environment(draft.snapshot, environment))
    return False


def _go_on_without_environment(draft: Draft) -> None:
    """Follow the agent of a running session, and end the session when it is idle or has been unreachable for too long.

    With `idle.action: None` it keeps its pod, since no other one can be made.
    """
    pod = draft.pod
    if pod is None or not pod.running:
        return
    agent = draft.agent_of(pod)
    ready.answers_again(draft, pod, agent)
    if draft.snapshot.spec.idle.action is IdleAction.NONE or idle.end_unreachable(draft, agent):
        idle.decide_idle(draft)


def deliver(draft: Draft, live: Live) -> bool:
    """Deliver the environment to the agent. While the agent refuses it or it waits for the user's request, the idle rule still applies."""
    message = authorship.withheld(draft)
    if install.withhold(draft, live, message) if message else install.deliver(draft, live):
        return True
    if draft.reason("Ready") in ("AgentRefused", authorship.REASON):
        idle.decide_idle(draft)
    return False


def end_unreachable(draft: Draft, live: Live) -> bool:
    """End a session that has been unreachable for too long."""
    return idle.end_unreachable(draft, live.agent)


def decide_idle(draft: Draft, _: Live) -> bool:
    """Warn of the session's idle end, and end the session."""
    return idle.decide_idle(draft)


def _may_come_yet(draft: Draft, environment: Unresolved) -> bool:
    """Return whether the missing environment may still be applied together with the session. If so, it is not reported."""
    known_at = draft.snapshot.created_at + TOGETHER_SECONDS
    if environment.reason != "EnvironmentNotFound" or draft.now >= known_at:
        return False
    draft.look_again(known_at)
    return True


def _in_environment(snapshot: SessionSnapshot, unresolved: Unresolved) -> str:
    if unresolved.own or unresolved.reason == "EnvironmentNotFound":
        return unresolved.message
    return f"environment {snapshot.spec.environment_ref.name!r}: {unresolved.message}"


TOGETHER_SECONDS = 2.0
"""Seconds within which one `kubectl apply` creates its objects; creation times are whole seconds."""

STAGES: tuple[Stage, ...] = (
    requests.refuse_invalid,
    refuse_duplicate,
    suspend.stay_suspended,
    suspend.end_of_lifetime,
    on_instance.wait,
    resolve,
    suspend.reset,
    move.move,
    start.have_a_pod,
)
"""The stages until the session has a resolved environment and a pod."""

LIVE_STAGES: tuple[LiveStage, ...] = (
    lost_key.replace_lost,
    start.follow_the_pod,
    end_unreachable,
    move.explain,
    deliver,
    install.follow_the_install,
    suspend.activate,
    ready.judge_ready,
    ready.compare_settings,
    ready.list_packages,
    flow_check.judge_flow,
    decide_idle,
    flow_check.follow_the_check,
    autoscaler.protect,
)
