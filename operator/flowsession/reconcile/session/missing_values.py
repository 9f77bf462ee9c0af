"""Missing Secrets and ConfigMaps from which `spec.env` takes values: without them, the container can't be created."""

import re

from flowsession.model.views import PodView
from flowsession.reconcile import requests
from flowsession.reconcile.session.draft import Draft

CONFIG_ERROR = "CreateContainerConfigError"
"""The kubelet's reason in this case; the kubelet retries by itself."""

_KINDS = {"secret": "Secret", "configmap": "ConfigMap"}
_NO_OBJECT = re.compile(r'\b(secret|configmap)s? "([^"\s]{1,253})" not found')
_NO_KEY = re.compile(r"couldn't find key (\S{1,253}) in (Secret|ConfigMap) (\S{1,320})")
"""The kubelet's messages (k8s.io/kubernetes/pkg/kubelet/kubelet_pods.go)."""


def cause(draft: Draft, pod: PodView) -> tuple[str, str] | None:
    """Return reason and message, or None if the container fails for another reason."""
    container = pod.container
    if container is None or container.waiting_reason != CONFIG_ERROR:
        return None
    message = container.waiting_message
    if found := _NO_KEY.search(message):
        kind, name, key = found[2], found[3].rpartition("/")[2], found[1]
        lacks, way = f"has no key {key!r}", f"add the key to the {kind}"
    elif found := _NO_OBJECT.search(message):
        kind, name, key = _KINDS[found[1]], found[2], ""
        lacks, way = "does not exist", f"create the {kind}"
    else:
        return None
    variables = ", ".join(_variables(draft, kind, name, key)) or "a variable"
    where = f"{kind} {name!r} in namespace {draft.snapshot.namespace!r}, which spec.env takes {variables} from,"
    reset = f" and set the annotation {requests.REQUESTS['reset']}" if draft.snapshot.status.get("readyAt") else ""
    return f"{kind}NotFound", f"{where} {lacks}: {way}, and the session starts by itself, or correct spec.env{reset}"


def _variables(draft: Draft, kind: str, name: str, key: str) -> list[str]:
    """Return the names of the variables that take their values from this object and key; empty key: any."""
    found = []
    for variable in draft.snapshot.spec.env or ():
        source = variable.value_from
        ref = (source.secret_key_ref if kind == "Secret" else source.config_map_key_ref) if source else None
        if ref is not None and ref.name == name and key in ("", ref.key):
            found.append(variable.name)
    return found
