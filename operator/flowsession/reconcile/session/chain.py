"""ComputeSession: a short chain of stages over one draft, each of which may end the chain."""

from collections.abc import Callable
from dataclasses import replace

from flowsession.api.session import Phase
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
    saving,
    start,
    suspend,
)
from flowsession.reconcile.session import ready as serve
from flowsession.reconcile.session.cost import of_session
from flowsession.reconcile.session.draft import Draft, Live
from flowsession.reconcile.session.snapshot import SessionSnapshot

Stage = Callable[[Draft], bool]
"""Writes into the draft what it finds; False ends the chain."""

LiveStage = Callable[[Draft, Live], bool]
"""The same for a session whose environment is resolved and that has a pod."""


def decide(snapshot: SessionSnapshot, now: float) -> Plan:
    """The session's plan. The same snapshot and time give the same plan; a plan carried out leaves nothing to do."""
    if snapshot.namespace_ending:
        return Plan(look_again_at=now + ENDING_SECONDS)
    draft = Draft(snapshot, now)
    saving.save_last(draft)
    if snapshot.deleting:
        return draft.plan()
    if all(stage(draft) for stage in STAGES):
        live = _proved(draft)
        all(stage(draft, live) for stage in LIVE_STAGES)
    saving.keep(draft)
    memory.tell(draft)
    of_session(draft)
    return draft.plan()


def _proved(draft: Draft) -> Live:
    pod, environment = draft.pod, draft.snapshot.environment
    assert pod is not None and isinstance(environment, Resolved), "the stages saw to it"
    return Live(pod, environment, draft.agent_of(pod))


def decide_gone(snapshot: SessionSnapshot, now: float) -> Plan:
    """What is still to be done about a session that is gone: save what its pod has. People find it told of at its environment too."""
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
    """Of two sessions of one user and environment the oldest wins; the other gets no pod until its owner asks again."""
    snapshot = draft.snapshot
    ready = draft.was("Ready")
    refused_before = ready is not None and ready.reason == "DuplicateSession" and ready.observed_generation == snapshot.generation
    if not snapshot.older_session and not refused_before:
        return True
    asked = [what for what in requests.REQUESTS if requests.pending(draft, what)]
    if not snapshot.older_session and {"reset", "resume"} & set(asked):
        return True  # its owner asks again, and nobody is before it any more
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
    """Whether it is known what the session shall have. A running session goes on with what it has while its environment is broken."""
    environment = draft.snapshot.environment
    if isinstance(environment, Resolved):
        draft.judge("EnvironmentResolved", True, "Resolved", f"image {environment.base_image}")
        authorship.take_up(draft)
        return True
    if environment is None or _may_come_yet(draft, environment):
        return False
    draft.judge("EnvironmentResolved", False, environment.reason, _in_environment(draft.snapshot, environment))
    if draft.was_ready and any(pod.running for pod in draft.snapshot.pods):
        requests.done(draft, "resume")
        for what in ("reset", "install"):  # once the environment is mended, perhaps days later, nobody expects it any more
            if requests.pending(draft, what):
                why = f"{requests.REQUESTS[what]} has no effect while the environment can't be used; mend it and ask again"
                requests.refuse(draft, what, f"{why}: {_in_environment(draft.snapshot, environment)}")
        idle.decide_idle(draft)
        return False
    reason = "Starting" if environment.reason == "Resolving" else "EnvironmentNotReady"
    draft.not_ready(Phase.PENDING, reason, _in_environment(draft.snapshot, environment))
    return False


def tell_the_agent(draft: Draft, live: Live) -> bool:
    """Sees to it that the agent knows what the session shall have. One that refuses it is idle until its environment is fixed, and one that
    waits for its user's word until that comes."""
    said = authorship.withheld(draft)
    if install.go_on_without(draft, live, said) if said else install.tell_the_agent(draft, live):
        return True
    if draft.reason("Ready") in ("AgentRefused", authorship.REASON):
        idle.decide_idle(draft)
    return False


def decide_idle(draft: Draft, _: Live) -> bool:
    """Warns of the session's end, and ends it, when it is idle."""
    return idle.decide_idle(draft)


def _may_come_yet(draft: Draft, environment: Unresolved) -> bool:
    """Whether both were applied just now, the session first: nobody needs to hear of a moment without the environment."""
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
"""What one `kubectl apply` creates lies within; creation times are whole seconds."""

STAGES: tuple[Stage, ...] = (
    requests.refuse_junk,
    refuse_duplicate,
    suspend.stay_suspended,
    suspend.end_of_lifetime,
    on_instance.stand_by,
    resolve,
    suspend.reset,
    move.move,
    start.have_a_pod,
)
"""Until there is a pod of what the environment resolves to."""

LIVE_STAGES: tuple[LiveStage, ...] = (
    lost_key.tell_of_lost_key,
    start.follow_the_pod,
    idle.end_unreachable,
    move.tell_of_wish,
    tell_the_agent,
    install.follow_the_install,
    suspend.activate,
    serve.serve,
    serve.compare_settings,
    serve.list_packages,
    flow_check.judge,
    decide_idle,
    flow_check.follow_the_check,
    autoscaler.protect,
)
