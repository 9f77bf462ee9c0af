"""The identity of a session: the ServiceAccount of its next pod, a change of identity, and advice on missing rights."""

import re

from flowsession.api.identity import Identity
from flowsession.model.views import PodIdentity, PodView
from flowsession.reconcile import identity
from flowsession.reconcile.identity import IdentityUnavailable
from flowsession.reconcile.session.draft import Draft

_DENIED = re.compile(
    r"\b40[13]\b|unauthori[sz]ed|forbidden|denied|authentication required|authorization failed|no basic auth|authorization token",
    re.IGNORECASE,
)


def for_next_pod(draft: Draft) -> PodIdentity | IdentityUnavailable | None:
    """Return the identity of the next pod, or why it is unavailable; None while the namespace's ServiceAccounts are being read."""
    return _found(draft, _wanted(draft))


def changed(draft: Draft, pod: PodView) -> PodIdentity | IdentityUnavailable | None:
    """Return the identity that the spec asks for instead of the pod's, or why it is unavailable; None if the pod's is right."""
    wanted = _wanted(draft)
    return None if pod.identity.asked == identity.asked(wanted) else _found(draft, wanted)


def pulls_in_vain(draft: Draft, pod: PodView) -> bool:
    """Return whether a new pod could pull the image that this one can't, since its ServiceAccount has been created or changed."""
    before, container = draft.was("Ready"), pod.container
    message = (container.waiting_message if container else "") + (before.message if before else "")
    if not pod.identity.version or not _DENIED.search(message):
        return False  # the pod's ServiceAccount is unknown, or another one would not help
    draft.look_again(draft.now + identity.LOOK_SECONDS)
    found = _found(draft, _wanted(draft))
    return isinstance(found, PodIdentity) and found != pod.identity


def to_pull(draft: Draft, pod: PodView, message: str) -> str:
    """Return the advice to grant the right to pull; empty if the registry's message is about something else."""
    if not _DENIED.search(message):
        return ""
    registry = _registry(pod.image)
    if pod.identity.account:
        return (
            f"; the session pulls as {pod.identity}: give that imagePullSecrets for {registry}, or let the cluster's nodes pull from it,"
            " and the session starts by itself"
        )
    return f"; {_none(draft, f'has imagePullSecrets for {registry}')}, or let the cluster's nodes pull from it"


def to_install(draft: Draft, pod: PodView, message: str) -> str:
    """Return the advice to grant the right to read the feed; empty if the index's message is about something else."""
    if not _DENIED.search(message):
        return ""
    if pod.identity.account:
        return f"; the session installs as {pod.identity}: grant that the right to read the feed"
    return f"; {_none(draft, 'may read the feed')}; then reset the session"


def _none(draft: Draft, can: str) -> str:
    where, user = draft.snapshot.namespace, draft.snapshot.spec.user
    return (
        f"the session has no identity: have a ServiceAccount of namespace {where!r} that {can} annotated"
        f" {identity.USER_ANNOTATION}: {user}, or name an assignable one in spec.identity"
    )


def _wanted(draft: Draft) -> Identity:
    """Return the identity that the spec asks for, or the instance's if the session is on one."""
    ref = draft.snapshot.spec.compute.instance_ref
    if ref is None:
        return draft.snapshot.spec.identity
    instance = draft.snapshot.instances.get(ref.name)
    return instance.identity if instance else Identity()


def _found(draft: Draft, wanted: Identity) -> PodIdentity | IdentityUnavailable | None:
    snapshot = draft.snapshot
    return identity.found(draft, wanted, snapshot.spec.user, snapshot.namespace, snapshot.accounts)


def _registry(image: str) -> str:
    """Return the image's registry by the rule of container runtimes: the first part, if it looks like a host."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"
