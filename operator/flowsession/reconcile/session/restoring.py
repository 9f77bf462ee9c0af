"""Reports what happened to earlier edits: restored, offered because the flow has changed since, moved aside by a push, or lost."""

from flowsession.model.agent_views import AgentState, AgentView, SavedEdits
from flowsession.reconcile.session import edits
from flowsession.reconcile.session.agent import same_container
from flowsession.reconcile.session.draft import Draft

CONDITION = "EditsInPlace"
KEPT = "KeptAside"
NOT_RESTORED = "NotRestored"
MOST_NAMED = 5


def report(draft: Draft, agent: AgentView | None) -> None:
    """Write the condition EditsInPlace if there are earlier edits, and Events about those that were found at a start."""
    if agent is None or agent.state is None:
        return
    saved, before = draft.snapshot.saved, draft.was(CONDITION)
    _judge(draft, agent.state, saved)
    pod = draft.pod
    if saved is None or pod is None or same_container(draft, pod) or agent.delivered is None:
        return
    if saved.ignored:
        what = "it is ignored" if len(saved.ignored) == 1 else "they are ignored"
        message = f"ConfigMap {_named(saved.ignored)} claims to hold saved edits, but this operator did not write it: {what}; delete it"
        draft.event(warning=True, reason="EditsIgnored", message=message)
    if saved.name and agent.state.edits.restored and not (before and before.reason == "Restored" and before.message == _restored(saved)):
        draft.event(warning=bool(saved.lost), reason="EditsRestored", message=_restored(saved))
    elif saved.lost:
        draft.event(warning=True, reason=edits.NOT_SAVED, message=saved.lost)


def _judge(draft: Draft, state: AgentState, saved: SavedEdits | None) -> None:
    found, before = state.edits, draft.was(CONDITION)
    if found.moved_aside:
        message = (
            f"the environment changed files that were edited here: the edits are in {_named(found.moved_aside)} now;"
            " compare by `flow edits --diff` in the session, and delete what you have merged"
        )
        if before and before.reason == KEPT and before.message != message:
            draft.event(warning=True, reason=KEPT, message=message)
        draft.set_condition(CONDITION, False, KEPT, message)
    elif found.offered or found.problem:
        draft.set_condition(CONDITION, False, NOT_RESTORED, _not_restored(draft, state, saved))
    elif found.restored and saved and saved.name:
        draft.set_condition(CONDITION, True, "Restored", _restored(saved))
    elif before and before.status == "False":
        draft.set_condition(CONDITION, True, "InPlace", "all edits that there are lie in the flow folder")


def _not_restored(draft: Draft, state: AgentState, saved: SavedEdits | None) -> str:
    before = draft.was(CONDITION)
    if state.edits.problem:
        return state.edits.problem
    if saved and saved.name:
        which = f"edits that session {saved.session} saved at {saved.saved_at}"
    elif before and before.reason == NOT_RESTORED:
        return before.message
    else:
        which = f"edits of an earlier session, in {state.edits.offered},"
    return (
        f"{which} were made on another version of the flow, so they are not in the flow folder: run `flow restore` in the session, which"
        " asks before it overwrites anything"
    )


def _restored(saved: SavedEdits) -> str:
    message = f"the flow folder has the edits that session {saved.session} saved at {saved.saved_at}"
    return f"{message}; {saved.lost}" if saved.lost else message


def _named(names: tuple[str, ...]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
