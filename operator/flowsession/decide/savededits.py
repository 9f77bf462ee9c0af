"""The ConfigMaps that hold saved edits: their names, their order, and what is sealed in them."""

from flowsession.api import GROUP
from flowsession.decide import configmaps, times
from flowsession.decide.agentviews import EditsArchive
from flowsession.decide.children import Where
from flowsession.decide.configmaps import EDITS
from flowsession.decide.plan import Create, Sealed
from flowsession.decide.pod import USER_LABEL, user_label

SEQUENCE_ANNOTATION = f"{GROUP}/sequence"
"""Orders the saved edits of one user and environment: the greatest is the newest. Sealed with the content, so that nobody can change it."""

USER_ANNOTATION = f"{GROUP}/user"


def name_of(where: Where, user: str, *, before: str, revision: str) -> str:
    """The name for edits that follow on those saved as `before`: the same however often it is tried, another one when they come back."""
    return configmaps.name_of(EDITS, where.environment, where.uid, user, before, revision)


def moment_after(saved_at: str | None, now: float) -> float:
    """When edits are saved that come after those of that time, in seconds since 1970: later than these by any clock."""
    last = times.parse(saved_at)
    return now if last is None else max(now, last + 1.0)


def create(
    name: str, where: Where, *, user: str, session: str, pod_uid: str, packed: EditsArchive, moment: float, lost: str = ""
) -> Create:
    """The creation of the ConfigMap; `lost`: why there is no archive of edits that were made by then."""
    about = {
        "user": user,
        "session": session,
        "savedAt": times.stamp(moment),
        "revision": packed.revision,
        "flowRevision": packed.flow_revision,
        "files": packed.files,
        "deleted": packed.deleted,
        "base": dict(packed.base),
        **({"lost": lost} if lost else {}),
    }
    manifest = configmaps.manifest(
        EDITS,
        name,
        where,
        {},
        labels={USER_LABEL: user_label(user)},
        annotations={USER_ANNOTATION: user, SEQUENCE_ANNOTATION: str(int(moment * 1000))},
    )
    return Create(manifest, Sealed(about, packed.archive, pod_uid, packed.revision))
