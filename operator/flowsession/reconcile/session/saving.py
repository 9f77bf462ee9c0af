"""Saves edits as they come, and once more when a pod ends: whatever ends a session, what was edited until shortly before is not lost."""

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
"""Between two saves of one session at least, while its pod lives; so much of what was edited may be lost with its node."""

LAST_SECONDS = 2.0
"""Between two calls of a pod that ends and whose agent can't say by itself that edits wait."""

IDLE_SHARE = 10.0
"""Where agents can't say that edits wait, a session that has been idle for a while is asked after another tenth of that."""

JUST_NOW = 0.5

MOST_FAILURES = 3
"""Unanswered calls of a pod that ends, after which people are told that nobody knows what was edited in it."""


def keep(draft: Draft) -> None:
    """Saves what an agent has said to wait, at most twice a minute; a session in which nobody edits anything is not asked."""
    pod = draft.pod
    if pod is None or not pod.running or draft.takes_the_pod or not edits.has_folder(draft):
        return
    agent = draft.lately_of(pod)
    if agent and agent.state and edits.record(draft).get("revision") != agent.state.edits.revision and _tells_all(agent):
        _save(draft, agent)
    elif agent and agent.state and agent.state.edits.revision == (draft.snapshot.status.get("edits") or {}).get("revision"):
        _settle(draft, agent, saved=True)
    if _is_wanted(draft, agent):
        hint = draft.snapshot.hint
        pause = edits.AGAIN_SECONDS if hint and hint.ending else SAVE_SECONDS
        edits.take(draft, agent, not_before=agent.edits_at + pause if agent else 0.0)
    elif _is_mute(draft, agent) and draft.was_ready:
        edits.take(draft, agent, not_before=_next_look(draft, agent))


def save_last(draft: Draft) -> None:
    """Saves what a pod has that is on its way out, whoever asked for its end, and lets its agent go as soon as that is done."""
    snapshot = draft.snapshot
    pod = snapshot.pods[-1] if snapshot.pods else None
    if pod is None or not pod.running or not (pod.deleting_since is not None or snapshot.gone_at is not None):
        return
    agent = draft.lately_of(pod)
    _take_last(draft, pod, agent)
    if agent is None or agent.state is None:
        return
    revision = agent.state.edits.revision
    if revision and agent.settled == revision:
        return
    if revision and revision in (agent.saved, (snapshot.status.get("edits") or {}).get("revision")):
        _settle(draft, agent, saved=True)
        return
    if not _tells_all(agent):
        return
    problem = edits.store(draft, agent) if snapshot.environment_uid else "its FlowEnvironment is gone too"
    if problem:
        _give_up(draft, agent, problem)
    elif problem == "" and revision:
        count = agent.state.edits.count
        said = "1 edited file of the flow folder was" if count == 1 else f"{count} edited files of the flow folder were"
        whose = snapshot.spec.user
        draft.tell(warning=False, reason="EditsSaved", message=f"{said} saved when the pod ended; the next session of {whose} gets them")


def _take_last(draft: Draft, pod: PodView, agent: AgentView | None) -> None:
    """Asks where the agent says that edits wait, and once one of which nothing is known; where it can't say it, for as long as the pod is
    there."""
    if agent is None or _is_wanted(draft, agent):
        edits.take(draft, agent, not_before=agent.edits_at + edits.AGAIN_SECONDS if agent else 0.0)
    elif agent and agent.failures >= MOST_FAILURES:
        pass
    elif _is_mute(draft, agent) or (pod.deleting_since is not None and draft.now >= pod.deleting_since):
        edits.take(draft, agent, not_before=agent.edits_at + LAST_SECONDS if agent else 0.0)
    elif pod.deleting_since is not None:
        draft.look_again(pod.deleting_since)  # still there by then: its node is lost, or its agent is not the one that it was
    if agent and agent.failures == MOST_FAILURES and draft.now - agent.asked_at < JUST_NOW and _had_folder(draft, agent):
        since = edits.record(draft).get("savedAt")
        until = f"what was edited after {since}, when it was saved last," if since else "what was edited in its flow folder"
        draft.tell(warning=True, reason=edits.NOT_SAVED, message=f"{until} may be lost: pod {pod.name} ends, and its agent does not answer")


def _had_folder(draft: Draft, agent: AgentView) -> bool:
    """Whether files lay in the session that could be edited there; its status has forgotten that with its pod."""
    if agent.state is not None:
        return agent.state.flow_revision not in ("", "none")
    return edits.has_folder(draft) or bool(edits.record(draft))


def _save(draft: Draft, agent: AgentView) -> None:
    problem = edits.store(draft, agent)
    if problem and problem != edits.record(draft).get("notSaved") and draft.reason("Active") != edits.NOT_SAVED:
        message = f"what is being edited in the flow folder can't be saved, and is lost if the session's pod is: {problem}"
        draft.tell(warning=True, reason=edits.NOT_SAVED, message=message)
    if problem:
        draft.put("edits", edits.record(draft) | {"notSaved": problem})


def _give_up(draft: Draft, agent: AgentView, problem: str) -> None:
    """Says what is lost, here and to whoever gets the older edits later, and keeps the pod no longer."""
    assert agent.state is not None, "the callers saw to it"
    snapshot, before, packed = draft.snapshot, edits.record(draft), agent.edits
    since = f" after {before['savedAt']}" if before.get("savedAt") else ""
    message = f"what was edited in the session's flow folder{since} could not be saved: {problem}"
    draft.tell(warning=True, reason=edits.NOT_SAVED, message=message)
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


def _tells_all(agent: AgentView) -> bool:
    """Whether what it said of its edits came with them, or there are none."""
    state = agent.state
    return state is not None and (not state.edits.revision or (agent.edits is not None and agent.edits.revision == state.edits.revision))


def _is_wanted(draft: Draft, agent: AgentView | None) -> bool:
    """Whether the agent has said that edits wait, and was not asked for them since."""
    hint = draft.snapshot.hint
    return hint is not None and hint.at > (agent.edits_at if agent else 0.0)


def _is_mute(draft: Draft, agent: AgentView | None) -> bool:
    """Whether nothing that the agent says by itself arrives."""
    settings = draft.snapshot.settings
    return settings.agent_via == AgentVia.PROXY or (agent is not None and agent.state is not None and agent.state.edits.unheard)


def _next_look(draft: Draft, agent: AgentView | None) -> float:
    known = draft.status.get("lastActivity") or {}
    idle = draft.now - moment(known.get("at"), draft.now)
    before = max(agent.edits_at if agent else 0.0, times.parse(draft.status.get("readyAt")) or 0.0)
    return before + max(SAVE_SECONDS, idle / IDLE_SHARE)
