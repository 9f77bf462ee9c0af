"""The ConfigMaps that hold saved edits: their names, their order, and what is sealed in them."""

from flowsession.api import GROUP
from flowsession.manifests import config_maps
from flowsession.manifests.common import Where
from flowsession.manifests.config_maps import EDITS
from flowsession.manifests.session_pod import USER_LABEL, user_label
from flowsession.model import times
from flowsession.model.agent_views import EditsArchive
from flowsession.model.plan import Create, Sealed

SEQUENCE_ANNOTATION = f"{GROUP}/sequence"
"""Orders the saved edits of one user and environment: the greatest is the newest. Sealed with the content, so that nobody can change it."""

USER_ANNOTATION = f"{GROUP}/user"


def name_of(where: Where, user: str, *, before: str, revision: str) -> str:
    """The name for edits that follow on those saved as `before`: the same however often it is tried, another one when they come back."""
    return config_maps.name_of(EDITS, where.environment, where.uid, user, before, revision)


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
    manifest = config_maps.manifest(
        EDITS,
        name,
        where,
        {},
        labels={USER_LABEL: user_label(user)},
        annotations={USER_ANNOTATION: user, SEQUENCE_ANNOTATION: str(int(moment * 1000))},
    )
    return Create(manifest, Sealed(about, packed.archive, pod_uid, packed.revision))
