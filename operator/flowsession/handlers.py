"""The watches: kopf passes each watch event straight to the engine. No other kind of kopf handler is used; see docs/design.md."""

import dataclasses
import logging
import os
from typing import Any

import kopf

from flowsession.api import GROUP, VERSION
from flowsession.engine.loop import SELECTORS, Engine

_RESOURCES: dict[str, tuple[str, str, str]] = {
    "FlowEnvironment": (GROUP, VERSION, "flowenvironments"),
    "ComputeSession": (GROUP, VERSION, "computesessions"),
    "Pod": ("", "v1", "pods"),
    "ConfigMap": ("", "v1", "configmaps"),
    "VMSize": (GROUP, VERSION, "vmsizes"),
    "ComputeInstance": (GROUP, VERSION, "computeinstances"),
    "FlowRun": (GROUP, VERSION, "flowruns"),
    "ResourceQuota": ("", "v1", "resourcequotas"),
}


class NoDiffBase(kopf.DiffBaseStorage):
    """Copies, stores and compares nothing, since no change handlers exist."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class NoProgress(kopf.ProgressStorage):
    """Keeps no progress, since event handlers have none."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


def registry(engine: Engine) -> kopf.OperatorRegistry:
    """Return the handlers, bound to this engine."""
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers)(_login)
    for kind, (group, version, plural) in _RESOURCES.items():
        kopf.on.event(group, version, plural, id=kind, registry=handlers)(_observer(engine, kind))
    return handlers


def settings() -> kopf.OperatorSettings:
    """Return settings for kopf without its own writes, scans and peers; each line avoids a measured cost or a known trap."""
    chosen = kopf.OperatorSettings()
    chosen.peering.standalone = True
    chosen.scanning.disabled = True
    chosen.posting.enabled = False
    chosen.networking.request_timeout = 30
    chosen.networking.connect_timeout = 5
    chosen.watching.connect_timeout = 5
    chosen.watching.initial_streaming = True
    for kind, selector in SELECTORS.items():
        if selector:
            chosen.watching.label_selectors[_RESOURCES[kind][2]] = selector
    chosen.persistence.diffbase_storage = NoDiffBase()
    chosen.persistence.progress_storage = NoProgress()
    # Otherwise kopf logs one line at INFO for every event.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    return chosen


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    inside = kopf.login_with_service_account(**kwargs)
    if inside is None:
        return kopf.login_with_kubeconfig(**kwargs)
    # As client-go does, use the address from the pod's environment, so that no cluster DNS is needed.
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    return dataclasses.replace(inside, server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}")


def _observer(engine: Engine, kind: str) -> Any:
    # A coroutine, so that it runs in the event loop: kopf calls plain functions in threads, and cache and queue are not thread-safe.
    async def observe(event: kopf.RawEvent, **_: Any) -> None:
        engine.observe(kind, event["object"], deleted=event["type"] == "DELETED")

    return observe
