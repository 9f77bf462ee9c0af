"""An environment's plan in the making."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flowsession.api import GROUP
from flowsession.images.check import Question
from flowsession.images.image import IMAGE_REQUESTS
from flowsession.model import draft
from flowsession.model.plan import Event, Fetch, Plan
from flowsession.reconcile.environment.snapshot import EnvironmentSnapshot

REQUESTS = {"refresh": f"{GROUP}/refresh-requested-at", **IMAGE_REQUESTS}
"""The annotation of each request to an environment. Its value is a timestamp; any new value is a new request."""


class Draft(draft.Draft):
    """The draft of an environment."""

    KIND = "FlowEnvironment"

    def __init__(self, snapshot: EnvironmentSnapshot, now: float) -> None:
        super().__init__(snapshot, now, snapshot.requests)
        self.snapshot = snapshot
        self.fetches: tuple[Fetch, ...] = ()
        self.question: Question | None = None
        self.trouble = ""
        """What keeps the source from being read."""

    def _plan(self, patch: Mapping[str, Any], events: tuple[Event, ...]) -> Plan:
        return replace(super()._plan(patch, events), fetches=self.fetches, question=self.question)
