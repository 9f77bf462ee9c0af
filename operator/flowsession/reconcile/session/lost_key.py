"""Sessions whose agents know only a key that the operator lost: their users get a warning, and the sessions get new pods."""

import re
from functools import lru_cache

from flowsession.manifests.session_pod import FLOW_FOLDER
from flowsession.model import times
from flowsession.model.views import PodView
from flowsession.reconcile import requests
from flowsession.reconcile.session import edits, restart
from flowsession.reconcile.session.agent import same_container
from flowsession.reconcile.session.draft import Draft, Live

REASON = "KeyLost"

_KEY_ID = re.compile(r'"kid": ?"([0-9a-f]{1,64})"')


@lru_cache(maxsize=16)
def key_ids(key_set: str) -> frozenset[str]:
    """Return the ids of the keys in a JSON Web Key Set, as the operator writes them into pods."""
    return frozenset(_KEY_ID.findall(key_set[:16_384]))


def replace_lost(draft: Draft, live: Live) -> bool:
    """Replace a pod whose agent does not know this operator's key.

    A pod that was not ready yet is replaced at once, since nothing was done in it. Any other pod is replaced after the time for which an
    agent may be unreachable, since it can't be asked whether it is in use.
    """
    pod = live.pod
    ours = key_ids(draft.snapshot.public_keys)
    if not (ours and pod.key_ids and ours.isdisjoint(pod.key_ids)):
        return True
    cause = "its agent does not know the operator's key, since the former one was lost with Secret flowsession-agent-keys"
    if not same_container(draft, pod):
        return restart.start_again(draft, REASON, f"pod {pod.name} can't be told what to install: {cause}")
    due = _noticed_at(draft) + draft.snapshot.settings.session.unreachable_seconds
    if draft.now >= due:
        return restart.start_again(draft, REASON, f"pod {pod.name} could not be asked any more: {cause}")
    draft.unreachable(REASON, _message(draft, pod, cause, due))
    draft.set_condition("Active", None, "ProbeFailed", "the agent can't be asked; what can't be asked is not ended as idle")
    draft.put("expiresAt", None)
    draft.look_again(due)
    return False


def _noticed_at(draft: Draft) -> float:
    before = draft.was("Ready")
    noticed = times.parse(before.last_transition_time) if before is not None and before.reason == REASON else None
    return draft.now if noticed is None else min(noticed, draft.now)


def _message(draft: Draft, pod: PodView, cause: str, due: float) -> str:
    copy = f"; copy what is newer before: kubectl cp -n {pod.namespace} {pod.name}:{FLOW_FOLDER} flow" if edits.has_folder(draft) else ""
    return (
        f"the session runs on, but is neither saved, installed into nor ended as idle: {cause}; it gets a new pod, with the edits that were"
        f" saved last, at {times.deadline_stamp(due)}, or at once by the annotation {requests.REQUESTS['reset']}{copy}"
    )
