"""Start times on the current cluster: sessions against bare pods, interleaved in one run, image present. Prints a Markdown table.

`make bench` after `make deploy`; takes some minutes. Read the ratios: absolute times are the machine's.
"""

import argparse
import http.client
import json
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from demo import programs
from demo.kubectl import Kubectl
from demo.targets import choose

Object = dict[str, Any]


@dataclass
class Case:
    """One kind of thing whose start is timed."""

    title: str
    kind: str
    manifest: Callable[[str], Object]
    ready: Callable[[Object], bool]
    seconds: list[float] = field(default_factory=list)


def running(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") == "Running"


def is_ready(session: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in session.get("status", {}).get("conditions", []))


def session(environment: str) -> Callable[[str], Object]:
    return lambda name: {
        "apiVersion": "flowsession.dev/v1alpha1",
        "kind": "ComputeSession",
        "metadata": {"name": name},
        "spec": {"environmentRef": {"name": environment}, "user": name, "idle": {"action": "None"}},
    }


def pod(image: str, **spec: Any) -> Callable[[str], Object]:
    container = {"name": "c", "image": image, "command": ["sleep", "3600"], "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}}}
    return lambda name: {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **spec},
    }


class Bench:
    """An API connection through kubectl proxy, so that the measurement covers the cluster and not the start of a client."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self.namespace = namespace
        self._proxy = subprocess.Popen(
            [str(kubectl.program), "--kubeconfig", str(kubectl.kubeconfig), "proxy", "--port=0"], stdout=subprocess.PIPE, text=True
        )
        assert self._proxy.stdout is not None
        self._address = self._proxy.stdout.readline().split()[-1]
        self._connect = http.client.HTTPConnection

    def close(self) -> None:
        self._proxy.kill()
        self._proxy.wait()

    def time(self, case: Case, name: str) -> float:
        """Return the seconds from the POST to the watch event that shows the object ready."""
        path = self._path(case.kind)
        watch = self._connect(self._address)
        watch.request("GET", f"{path}?watch=true&fieldSelector=metadata.name%3D{name}")
        stream = watch.getresponse()
        started = time.perf_counter()
        self._send("POST", path, case.manifest(name))
        while line := stream.readline():
            if case.ready(json.loads(line)["object"]):
                elapsed = time.perf_counter() - started
                watch.close()
                self._send("DELETE", f"{path}/{name}", {"propagationPolicy": "Background"})
                return elapsed
        raise RuntimeError(f"the watch of {name} ended before it was ready")

    def settle(self) -> None:
        """Wait until no pod is left: the next start must not share the node with the end of the last one."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if not self._send("GET", self._path("pods"), None)["items"]:
                return
            time.sleep(0.05)
        raise RuntimeError("pods of the last round are still there after 60 s")

    def _path(self, kind: str) -> str:
        group = "/api/v1" if kind == "pods" else "/apis/flowsession.dev/v1alpha1"
        return f"{group}/namespaces/{self.namespace}/{kind}"

    def _send(self, method: str, path: str, body: Object | None) -> Object:
        connection = self._connect(self._address)
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        document: Object = json.loads(answer.read())
        connection.close()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {document.get('message')}")
        return document


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=30, help="rounds; each starts one of each case")
    arguments = parser.parse_args()
    target = choose()
    namespace = f"bench-{uuid.uuid4().hex[:6]}"
    kubectl = Kubectl(programs.kubectl(), target.kubeconfig, namespace)
    kubectl("create", "namespace", namespace)
    image = _runtime_image(target.kubeconfig)
    folder = {"flow.dag.yaml": "nodes: []\nenvironment:\n  python_requirements_txt: requirements.txt\n", "requirements.txt": "rapidfuzz\n"}
    kubectl(
        "apply",
        "-f",
        "-",
        stdin=json.dumps(
            {
                "apiVersion": "v1",
                "kind": "List",
                "items": [
                    {"apiVersion": "flowsession.dev/v1alpha1", "kind": "FlowEnvironment", "metadata": {"name": "plain"}, "spec": {}},
                    {
                        "apiVersion": "flowsession.dev/v1alpha1",
                        "kind": "FlowEnvironment",
                        "metadata": {"name": "flow"},
                        "spec": {"source": {"configMap": {"name": "flow"}}},
                    },
                    {
                        "apiVersion": "v1",
                        "kind": "ConfigMap",
                        "metadata": {"name": "flow", "labels": {"flowsession.dev/source": "true"}},
                        "data": folder,
                    },
                ],
            }
        ),
    )
    cases = [
        Case("bare pod (no volume, no token)", "pods", pod(image, automountServiceAccountToken=False, enableServiceLinks=False), running),
        Case("session, nothing to install", "computesessions", session("plain"), is_ready),
        Case("ordinary pod (token volume)", "pods", pod(image), running),
        Case("session, flow folder and one package installed", "computesessions", session("flow"), is_ready),
    ]
    bench = Bench(kubectl, namespace)
    try:
        for number in range(-2, arguments.n):
            for position, case in enumerate(cases):
                seconds = bench.time(case, f"b{position}-{number + 2}")
                if number >= 0:
                    case.seconds.append(seconds)
                bench.settle()
    finally:
        bench.close()
        kubectl("delete", "namespace", namespace, "--wait=false")
    base = statistics.median(cases[0].seconds)
    print(f"Measured {datetime.now(UTC):%Y-%m-%d}, n = {arguments.n}, interleaved, one at a time, image present.\n")
    print("| from create to | p50 | p99 | p50 against a bare pod |\n|---|---|---|---|")
    for case in cases:
        middle = statistics.median(case.seconds)
        print(f"| {case.title} | {middle * 1000:.0f} ms | {percentile(case.seconds, 0.99) * 1000:.0f} ms | {middle / base:.2f} x |")


def _runtime_image(kubeconfig: Any) -> str:
    settings = Kubectl(programs.kubectl(), kubeconfig, "flowsession-system").get("configmap", "flowsession-settings")
    if settings is None:
        raise SystemExit("the operator is not installed on this cluster; run `make deploy` first")
    line = next(line for line in settings["data"]["settings.yaml"].splitlines() if line.startswith("runtimeImage:"))
    return line.partition(":")[2].strip().strip('"')


if __name__ == "__main__":
    main()
