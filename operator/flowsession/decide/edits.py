"""Edits of the flow folder are not lost: saved in a ConfigMap before the pod goes, and handed to the next session of the same user."""

import json
from typing import Any

from flowsession.api import GROUP
from flowsession.api.session import Edits
from flowsession.decide import configmaps, times
from flowsession.decide.agentviews import AgentView, EditsArchive, SavedEdits
from flowsession.decide.configmaps import EDITS
from flowsession.decide.draft import Draft
from flowsession.decide.idletimes import FRESH_SECONDS
from flowsession.decide.plan import Delete, Reopen, TakeEdits
from flowsession.decide.pod import USER_LABEL, user_label
from flowsession.decide.start import current_pod
from flowsession.decide.target import ask, lately_of

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
    pod = current_pod(draft)
    if pod is None or not pod.running or not _has_folder(draft):
        return True
    agent = lately_of(draft, pod)
    if agent and agent.failures >= SILENT_CALLS and draft.now - agent.failing_since >= SILENT_SECONDS:
        draft.tell(warning=True, reason=NOT_SAVED, message=f"{lost(draft)}: its agent does not answer ({agent.error})")
        return True
    if agent is None or agent.state is None or agent.failures or draft.now - agent.edits_at > FRESH_SECONDS:
        _ask(draft, agent)
        return False
    return saved(draft, agent)


def saved(draft: Draft, agent: AgentView) -> bool:
    """Whether all edits that the agent told of just now are saved when this plan is carried out."""
    assert agent.state is not None, "the callers saw to it"
    snapshot, edits = draft.snapshot, agent.state.edits
    before = (draft.status.get("edits") or {}).get("savedTo")
    uid, user = snapshot.environment_uid, snapshot.spec.user
    name = configmaps.name_of(EDITS, snapshot.spec.environment_ref.name, uid, user, edits.revision) if edits.revision else None
    packed = agent.edits if agent.edits and agent.edits.revision == edits.revision else None
    if name and name not in snapshot.known_config_maps:
        problem = snapshot.refused_config_maps.get(name) or (packed.problem if packed else "")
        if problem:
            _hold(draft, agent, problem)
            return False
        if packed is None:
            _ask(draft, agent)
            return False
        draft.create(_config_map(draft, name, packed), before_the_end=True)
    if before and before != name and edits.restored:
        # Its content went on in this session, so that it would only bring back what is old; the name alone says what it holds.
        draft.delete(Delete("ConfigMap", snapshot.namespace, before, ""))
    if name:
        draft.put("edits", Edits(count=edits.count, files=list(edits.files[:MOST_SHOWN]), saved_to=name).to_wire())
    return True


def show(draft: Draft, agent: AgentView | None) -> None:
    """Says in the status what was edited, as far as the agent was asked."""
    if agent is None or agent.state is None:
        return
    edits, given = agent.state.edits, draft.snapshot.saved
    saved_to = given.name if given and (edits.restored or edits.offered == given.name) else (draft.status.get("edits") or {}).get("savedTo")
    files = list(edits.files[:MOST_SHOWN])
    told = Edits(count=edits.count, files=files or None, saved_to=saved_to, problem=edits.problem or None)
    draft.put("edits", told.to_wire() if edits.count or saved_to else None)


def wanted(draft: Draft) -> dict[str, Any] | None:
    """What the agent is given of earlier edits with its first flow folder; None while it is not known what there is."""
    snapshot = draft.snapshot
    if not snapshot.saved_known:
        return None
    return {"savedEdits": _wire(snapshot.saved)} if snapshot.saved and snapshot.saved.archive else {}


def held(draft: Draft) -> bool:
    """Whether an end was put off before because of edits."""
    return draft.reason_before("Active") == NOT_SAVED


def lost(draft: Draft) -> str:
    """What is said of edits that nobody could save; empty where there is no flow folder."""
    return "what was edited in the session's flow folder could not be saved" if _has_folder(draft) else ""


def _has_folder(draft: Draft) -> bool:
    return draft.snapshot.status.get("flowRevision") not in (None, "", "none")


def _ask(draft: Draft, agent: AgentView | None) -> None:
    ask(draft, agent, TakeEdits(), not_before=agent.edits_at + AGAIN_SECONDS if agent else 0.0, interrupts=True)


def _hold(draft: Draft, agent: AgentView, problem: str) -> None:
    message = f"the session's end is put off, since what was edited in its flow folder can't be saved: {problem}"
    if not held(draft):
        draft.tell(warning=True, reason=NOT_SAVED, message=message)
    draft.judge("Active", False, NOT_SAVED, message)
    draft.look_again(draft.now + HELD_SECONDS)
    if agent.state and agent.state.retired:
        ask(draft, agent, Reopen())  # it stays, so it may be used


def _wire(saved_edits: SavedEdits) -> dict[str, Any]:
    return {
        "name": saved_edits.name,
        "savedAt": saved_edits.saved_at,
        "flowRevision": saved_edits.flow_revision,
        "archive": saved_edits.archive,
        "deleted": list(saved_edits.deleted),
    }


def _config_map(draft: Draft, name: str, packed: EditsArchive) -> dict[str, Any]:
    snapshot, user = draft.snapshot, draft.snapshot.spec.user
    about = {
        "user": user,
        "session": snapshot.name,
        "savedAt": times.stamp(draft.now),
        "flowRevision": packed.flow_revision,
        "files": packed.files,
        "deleted": packed.deleted,
    }
    return configmaps.manifest(
        EDITS,
        name,
        snapshot.where,
        {"edits.json": json.dumps(about, separators=(",", ":"))},
        binary={"edits.tar.gz": packed.archive},
        labels={USER_LABEL: user_label(user)},
        annotations={f"{GROUP}/user": user},
    )
