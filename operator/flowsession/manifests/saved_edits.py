"""The ConfigMaps with saved edits: their names, their sequence, and their encrypted content."""

from flowsession.api import GROUP
from flowsession.manifests import config_maps
from flowsession.manifests.common import Where
from flowsession.manifests.config_maps import EDITS
from flowsession.manifests.session_pod import USER_LABEL, user_label
from flowsession.model import times
from flowsession.model.agent_views import EditsArchive
from flowsession.model.plan import Create, Sealed

SEQUENCE_ANNOTATION = f"{GROUP}/sequence"
"""Number of the saved edits of one user and environment; the greatest is the newest. Authenticated with the content."""

USER_ANNOTATION = f"{GROUP}/user"


def name_of(where: Where, user: str, *, before: str, revision: str) -> str:
    """Return the name for edits saved after those in `before`: the same for each attempt, but a different one if an earlier revision
    recurs."""
    return config_maps.name_of(EDITS, where.environment, where.uid, user, before, revision)


def moment_after(saved_at: str | None, now: float) -> float:
    """Return the time of the edits that follow those of `saved_at`, in seconds since 1970: later than these, whatever the clock says."""
    last = times.parse(saved_at)
    return now if last is None else max(now, last + 1.0)


def create(
    name: str, where: Where, *, user: str, session: str, pod_uid: str, packed: EditsArchive, moment: float, lost: str = ""
) -> Create:
    """Return the creation of the ConfigMap. `lost` says why the edits made by then could not be packed."""
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
