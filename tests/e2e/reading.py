"""Objects of the cluster, read without starting a process each time: tests poll ten times a second, and kubectl takes 0.1 s of CPU."""

import argparse
import functools
import json
from pathlib import Path
from typing import Any

import kubernetes

from demo.kubectl import Kubectl, Object

GROUPS = ("/api/v1", "/apis/apps/v1", "/apis/scheduling.k8s.io/v1", "/apis/flowsession.dev/v1alpha1")


class ReadingKubectl(Kubectl):
    """kubectl whose `get` and `list` query the API server directly."""

    def get(self, kind: str, name: str) -> Object | None:
        try:
            found: Object = _read(self.kubeconfig, f"{self._path(kind, self.namespace)}/{name}")
        except kubernetes.client.ApiException as error:
            if error.status == 404:
                return None
            raise
        return found

    def list(self, kind: str, *arguments: str) -> list[Object]:
        parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
        parser.add_argument("-A", action="store_true")
        parser.add_argument("-l", default="")
        parser.add_argument("--field-selector", default="")
        asked = parser.parse_args(arguments)
        path = self._path(kind, "" if asked.A else self.namespace)
        items: list[Object] = _read(self.kubeconfig, path, labelSelector=asked.l, fieldSelector=asked.field_selector)["items"]
        return items

    def _path(self, kind: str, namespace: str) -> str:
        group, plural, namespaced = _kinds(self.kubeconfig)[kind]
        return f"{group}/namespaces/{namespace}/{plural}" if namespaced and namespace else f"{group}/{plural}"


@functools.cache
def _client(kubeconfig: Path) -> Any:
    client = kubernetes.config.new_client_from_config(str(kubeconfig))
    # Else every request looks for a proxy in os.environ, which fails in a thread while pytest changes PYTEST_CURRENT_TEST.
    client.configuration.proxy = client.configuration.proxy
    return client


@functools.cache
def _kinds(kubeconfig: Path) -> dict[str, tuple[str, str, bool]]:
    """Return group, plural and whether the kind is namespaced, by every name that kubectl accepts for it."""
    return {
        name: (group, kind["name"], kind["namespaced"])
        for group in GROUPS
        for kind in _read(kubeconfig, group)["resources"]
        for name in (kind["name"], kind["singularName"], *kind.get("shortNames", ()))
        if "/" not in kind["name"]
    }


def _read(kubeconfig: Path, path: str, **query: str) -> Any:
    """Return the decoded response. Raises kubernetes.client.ApiException."""
    client = _client(kubeconfig)
    asked = [(name, value) for name, value in query.items() if value]
    request = client.param_serialize("GET", path, query_params=asked, header_params={}, auth_settings=["BearerToken"])
    response = client.call_api(*request[:3], _request_timeout=30)
    response.read()
    if response.status >= 300:
        raise kubernetes.client.ApiException(http_resp=response)
    return json.loads(response.data)
