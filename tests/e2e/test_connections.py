"""Connections on a real node: a late Secret, a changed Secret, and another list. The kubelet delivers each without a restart.

The kubelet also delivers the headers for traces, so the same session sends some.
"""

import json
import subprocess

import modelserver
import otlpserver
from localcluster import layout

from .conftest import Cluster, environment, session

FLOW = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "flow", "labels": {"flowsession.dev/source": "true"}},
    "data": modelserver.FLOW,
}


def secret(url: str, key: str) -> dict[str, object]:
    fields = f"type: open_ai\napi_key: {key}\nbase_url: {url}/v1\n"
    labels = {"flowsession.dev/connection": "true"}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "open-ai", "labels": labels},
        "stringData": {"connection.yaml": fields},
    }


HEADERS = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "otlp"}, "stringData": {"authorization": "Bearer otlp-first"}}


def chat(*names: str, otlp: str) -> dict[str, object]:
    given = [{"name": name, "secretName": "open-ai"} for name in names]
    tracing = {"otlpEndpoint": otlp, "headersSecretName": "otlp"}
    return environment("flow", source={"configMap": {"name": "flow"}}, connections=given, tracing=tracing)


def test_the_kubelet_brings_connections_late_ones_and_changed_ones_too(cluster: Cluster) -> None:
    with modelserver.serving("sk-first", host=layout.API_ADDRESS) as model, otlpserver.serving(layout.API_ADDRESS) as otlp:
        cluster.apply(FLOW, chat("open_ai_connection", otlp=otlp.url), session(of="flow"))
        pod = cluster.until_ready("s")["podName"]
        wrong = cluster.until("FlowValid is False", lambda: cluster.condition("s", "FlowValid").get("status") == "False", 60)
        assert wrong and "Secret 'open-ai' does not exist" in cluster.condition("s", "FlowValid")["message"]

        def answers(*command: str) -> bool:
            ran = subprocess.run(cluster.command("exec", pod, "--", *command), capture_output=True, text=True, check=False)
            return ran.returncode == 0 and "you said: hello" in ran.stdout

        cluster.apply(secret(model.url, "sk-first"), HEADERS)
        cluster.until("FlowValid follows the Secret", lambda: cluster.condition("s", "FlowValid").get("status") == "True", 240)
        cluster.until("flow test calls the model", lambda: answers("flow", "test", "--inputs", "question=hello"), 60)
        assert answers("pf", "flow", "test", "--flow", ".", "--inputs", "question=hello")
        model.keys = {"sk-second"}
        cluster.apply(secret(model.url, "sk-second"))
        cluster.until("the changed key is in use", lambda: answers("flow", "test", "--inputs", "question=hello"), 240)
        assert otlp.requests, cluster.kubectl("logs", pod)
        assert otlp.requests[-1].headers["authorization"] == "Bearer otlp-first"
        answered = [span for span in otlp.named("ask") if "you said: hello" in span.attributes.get("output", "")]
        assert {span.resource["k8s.pod.name"] for span in answered} == {pod}
        cluster.apply(chat("open_ai_connection", "another", otlp=otlp.url))
        cluster.until("InSync says so", lambda: cluster.condition("s", "InSync").get("reason") == "ConnectionsChanged", 30)
        assert cluster.status("s")["podName"] == pod
        seen = cluster.kubectl("get", "computesessions,flowenvironments,events,configmaps,pods", "-o", "json")
        assert not any(key in seen + cluster.kubectl("logs", pod) for key in ("sk-first", "sk-second", "otlp-first"))
        assert json.loads(cluster.kubectl("get", "pod", pod, "-o", "json"))["status"]["containerStatuses"][0]["restartCount"] == 0
