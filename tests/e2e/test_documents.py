"""Every command of the README and the documents, typed as written, in their order, against the cluster."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

import documents
from localcluster import binaries

from .conftest import CHECKOUT, Cluster, environment, session

NOT_RUN = (
    (re.compile(r"make (test|lint)(-unit)?"), "CI itself runs it"),
    (re.compile(r"make ((test|bench)(-[a-z]+)?|coverage|mutants( [A-Z]+=\d+)*)"), "takes minutes or more"),
    (re.compile(r"CLUSTER=current REGISTRY=\S+ make deploy"), "needs a registry that the nodes pull from"),
)
"""Commands that are only tried with `make -n`, with the reason."""


@dataclass
class Page:
    """How to type the commands of one document: replacements for them, commands that run last, and prerequisites."""

    names: dict[str, str] = field(default_factory=dict)
    last: tuple[str, ...] = ()
    before: dict[str, str] = field(default_factory=dict)
    """Command -> shell command that runs before it, to create or wait for something."""
    beside: Path = CHECKOUT
    """The folder in which they are typed."""


class Shell:
    """A person's shell: variables persist, and the first failure ends the test with the output."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.folder = folder
        config = folder / "kubeconfig"
        config.write_bytes(cluster.kubectl.kubeconfig.read_bytes())
        self._cluster = cluster
        self._state = folder / "state"
        self._config = config
        path = f"{Path(sys.executable).parent}:{binaries.install_folder()}:{os.environ['PATH']}"
        self._state.write_text(f"export KUBECONFIG={config} PATH={path}\n")
        self("kubectl config set-context --current --namespace " + cluster.namespace, CHECKOUT)

    def __call__(self, command: str, folder: Path) -> str:
        script = f"set -aeo pipefail; . {self._state}\n{command}\nexport -p > {self._state}"
        done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=540, check=False, input="exit\n")
        # A document may export its own KUBECONFIG. This one has the test's namespace.
        self._state.write_text(self._state.read_text() + f"export KUBECONFIG={self._config}\n")
        told = f"{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, f"$ {command}\n{told}\n{self._cluster.kubectl.attempt('describe', 'csess,fenv').stdout}"
        assert not re.search(r"^Warning:", done.stderr, re.MULTILINE), f"$ {command}\n{told}"
        return told


@pytest.fixture
def shell(cluster: Cluster, tmp_path: Path) -> Shell:
    return Shell(cluster, tmp_path)


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    """Create a folder with `my-flows/chat` in it, and the files that the documents' Secrets are made of."""
    chat = tmp_path / "my-flows" / "chat"
    chat.mkdir(parents=True)
    (chat / "flow.flex.yaml").write_text("entry: main:answer\n")
    (chat / "main.py").write_text("def answer(question: str = 'hello') -> str:\n    return question\n")
    for name in ("id_ed25519", "known_hosts", "FILE"):
        (tmp_path / name).write_text("x")
    return tmp_path


def apply(shell: Shell, folder: Path, manifests: str) -> None:
    (folder / "manifests.yaml").write_text(manifests)
    shell(f"kubectl apply -f {folder / 'manifests.yaml'}", folder)


def type_all(shell: Shell, document: str, page: Page) -> list[str]:
    """Type the document's commands and return the output of each."""
    found = list(dict.fromkeys(command.text for command in documents.commands() if command.document == document))
    assert found, f"{document} has no commands"
    printed = []
    for text in sorted(found, key=lambda text: text in page.last):
        if before := page.before.get(text):
            shell(before, page.beside)
        printed.append(shell(_typed(text, page.names), page.beside))
    return printed


def in_session(shell: Shell, run: dict[str, Any], session: str, *, wait: str, show: str) -> str:
    """Return the output of `show` for the same run in a named session, once it meets condition `wait`."""
    body = {**run, "metadata": {"name": f"in-{session}"}, "spec": {**run["spec"], "sessionRef": {"name": session}}}
    apply(shell, shell.folder, json.dumps(body))
    shell(f"kubectl wait --for=condition={wait} frun/in-{session} --timeout=3m", CHECKOUT)
    return shell(f"kubectl get frun in-{session} -o '{show}'", CHECKOUT)


def _typed(text: str, names: dict[str, str]) -> str:
    if any(pattern.fullmatch(text) for pattern, _ in NOT_RUN):
        return re.sub(r"\bmake\b", "make -n", text)
    for name, value in names.items():
        text = re.sub(rf"(?<![\w${{]){re.escape(name)}(?!\w)", lambda _, value=value: value, text)
    return text.replace("kubectl exec -it", "kubectl exec -i").replace("kubectl edit", "EDITOR=true kubectl edit")


def test_every_document_with_commands_is_typed_here() -> None:
    here = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    wanted = {
        Path(command.document).with_suffix("").as_posix().lower().replace("-", "_").replace("/", "_") for command in documents.commands()
    }
    assert wanted <= here


def test_readme(shell: Shell) -> None:
    printed = type_all(
        shell,
        "README.md",
        Page(names={"...": "x", "helm install": "helm install --dry-run=client"}, last=("kubectl delete csess ticket-triage",)),
    )
    for words in ("s after the flow had run", '"category"', "scikit-learn", "ticket-triage created", "Seconds without work"):
        assert words in "\n".join(printed), words


def test_contributing(shell: Shell) -> None:
    type_all(shell, "CONTRIBUTING.md", Page())


def test_examples_readme(shell: Shell, python_image: str) -> None:
    served = f"kubectl kustomize examples/model-server | sed 's|image: .*|image: {python_image}|' | kubectl apply -f -"
    address = "$(kubectl get service model-server -o jsonpath='{.spec.clusterIP}')"  # not every cluster has DNS
    chat = f'kubectl kustomize examples/help-chat | sed "s|//model-server:|//{address}:|" | kubectl apply -f -'
    names = {"kubectl apply -k examples/model-server": served, "kubectl apply -k examples/help-chat": chat}
    printed = type_all(shell, "examples/README.md", Page(names=names))
    assert any('"category": "access"' in text for text in printed)
    assert any("warranty of 24 months" in text for text in printed)
    assert json.loads(printed[-1])["accuracy"] == "0.92"


def test_docs_runs(shell: Shell) -> None:
    first = "kubectl apply -f examples/ticket-triage/run.yaml"
    ready = "kubectl apply -k examples/ticket-triage && kubectl wait --for=condition=Ready csess/ticket-triage --timeout=5m"
    printed = type_all(shell, "docs/runs.md", Page(before={first: ready}))
    lines = len((CHECKOUT / "examples" / "ticket-triage" / "flow" / "samples.jsonl").read_text().splitlines())
    assert f"{lines}/{lines}" in printed[2]
    outputs = [json.loads(line) for line in printed[4].strip().splitlines()]
    assert [line["line_number"] for line in outputs] == list(range(lines))
    assert all(line["category"] for line in outputs)
    assert set(json.loads(printed[7])) == {"accuracy"}
    metrics = "jsonpath={.status.metrics}"
    examples = ("ticket-evaluation", "ticket-triage")
    evaluation, samples = (yaml.safe_load((CHECKOUT / "examples" / name / "run.yaml").read_text()) for name in examples)
    assert in_session(shell, evaluation, "ticket-triage", wait="Complete", show=metrics) == printed[7], "one session, two flows"
    made = shell("kubectl get frun triage-evaluation -o jsonpath='{.status.sessionName}'", CHECKOUT).strip()
    said = in_session(shell, samples, made, wait="Failed", show='jsonpath={.status.conditions[?(@.type=="Failed")]}')
    assert json.loads(said)["reason"] == "SessionIncompatible"
    assert "'rapidfuzz>=3.9,<4' (line 4 of requirements.txt): it is not installed" in json.loads(said)["message"]


def test_docs_figures(shell: Shell) -> None:
    type_all(shell, "docs/figures.md", Page())


def test_docs_flow_folders(shell: Shell, flows: Path) -> None:
    names = {
        "kubectl create secret generic git": "kubectl delete secret git --ignore-not-found; kubectl create secret generic git",
        "NAME": "chat",
    }
    apply(shell, flows, _chat())
    printed = type_all(shell, "docs/flow-folders.md", Page(names=names, beside=flows))
    again = type_all(shell, "docs/flow-folders.md", Page(names=names, beside=flows))
    assert any("configmap/my-flows serverside-applied" in text for text in printed)
    assert len(again) == len(printed), "all can be typed a second time"


def test_docs_identity(shell: Shell) -> None:
    assert "Username" in "\n".join(type_all(shell, "docs/identity.md", Page()))


def test_docs_images(shell: Shell, flows: Path) -> None:
    apply(shell, flows, json.dumps(environment("my-env")))
    apply(shell, flows, json.dumps(session("my-session", of="my-env")))
    type_all(shell, "docs/images.md", Page())


def test_docs_instances(shell: Shell) -> None:
    type_all(shell, "docs/instances.md", Page())


def test_docs_metrics(shell: Shell) -> None:
    assert "flowsession_sessions" in "\n".join(type_all(shell, "docs/metrics.md", Page()))


def test_docs_edits(shell: Shell, flows: Path) -> None:
    folder = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "flow"}, "data": {"flow.dag.yaml": "nodes: []\n"}}
    apply(shell, flows, json.dumps(folder))
    apply(shell, flows, json.dumps(environment("triage", requirementsText="", source={"configMap": {"name": "flow"}})))
    apply(shell, flows, json.dumps(session("mine", of="triage")))
    asked = "POD=$(kubectl get csess NAME -o jsonpath='{.status.podName}')"
    ready = "kubectl wait --for=condition=Ready csess/mine --timeout=5m"
    type_all(shell, "docs/edits.md", Page(names={"NAME": "mine", "ENVIRONMENT": "triage"}, before={asked: ready}, beside=flows))


def test_docs_sessions(shell: Shell, flows: Path) -> None:
    chat = {
        "flow.flex.yaml": "entry: chat:answer\ninputs:\n  question: {type: string, is_chat_input: true}\n"
        "  chat_history: {type: list, default: []}\n",
        "chat.py": "def answer(question: str, chat_history: list) -> str:\n    return question\n",
    }
    labels = {"flowsession.dev/source": "true"}
    apply(shell, flows, json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "chat", "labels": labels}, "data": chat}))
    apply(shell, flows, json.dumps(environment("triage", requirementsText="six\n", source={"configMap": {"name": "chat"}})))
    apply(shell, flows, json.dumps(environment("broken", requirementsText="-e .\n")))
    apply(shell, flows, json.dumps(session("mine", of="triage")))
    apply(shell, flows, json.dumps(session("stuck", of="broken")))
    printed = type_all(
        shell, "docs/sessions.md", Page(names={"NAME": "mine", "BROKEN": "stuck"}, last=("kubectl delete csess NAME",), beside=flows)
    )
    assert any("condition met" in text for text in printed)


def test_docs_kubectl_flow(shell: Shell, flows: Path) -> None:
    (flows / "questions.jsonl").write_text('{"question": "one"}\n{"question": "two"}\n')
    (flows / "connection.yaml").write_text("name: open_ai_connection\ntype: open_ai\napi_key: sk-of-a-document\n")
    printed = type_all(shell, "docs/kubectl-flow.md", Page(beside=flows))
    assert "chat runs on " in printed[0]
    assert json.loads(printed[1].partition("}")[0] + "}") == {"output": "What is a session?"}
    assert "chat is Running: nothing is wrong" in printed[2]
    assert any("Completed 2/2" in text for text in printed)
    assert any("all that the commands need" in text for text in printed)
    assert not any("sk-of-a-document" in text for text in printed)
    assert any("written: notes.md" in text for text in printed)
    assert any("chat is suspended: it is resumed" in text and "Still there?" in text for text in printed)


def test_every_example_of_help(shell: Shell, tmp_path: Path) -> None:
    chat = tmp_path / "flows" / "chat"
    chat.mkdir(parents=True)
    inputs = "inputs:\n  question: {type: string, default: hello, is_chat_input: true}\n  chat_history: {type: list, default: []}\n"
    (chat / "flow.flex.yaml").write_text(f"entry: main:answer\n{inputs}")
    (chat / "main.py").write_text("def answer(question: str, chat_history: list = ()) -> str:\n    return question\n")
    (chat / "train.py").write_text("print('trained')\n")
    (chat / "run.yml").write_text('flow: .\ndata: questions.jsonl\ncolumn_mapping: {question: "${data.question}"}\n')
    for folder in (tmp_path, chat):
        (folder / "questions.jsonl").write_text('{"question": "one"}\n{"question": "two"}\n')
    (tmp_path / "requirements.txt").write_text("six\n")
    (tmp_path / "connection.yaml").write_text("name: open_ai_connection\ntype: open_ai\napi_key: sk-of-an-example\n")
    apply(shell, tmp_path, json.dumps(environment("team-environment", requirementsText="")))
    in_folder = ("kubectl flow start", "kubectl flow test", "kubectl flow chat", "kubectl flow run create")
    before = {
        "kubectl flow cp chat:/tmp/report.html .": "kubectl flow exec chat -- touch /tmp/report.html",
        "kubectl flow open chat 8501": "kubectl flow exec chat -- sh -c 'setsid python3 -m http.server 8501 > /dev/null 2>&1 &'",
        "kubectl flow run create --resume-from answers": "cd flows/chat && kubectl flow run create --name answers -f run.yml",
    }
    printed = {}
    for text in documents.of_help():
        if text in before:
            shell(before[text], tmp_path)
        typed = text.replace("NAME", "chat").replace("Standard_D4s_v5", "none").replace("chat-of-last-week", "mine")
        typed = typed.replace("kubectl flow set", "kubectl flow set --yes")
        typed = f"timeout -s INT --preserve-status 20 {typed}" if " open " in typed else typed
        typed = re.sub(r"source <\((.* zsh)\)|(.*) \| source", r"\1\2", typed)  # this shell is bash
        there = chat if text.startswith(in_folder) and "flows/" not in text and "team-environment" not in text else tmp_path
        printed[text] = shell(typed, there)
    assert len(printed) > 20
    assert "trained" in printed["kubectl flow exec NAME -- python train.py"]
    assert "port 8501 of chat is at http://127.0.0.1:8501/" in printed["kubectl flow open chat 8501"]
    assert "Completed 2/2" in printed["kubectl flow run create -f run.yml"]
    assert "sk-of-an-example" not in "".join(printed.values())


def test_docs_migration(shell: Shell, flows: Path) -> None:
    made, started = (
        block.replace("  compute: {vmSize: Standard_D2s_v5}", "  # compute: {vmSize: Standard_D2s_v5}") for block in _manifests("migration")
    )
    (flows / "environment.yaml").write_text(made)
    (flows / "session.yaml").write_text(started)
    printed = type_all(
        shell,
        "docs/migration.md",
        Page(
            names={"NAME": "chat"},
            last=("kubectl delete csess NAME",),
            before={
                "kubectl get fenv chat": "kubectl apply -f environment.yaml",
                "kubectl wait --for=condition=Ready csess/chat --timeout=10m": "kubectl apply -f session.yaml",
            },
            beside=flows,
        ),
    )
    assert any('"output": "hello"' in text for text in printed), printed


def test_docs_private_feeds(shell: Shell, flows: Path) -> None:
    apply(shell, flows, json.dumps(environment("my-env")))
    apply(shell, flows, json.dumps(session("mine", of="my-env")))
    type_all(shell, "docs/private-feeds.md", Page(names={"NAME": "mine"}, beside=flows))


def test_docs_sizes(shell: Shell) -> None:
    assert "azureName" in "\n".join(type_all(shell, "docs/sizes.md", Page()))


def test_docs_connections(shell: Shell, flows: Path) -> None:
    (flows / "connection.yaml").write_text("name: open_ai_connection\ntype: open_ai\napi_key: sk-of-a-document\n")
    type_all(shell, "docs/connections.md", Page(names={"POD": _pod_of_chat(shell, flows)}, beside=flows))


def test_docs_tool_check(shell: Shell, flows: Path) -> None:
    type_all(shell, "docs/tool-check.md", Page(names={"POD": _pod_of_chat(shell, flows)}))


def _pod_of_chat(shell: Shell, flows: Path) -> str:
    """Start a session with the flow `chat` and return the shell expression for its pod's name once it is Ready."""
    apply(shell, flows, _chat())
    archive = "tar -czf flow.tar.gz -C my-flows . && kubectl create configmap my-flows --from-file=flow.tar.gz"
    shell(f"{archive}; kubectl label configmap my-flows flowsession.dev/source=true", flows)
    apply(shell, flows, json.dumps(session("triage", of="chat")))
    shell("kubectl wait --for=condition=Ready csess/triage --timeout=5m", flows)
    return "$(kubectl get csess triage -o jsonpath='{.status.podName}')"


def _chat() -> str:
    return _manifests("migration")[0]


def _manifests(document: str) -> list[str]:
    return [block for block in documents.blocks(f"docs/{document}.md") if block.startswith("apiVersion")]
