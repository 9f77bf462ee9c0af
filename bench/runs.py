"""Runs on the current cluster, each beside prompt flow's own command in the same session, by turns. Prints a Markdown table.

`make bench-runs` after `make deploy`; takes some minutes. Read the ratios: absolute times are the machine's.
"""

import argparse
import json
import statistics
import time
import uuid
from typing import Any

from demo import programs
from demo.kubectl import Kubectl
from demo.targets import choose

USER = "bench@example.com"
DAG = """\
inputs: {text: {type: string}}
outputs: {answer: {type: string, reference: "${shout.output}"}}
nodes:
- {name: shout, type: python, source: {type: code, path: shout.py}, inputs: {text: "${inputs.text}"}}
"""
SHOUT = "from promptflow.core import tool\n\n@tool\ndef run(text: str) -> str:\n    return text.upper()\n"
MAPPING = "text=${data.word}"


def lines(count: int) -> str:
    return "".join(json.dumps({"word": f"word {number}"}) + "\n" for number in range(count))


def objects() -> list[dict[str, Any]]:
    api, data = "flowsession.dev/v1alpha1", {"few.jsonl": lines(3), "many.jsonl": lines(1000)}
    flow = {"flow.dag.yaml": DAG, "shout.py": SHOUT, **data}
    labels = {"flowsession.dev/source": "true"}
    session = {"environmentRef": {"name": "bench"}, "user": USER, "idle": {"action": "None"}}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bench", "labels": labels}, "data": flow},
        {"apiVersion": api, "kind": "FlowEnvironment", "metadata": {"name": "bench"}, "spec": {"source": {"configMap": {"name": "bench"}}}},
        {"apiVersion": api, "kind": "ComputeSession", "metadata": {"name": "bench"}, "spec": session},
    ]


def by_flow_run(kubectl: Kubectl, data: str) -> float:
    """Return the seconds from the apply to Complete."""
    name = f"run-{uuid.uuid4().hex[:8]}"
    spec = {"user": USER, "environmentRef": {"name": "bench"}, "data": {"path": data}, "columnMapping": {"text": "${data.word}"}}
    body = {"apiVersion": "flowsession.dev/v1alpha1", "kind": "FlowRun", "metadata": {"name": name}, "spec": spec}
    started = time.perf_counter()
    kubectl("create", "-f", "-", stdin=json.dumps(body))
    kubectl("wait", "--for=condition=Complete", f"flowrun/{name}", "--timeout=600s")
    return time.perf_counter() - started


def by_prompt_flow(kubectl: Kubectl, pod: str, data: str) -> float:
    """Return the seconds of `pf run create` in the session."""
    name = f"pf-{uuid.uuid4().hex[:8]}"
    started = time.perf_counter()
    kubectl("exec", pod, "--", "pf", "run", "create", "--flow", ".", "--data", data, "--name", name, "--column-mapping", MAPPING)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=10, help="rounds of 3 lines; a third as many of 1,000")
    rounds = parser.parse_args().n
    target = choose()
    namespace = f"bench-{uuid.uuid4().hex[:6]}"
    kubectl = Kubectl(programs.kubectl(), target.kubeconfig, namespace)
    kubectl("create", "namespace", namespace)
    try:
        kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects()}))
        kubectl("wait", "--for=condition=Ready", "csess/bench", "--timeout=300s")
        pod = kubectl("get", "csess", "bench", "-o", "jsonpath={.status.podName}").strip()
        print("| run | lines | n | FlowRun p50 | pf run create p50 | ratio |\n|---|---|---|---|---|---|")
        for data, count, times in (("few.jsonl", 3, rounds), ("many.jsonl", 1000, max(1, rounds // 3))):
            pairs = [(by_flow_run(kubectl, data), by_prompt_flow(kubectl, pod, data)) for _ in range(times + 1)][1:]
            ours, theirs = (statistics.median(values) for values in zip(*pairs, strict=True))
            print(f"| {data} | {count} | {times} | {ours:.1f} s | {theirs:.1f} s | {ours / theirs:.2f} |", flush=True)
    finally:
        kubectl("delete", "namespace", namespace, "--wait=false")


if __name__ == "__main__":
    main()
