"""Images of environments: what is news about them, and what their registries said."""

from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from flowsession.engine.store.keys import Key, Name
from flowsession.engine.store.objects import EnvironmentEntry, PodEntry, SessionEntry
from flowsession.images import pods as podimages
from flowsession.images.check import ImageCheck
from flowsession.reconcile.environment.image import Image
from flowsession.reconcile.environment.image_status import WITHOUT, ImageFacts
from flowsession.reconcile.session.snapshot import PodView


@dataclass
class Imaging:
    """An environment is brought up by sessions and pods only where they say something new about its image: a thousand of them say the
    same."""

    checks: dict[str, ImageCheck] = field(default_factory=dict)
    """By the environment's uid: what its image's registry said last."""

    promptflow: dict[Name, str] = field(default_factory=dict)
    """What the lists of packages that were lately made say of prompt flow in their image."""

    def note_session(self, known: SessionEntry | None, entry: SessionEntry, environment: EnvironmentEntry | None) -> set[Key]:
        """A session may say for the first time whether the image has prompt flow."""
        said = (entry.status.get("packages") or {}).get("promptflow")
        before = (known.status.get("packages") or {}).get("promptflow") if known else None
        if environment is None or said is None or said == before:
            return set()
        warned = any(warning.get("code") == WITHOUT for warning in environment.status.get("warnings") or ())
        return _key(environment) if warned == bool(said) else set()

    def note_pod(self, entry: PodEntry, environment: EnvironmentEntry | None) -> set[Key]:
        """A pod may be the first whose node says which image it runs, or the first that a registry gave it to."""
        reports = entry.view.container.image_id if entry.view.container else ""
        known = (environment.status.get("imageDigest") or "") if environment else ""
        news = reports and (not known or ("@" in reports and "@" not in known))
        return _key(environment) if environment and news else set()

    def facts(self, entry: EnvironmentEntry, image: Image, sessions: Iterable[SessionEntry], pods: Iterable[PodView]) -> ImageFacts:
        """What the environment's sessions, those with an image of their own aside, and its registry have said of its image."""
        known = entry.status.get("imageDigest") or "" if entry.status.get("baseImage") == image.name else ""
        lists = (session.status.get("packages") or {} for session in sessions if session.status.get("baseImage") == image.name)
        found = next((listed["promptflow"] for listed in lists if "promptflow" in listed), None)
        return ImageFacts(
            reported=podimages.reported(pods, image, known),
            promptflow=None if found is None else bool(found),
            check=self.checks.get(entry.meta.uid),
        )

    def prune(self, environments: Container[str], lists: Container[Name]) -> None:
        """Drops what was said of environments that are gone, and by lists that are not known any more."""
        self.promptflow = {name: version for name, version in self.promptflow.items() if name in lists}
        self.checks = {uid: check for uid, check in self.checks.items() if uid in environments}


def _key(environment: EnvironmentEntry) -> set[Key]:
    return {Key("FlowEnvironment", environment.meta.namespace, environment.meta.name)}
