"""Edits of the flow folder: saved in a ConfigMap before the pod ends, and given to the next session of the same user."""

from typing import Any

from flowsession.api.session import Edits
from flowsession.manifests import saved_edits
from flowsession.model import times
from flowsession.model.agent_views import FRESH_SECONDS, AgentView, EditsView, SavedEdits
from flowsession.model.plan import Delete, Reopen, TakeEdits
from flowsession.reconcile.session.draft import Draft
from flowsession_protocol import messages

SILENT_CALLS = 3
SILENT_SECONDS = 20.0
"""After this many unanswered calls in a row, over this many seconds, a suspension or reset proceeds without saving."""

HELD_SECONDS = 60.0
"""Seconds between two attempts to end a session whose edits can't be saved."""

AGAIN_SECONDS = 1.0
"""Minimum seconds between two calls for edits: files may change while they are packed."""

MOST_SHOWN = 20
NOT_SAVED = "EditsNotSaved"


def may_leave(draft: Draft) -> bool:
    """Return whether the pod may end: its edits are saved, or its agent is silent. If not, ask for the edits or write why the end waits."""
    pod = draft.pod
    if pod is None or not pod.running or not has_folder(draft):
        return True
    agent = draft.fresh_agent_of(pod)
    if agent and agent.failures >= SILENT_CALLS and draft.now - agent.failing_since >= SILENT_SECONDS:
        draft.event(warning=True, reason=NOT_SAVED, message=f"{lost(draft)}: its agent does not answer ({agent.error})")
        return True
    if agent is None or agent.state is None or agent.failures or draft.now - agent.edits_at > FRESH_SECONDS or announced(draft, agent):
        _ask(draft, agent)
        return False
    return saved(draft, agent)


def saved(draft: Draft, agent: AgentView) -> bool:
    """Return whether this plan saves all edits that the agent just reported. If they can't be saved, write why the session's end waits."""
    problem = store(draft, agent)
    if problem:
        _hold(draft, agent, problem)
    return problem == ""


def store(draft: Draft, agent: AgentView) -> str | None:
    """Save the edits that the agent reported last, and delete the saved edits that they replace.

    Return an empty string if this plan saves them, None if the agent must be asked for them first, else why they can't be saved.
    """
    assert agent.state is not None, "the callers ensure it"
    snapshot, edits, before = draft.snapshot, agent.state.edits, record(draft)
    went_on, former = before.get("revision"), before.get("savedTo") or ""
    if not edits.revision:
        superseded = bool(went_on and former)
        if superseded:
            draft.delete(Delete("ConfigMap", snapshot.namespace, former, ""))
        draft.put("edits", _without_edits(before, edits, superseded=superseded))
        return ""
    where, user = snapshot.where, snapshot.spec.user
    same = edits.revision == went_on
    name = former if same else saved_edits.name_of(where, user, before=former, revision=edits.revision)
    moment = saved_edits.moment_after(before.get("savedAt"), draft.now)
    if name not in snapshot.known_config_maps:
        packed = agent.edits if agent.edits and agent.edits.revision == edits.revision else None
        if problem := snapshot.refused_config_maps.get(name) or (packed.problem if packed else ""):
            return problem
        if packed is None:
            _ask(draft, agent)
            return None
        pod = snapshot.pods[-1].uid
        create = saved_edits.create(name, where, user=user, session=snapshot.name, pod_uid=pod, packed=packed, moment=moment)
        draft.create(create, before_the_end=True)
    if former and went_on and not same:
        # This session started from those edits, so they are older.
        draft.delete(Delete("ConfigMap", snapshot.namespace, former, ""))
    if not same:
        saved_now = {"savedTo": name, "savedAt": times.stamp(moment), "revision": edits.revision}
        shown = Edits(count=edits.count, files=list(edits.files[:MOST_SHOWN]), left_out=edits.left_out or None)
        draft.put("edits", shown.to_wire() | saved_now)
    return ""


def record(draft: Draft) -> dict[str, Any]:
    """Return the status field `edits`, including this decision's changes."""
    return draft.status.get("edits") or {}


def show(draft: Draft, agent: AgentView | None) -> None:
    """Write the edits into the status, as the agent reported them."""
    if agent is None or agent.state is None:
        return
    edits, given, before = agent.state.edits, draft.snapshot.saved, record(draft)
    saved_to, saved_at, revision = before.get("savedTo"), before.get("savedAt"), before.get("revision")
    if given and given.name and given.saved_at >= (saved_at or "") and (edits.restored or edits.offered == given.name):
        saved_to, saved_at, revision = given.name, given.saved_at, given.revision if edits.restored else None
    shown = Edits(
        count=edits.count,
        files=list(edits.files[:MOST_SHOWN]) or None,
        saved_to=saved_to,
        saved_at=saved_at,
        revision=revision,
        problem=edits.problem or None,
        not_saved=before.get("notSaved") if edits.revision else None,
        discarded=True if edits.count and not edits.revision else None,
        left_out=edits.left_out or None,
    )
    draft.put("edits", shown.to_wire() if edits.count or saved_to or edits.left_out else None)
    if edits.left_out and not before.get("leftOut"):
        what = f"{edits.left_out} files or folders are" if edits.left_out != 1 else "1 file or folder is"
        why = "by a name that secrets have, by the folder's ignore file, or since the home holds too much"
        message = f"{what} not saved with the edits, {why}; `flow edits` in the session tells which"
        draft.event(warning=False, reason="EditsLeftOut", message=message)


def wanted(draft: Draft) -> list[messages.SavedEdits] | None:
    """Return the earlier edits for the agent's first delivery, at most one; None while they are unknown or still being saved."""
    snapshot = draft.snapshot
    if not snapshot.saved_known or snapshot.predecessor:
        return None
    return [_wire(snapshot.saved)] if snapshot.saved and snapshot.saved.archive else []


def announced(draft: Draft, agent: AgentView | None) -> bool:
    """Return whether the agent announced other edits than before, and has not been asked for them since."""
    hint = draft.snapshot.hint
    return hint is not None and hint.at > (agent.edits_asked_at if agent else 0.0)


def held(draft: Draft) -> bool:
    """Return whether the status shows that an end waits for edits."""
    return draft.reason_before("Active") == NOT_SAVED


def lost(draft: Draft) -> str:
    """Return the clause about edits that could not be saved; empty if the session has no flow folder."""
    return "what was edited in the session's flow folder could not be saved" if has_folder(draft) else ""


def has_folder(draft: Draft) -> bool:
    """Return whether the status shows that the session has a flow folder to edit."""
    return draft.snapshot.status.get("flowRevision") not in (None, "", "none")


def take(draft: Draft, agent: AgentView | None, *, not_before: float) -> None:
    """Ask the agent for the edits, at `not_before` at the earliest."""
    draft.ask(agent, TakeEdits(), not_before=not_before, interrupts=True)


def _ask(draft: Draft, agent: AgentView | None) -> None:
    take(draft, agent, not_before=agent.edits_at + AGAIN_SECONDS if agent else 0.0)


def _hold(draft: Draft, agent: AgentView, problem: str) -> None:
    message = f"the session's end is put off, since what was edited in its flow folder can't be saved: {problem}"
    if not held(draft):
        draft.event(warning=True, reason=NOT_SAVED, message=message)
    draft.set_condition("Active", False, NOT_SAVED, message)
    draft.look_again(draft.now + HELD_SECONDS)
    if agent.state and agent.state.retired:
        draft.ask(agent, Reopen())  # the session stays, so it may be used


def _wire(saved_edits: SavedEdits) -> messages.SavedEdits:
    return {
        "name": saved_edits.name,
        "savedAt": saved_edits.saved_at,
        "flowRevision": saved_edits.flow_revision,
        "archive": saved_edits.archive,
        "deleted": list(saved_edits.deleted),
        "base": dict(saved_edits.base),
    }


def _without_edits(before: dict[str, Any], edits: EditsView, *, superseded: bool) -> dict[str, Any] | None:
    """Return the status field `edits` when there is nothing to save. `superseded`: the edits saved before are dropped from it too."""
    gone = ("count", "files", "discarded", "notSaved", *(("savedTo", "savedAt", "revision") if superseded else ()))
    left = {name: value for name, value in before.items() if name not in gone}
    if edits.count:
        left |= Edits(count=edits.count, files=list(edits.files[:MOST_SHOWN]) or None, discarded=True).to_wire()
    return left if {"count", "savedTo", "leftOut"} & set(left) else None
