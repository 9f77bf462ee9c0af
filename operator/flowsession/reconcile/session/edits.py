"""Edits of the flow folder are not lost: saved in a ConfigMap before the pod goes, and handed to the next session of the same user."""

from typing import Any

from flowsession.api.session import Edits
from flowsession.manifests import saved_edits as savededits
from flowsession.model import times
from flowsession.model.agent_views import FRESH_SECONDS, AgentView, SavedEdits
from flowsession.model.plan import Delete, Reopen, TakeEdits
from flowsession.reconcile.session.draft import Draft
from flowsession_protocol import messages

SILENT_CALLS = 3
SILENT_SECONDS = 20.0
"""An agent that did not answer so often and for so long will not keep a suspension or a reset that people asked for from happening."""

HELD_SECONDS = 60.0
"""How often an end is tried again that was put off because of edits that can't be saved."""

AGAIN_SECONDS = 1.0
"""Between two calls for edits: files may change while they are packed."""

MOST_SHOWN = 20
NOT_SAVED = "EditsNotSaved"


def may_leave(draft: Draft) -> bool:
    """Whether the pod may go without a loss; else asks the agent, or says what keeps it."""
    pod = draft.pod
    if pod is None or not pod.running or not has_folder(draft):
        return True
    agent = draft.lately_of(pod)
    if agent and agent.failures >= SILENT_CALLS and draft.now - agent.failing_since >= SILENT_SECONDS:
        draft.tell(warning=True, reason=NOT_SAVED, message=f"{lost(draft)}: its agent does not answer ({agent.error})")
        return True
    if agent is None or agent.state is None or agent.failures or draft.now - agent.edits_at > FRESH_SECONDS:
        _ask(draft, agent)
        return False
    return saved(draft, agent)


def saved(draft: Draft, agent: AgentView) -> bool:
    """Whether all edits that the agent told of just now are saved when this plan is carried out; else says what keeps the session."""
    problem = store(draft, agent)
    if problem:
        _hold(draft, agent, problem)
    return problem == ""


def store(draft: Draft, agent: AgentView) -> str | None:
    """Saves the edits that the agent told of last in the place of those that they went on from. Empty: they are saved when this plan is
    carried out; None: the agent is asked for them first; else why they can't be saved."""
    assert agent.state is not None, "the callers saw to it"
    snapshot, edits, before = draft.snapshot, agent.state.edits, record(draft)
    went_on, former = before.get("revision"), before.get("savedTo") or ""
    if not edits.revision:
        if went_on and former:
            draft.delete(Delete("ConfigMap", snapshot.namespace, former, ""))
            draft.put("edits", _without_saved(before))
        return ""
    where, user = snapshot.where, snapshot.spec.user
    same = edits.revision == went_on
    name = former if same else savededits.name_of(where, user, before=former, revision=edits.revision)
    moment = savededits.moment_after(before.get("savedAt"), draft.now)
    if name not in snapshot.known_config_maps:
        packed = agent.edits if agent.edits and agent.edits.revision == edits.revision else None
        if problem := snapshot.refused_config_maps.get(name) or (packed.problem if packed else ""):
            return problem
        if packed is None:
            _ask(draft, agent)
            return None
        pod = snapshot.pods[-1].uid
        create = savededits.create(name, where, user=user, session=snapshot.name, pod_uid=pod, packed=packed, moment=moment)
        draft.create(create, before_the_end=True)
    if former and went_on and not same:
        # Its content went on in this session, so that it would only bring back what is old.
        draft.delete(Delete("ConfigMap", snapshot.namespace, former, ""))
    if not same:
        told = {"savedTo": name, "savedAt": times.stamp(moment), "revision": edits.revision}
        shown = Edits(count=edits.count, files=list(edits.files[:MOST_SHOWN]), left_out=edits.left_out or None)
        draft.put("edits", shown.to_wire() | told)
    return ""


def record(draft: Draft) -> dict[str, Any]:
    """What the status says of edits, this decision included."""
    return draft.status.get("edits") or {}


def show(draft: Draft, agent: AgentView | None) -> None:
    """Says in the status what was edited, as far as the agent was asked."""
    if agent is None or agent.state is None:
        return
    edits, given, before = agent.state.edits, draft.snapshot.saved, record(draft)
    saved_to, saved_at, revision = before.get("savedTo"), before.get("savedAt"), before.get("revision")
    if given and given.name and given.saved_at >= (saved_at or "") and (edits.restored or edits.offered == given.name):
        saved_to, saved_at, revision = given.name, given.saved_at, given.revision if edits.restored else None
    told = Edits(
        count=edits.count,
        files=list(edits.files[:MOST_SHOWN]) or None,
        saved_to=saved_to,
        saved_at=saved_at,
        revision=revision,
        problem=edits.problem or None,
        not_saved=before.get("notSaved") if edits.revision else None,
        left_out=edits.left_out or None,
    )
    draft.put("edits", told.to_wire() if edits.count or saved_to or edits.left_out else None)
    if edits.left_out and not before.get("leftOut"):
        what = f"{edits.left_out} files or folders are" if edits.left_out != 1 else "1 file or folder is"
        why = "by a name that secrets have, by the folder's ignore file, or since the home holds too much"
        message = f"{what} not saved with the edits, {why}; `flow edits` in the session tells which"
        draft.tell(warning=False, reason="EditsLeftOut", message=message)


def wanted(draft: Draft) -> list[messages.SavedEdits] | None:
    """The earlier edits that the agent is given with its first flow folder, if there are any; None while it is not known what there is, or
    will be."""
    snapshot = draft.snapshot
    if not snapshot.saved_known or snapshot.predecessor:
        return None
    return [_wire(snapshot.saved)] if snapshot.saved and snapshot.saved.archive else []


def held(draft: Draft) -> bool:
    """Whether an end was put off before because of edits."""
    return draft.reason_before("Active") == NOT_SAVED


def lost(draft: Draft) -> str:
    """What is said of edits that nobody could save; empty where there is no flow folder."""
    return "what was edited in the session's flow folder could not be saved" if has_folder(draft) else ""


def has_folder(draft: Draft) -> bool:
    """Whether files lie in the session that can be edited there, by the status."""
    return draft.snapshot.status.get("flowRevision") not in (None, "", "none")


def take(draft: Draft, agent: AgentView | None, *, not_before: float) -> None:
    """Has the agent asked for what was edited, at that time at the earliest."""
    draft.ask(agent, TakeEdits(), not_before=not_before, interrupts=True)


def _ask(draft: Draft, agent: AgentView | None) -> None:
    take(draft, agent, not_before=agent.edits_at + AGAIN_SECONDS if agent else 0.0)


def _hold(draft: Draft, agent: AgentView, problem: str) -> None:
    message = f"the session's end is put off, since what was edited in its flow folder can't be saved: {problem}"
    if not held(draft):
        draft.tell(warning=True, reason=NOT_SAVED, message=message)
    draft.judge("Active", False, NOT_SAVED, message)
    draft.look_again(draft.now + HELD_SECONDS)
    if agent.state and agent.state.retired:
        draft.ask(agent, Reopen())  # it stays, so it may be used


def _wire(saved_edits: SavedEdits) -> messages.SavedEdits:
    return {
        "name": saved_edits.name,
        "savedAt": saved_edits.saved_at,
        "flowRevision": saved_edits.flow_revision,
        "archive": saved_edits.archive,
        "deleted": list(saved_edits.deleted),
        "base": dict(saved_edits.base),
    }


def _without_saved(before: dict[str, Any]) -> dict[str, Any] | None:
    left = {name: value for name, value in before.items() if name not in ("savedTo", "savedAt", "revision", "notSaved")}
    return left if left.get("count") or left.get("leftOut") else None
