"""Saves edits as they are made, and once more when the pod ends, for whatever reason."""

from flowsession.manifests import saved_edits
from flowsession.model import times
from flowsession.model.agent_views import AgentView
from flowsession.model.plan import Settle
from flowsession.model.times import moment
from flowsession.model.views import PodView
from flowsession.reconcile.session import edits
from flowsession.reconcile.session.draft import Draft
from flowsession.settings import AgentVia

SAVE_SECONDS = 30.0
"""Minimum seconds between two saves while the session's pod lives; edits made in between may be lost with its node."""

LAST_SECONDS = 2.0
"""Seconds between two calls of an ending pod whose agent can't announce unsaved edits."""

IDLE_SHARE = 10.0
"""Divisor of a session's idle time: an agent that can't announce unsaved edits is asked again after a tenth of that time."""

JUST_NOW = 0.5

MOST_FAILURES = 3
"""Number of unanswered calls of an ending pod after which an Event warns that its edits may be lost."""


def keep(draft: Draft) -> None:
    """Save the edits that the agent announced, at most twice a minute. A session without edits is not asked if it can announce them."""
    pod = draft.pod
    if pod is None or not pod.running or draft.deletes_the_pod or not edits.has_folder(draft):
        return
    agent = draft.fresh_agent_of(pod)
    if agent and agent.state and edits.record(draft).get("revision") != agent.state.edits.revision and _has_all_edits(agent):
        _save(draft, agent)
    elif agent and agent.state and agent.state.edits.revision == (draft.snapshot.status.get("edits") or {}).get("revision"):
        _settle(draft, agent, saved=True)
    if edits.announced(draft, agent):
        hint = draft.snapshot.hint
        pause = edits.AGAIN_SECONDS if hint and hint.ending else SAVE_SECONDS
        edits.take(draft, agent, not_before=agent.edits_at + pause if agent else 0.0)
    elif _can_not_announce(draft, agent) and draft.was_ready:
        edits.take(draft, agent, not_before=_next_look(draft, agent))


def save_last(draft: Draft) -> None:
    """Save the edits of a pod that is being deleted, by anyone, and let its agent stop waiting."""
    snapshot = draft.snapshot
    pod = snapshot.pods[-1] if snapshot.pods else None
    if pod is None or not pod.running or not (pod.deleting_since is not None or snapshot.gone_at is not None):
        return
    agent = draft.fresh_agent_of(pod)
    _take_last(draft, pod, agent)
    if agent is None or agent.state is None:
        return
    revision = agent.state.edits.revision
    if revision and agent.settled == revision:
        return
    if revision and revision in (agent.saved, (snapshot.status.get("edits") or {}).get("revision")):
        _settle(draft, agent, saved=True)
        return
    if not _has_all_edits(agent):
        return
    problem = "its FlowEnvironment is gone too" if revision and not snapshot.environment_uid else edits.store(draft, agent)
    if problem:
        _give_up(draft, agent, problem)
    elif problem == "" and revision:
        count = agent.state.edits.count
        what = "1 edited file of the flow folder was" if count == 1 else f"{count} edited files of the flow folder were"
        whose = snapshot.spec.user
        draft.event(warning=False, reason="EditsSaved", message=f"{what} saved when the pod ended; the next session of {whose} gets them")


def _take_last(draft: Draft, pod: PodView, agent: AgentView | None) -> None:
    """Ask an agent for its edits: once if it is unknown, after each announcement, and repeatedly if it can't announce them."""
    if agent is None or edits.announced(draft, agent):
        edits.take(draft, agent, not_before=agent.edits_at + edits.AGAIN_SECONDS if agent else 0.0)
    elif agent and agent.failures >= MOST_FAILURES:
        pass
    elif _can_not_announce(draft, agent) or (pod.deleting_since is not None and draft.now >= pod.deleting_since):
        edits.take(draft, agent, not_before=agent.edits_at + LAST_SECONDS if agent else 0.0)
    elif pod.deleting_since is not None:
        draft.look_again(pod.deleting_since)  # a pod that still exists then has lost its node, or its agent was replaced
    if agent and agent.failures == MOST_FAILURES and draft.now - agent.asked_at < JUST_NOW and _had_folder(draft, agent):
        since = edits.record(draft).get("savedAt")
        until = f"what was edited after {since}, when it was saved last," if since else "what was edited in its flow folder"
        draft.event(
            warning=True, reason=edits.NOT_SAVED, message=f"{until} may be lost: pod {pod.name} ends, and its agent does not answer"
        )


def _had_folder(draft: Draft, agent: AgentView) -> bool:
    """Return whether the session had a flow folder to edit. The status may have lost that along with the pod."""
    if agent.state is not None:
        return agent.state.flow_revision not in ("", "none")
    return edits.has_folder(draft) or bool(edits.record(draft))


def _save(draft: Draft, agent: AgentView) -> None:
    problem = edits.store(draft, agent)
    if problem and problem != edits.record(draft).get("notSaved") and draft.reason("Active") != edits.NOT_SAVED:
        message = f"what is being edited in the flow folder can't be saved, and is lost if the session's pod is: {problem}"
        draft.event(warning=True, reason=edits.NOT_SAVED, message=message)
    if problem:
        draft.put("edits", edits.record(draft) | {"notSaved": problem})


def _give_up(draft: Draft, agent: AgentView, problem: str) -> None:
    """Write what is lost, for this session and for the next one, which gets the older edits, and let the pod end."""
    assert agent.state is not None, "the callers ensure it"
    snapshot, before, packed = draft.snapshot, edits.record(draft), agent.edits
    since = f" after {before['savedAt']}" if before.get("savedAt") else ""
    message = f"what was edited in the session's flow folder{since} could not be saved: {problem}"
    draft.event(warning=True, reason=edits.NOT_SAVED, message=message)
    if packed is not None and packed.problem == problem and before.get("savedTo"):
        lost = f"lost {agent.state.edits.revision}"
        name = saved_edits.name_of(snapshot.where, snapshot.spec.user, before=before["savedTo"], revision=lost)
        if name not in snapshot.refused_config_maps:
            when = saved_edits.moment_after(before.get("savedAt"), draft.now)
            who = {"user": snapshot.spec.user, "session": snapshot.name, "pod_uid": snapshot.pods[-1].uid}
            draft.create(saved_edits.create(name, snapshot.where, **who, packed=packed, moment=when, lost=problem))
    _settle(draft, agent, saved=False)


def _settle(draft: Draft, agent: AgentView, *, saved: bool) -> None:
    state = agent.state
    if state and state.edits.waiting and state.edits.revision and agent.settled != state.edits.revision:
        draft.ask(agent, Settle(state.edits.revision, saved), interrupts=True)


def _has_all_edits(agent: AgentView) -> bool:
    """Return whether the agent's edits in their reported revision are known, or there are none."""
    state = agent.state
    return state is not None and (not state.edits.revision or (agent.edits is not None and agent.edits.revision == state.edits.revision))


def _can_not_announce(draft: Draft, agent: AgentView | None) -> bool:
    """Return whether the agent's announcements don't arrive."""
    settings = draft.snapshot.settings
    return settings.agent_via == AgentVia.PROXY or (agent is not None and agent.state is not None and agent.state.edits.unheard)


def _next_look(draft: Draft, agent: AgentView | None) -> float:
    known = draft.status.get("lastActivity") or {}
    idle = draft.now - moment(known.get("at"), draft.now)
    before = max(agent.edits_at if agent else 0.0, times.parse(draft.status.get("readyAt")) or 0.0)
    return before + max(SAVE_SECONDS, idle / IDLE_SHARE)
