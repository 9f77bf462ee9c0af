"""Messages while a pod waits for a node, from the scheduler and, in the pod's Events, from autoscalers."""

from collections.abc import Iterable, Mapping
from typing import Any

from flowsession.model import times
from flowsession.model.draft import Draft
from flowsession.model.plan import ReadEvents
from flowsession.model.views import PodView, ScalingView

SHORTEST_PAUSE = 10.0
LONGEST_PAUSE = 60.0
"""Bounds of the seconds between two reads of a waiting pod's Events; the pause grows with the waiting time."""

_SCALING_UP = frozenset({"TriggeredScaleUp", "Nominated"})
_HELPLESS = frozenset({"NotTriggerScaleUp", "FailedScheduling"})
_SCHEDULER = "scheduler"
"""Suffix of the reporter's name if a scheduler wrote the FailedScheduling Event. Its message is already in the pod's condition."""


def unschedulable(draft: Draft, pod: PodView, seen: ScalingView | None, what: str = "session") -> tuple[str, str]:
    """Return reason and message for a pod that fits on no node. The reason is ScalingUp if an autoscaler is adding a node."""
    _read_events(draft, pod, seen)
    if seen is not None and seen.reason in _SCALING_UP:
        return "ScalingUp", f"a node is being added for the {what}: {seen.message}"
    of_a_claim = "persistentvolumeclaim" in pod.unscheduled_message.lower()
    message = f"the {what} waits for a claim" if of_a_claim else f"no node has room for the {what}"
    message = f"{message}: {pod.unscheduled_message}"
    return "Unschedulable", f"{message}; the autoscaler adds none: {seen.message}" if seen is not None and seen.message else message


def read(events: Iterable[Mapping[str, Any]], now: float) -> ScalingView:
    """Return the last Event of an autoscaler about a pod."""
    found = [event for event in events if _is_of_an_autoscaler(event)]
    if not found:
        return ScalingView(now)
    last = max(found, key=_last_seen)
    return ScalingView(now, str(last.get("reason")), str(last.get("message") or "")[:500])


def _read_events(draft: Draft, pod: PodView, seen: ScalingView | None) -> None:
    waited = draft.now - pod.created_at
    due = seen.read_at + min(LONGEST_PAUSE, max(SHORTEST_PAUSE, waited / 4)) if seen else 0.0
    if draft.now >= due:
        draft.read_events = ReadEvents(pod.namespace, pod.name, pod.uid)
    else:
        draft.look_again(due)


def _is_of_an_autoscaler(event: Mapping[str, Any]) -> bool:
    who = str((event.get("source") or {}).get("component") or event.get("reportingComponent") or "")
    return event.get("reason") in _SCALING_UP | _HELPLESS and not (event["reason"] == "FailedScheduling" and who.endswith(_SCHEDULER))


def _last_seen(event: Mapping[str, Any]) -> tuple[float, int]:
    series = (event.get("series") or {}).get("lastObservedTime")
    stamps = (series, event.get("lastTimestamp"), event.get("eventTime"), event.get("firstTimestamp"))
    at = next((at for text in stamps if (at := times.parse(text)) is not None), 0.0)
    return at, int((event.get("metadata") or {}).get("resourceVersion") or 0)
