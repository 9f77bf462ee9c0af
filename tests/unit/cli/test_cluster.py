"""What kubectl's words mean for a user, and how its stream of objects is read."""

import json
import subprocess
import sys

import pytest

from flowsession_cli import cluster
from flowsession_cli.errors import NotFound

POLICY = (
    'Error from server (Forbidden): error when creating "STDIN": computesessions.flowsession.dev "x" is forbidden:'
    " ValidatingAdmissionPolicy 'p' with binding 'p' denied request: you may not read the Secret s"
)
CASES = [
    (
        'E1129 10:14:32.115272 1 memcache.go:381] "Couldn\'t get" err="..."\nThe connection to the server localhost:8080 was refused - did'
        " you specify the right host or port?",
        "no cluster is configured: set KUBECONFIG, or choose one with --kubeconfig or --context",
    ),
    ("error: stat /none: no such file or directory", "there is no such kubeconfig (stat /none: no such file or directory)"),
    ("The connection to the server 10.0.0.1:6443 was refused - did you specify the right host or port?", "the cluster doesn't answer"),
    ("Unable to connect to the server: dial tcp: lookup nowhere: no such host", "the cluster doesn't answer: Unable to connect"),
    (
        "error: You must be logged in to the server (Unauthorized)",
        "the cluster doesn't take your credentials, they may have expired: log in",
    ),
    (
        "Unable to connect to the server: getting credentials: exec: executable kubelogin not found\n\nIt looks like you ...",
        "the kubeconfig's login program failed: exec: executable kubelogin not found; run it by hand, or log in again",
    ),
    ('error: the server doesn\'t have a resource type "computesessions"', "the cluster has no flowsession: "),
    (
        'error: resource mapping not found for name: "x" namespace: "" from "STDIN": no matches for kind "FlowRun" in version "v1"',
        "the cluster has no flowsession, or an older one: ",
    ),
    ("Error in configuration: context was not found for specified context: zz", "context was not found for specified context: zz: kubectl"),
    (
        'Error from server (Forbidden): computesessions.flowsession.dev is forbidden: User "eve" cannot list resource "computesessions" in'
        ' API group "flowsession.dev" in the namespace "team"',
        "eve may not list computesessions.flowsession.dev in namespace team: the ClusterRole flowsession-edit of the chart has that right",
    ),
    (
        'Error from server (Forbidden): pods "p" is forbidden: User "eve" cannot create resource "pods/exec" in API group "" in'
        ' the namespace "team"',
        "eve may not create pods/exec in namespace team: the cluster's role edit has that right",
    ),
    (POLICY, "the cluster refuses it: you may not read the Secret s"),
    (
        'error: Apply failed with 1 conflict: conflict with "argocd-controller" using flowsession.dev/v1alpha1: .spec.suspend\nPlease',
        ".spec.suspend belongs to argocd-controller: change it where that is managed",
    ),
    ('Error from server (Invalid): error when creating "STDIN": the spec is odd', "the spec is odd"),
]


@pytest.mark.parametrize(("words", "sentence"), CASES, ids=[sentence[:30] for _, sentence in CASES])
def test_every_failure_is_one_sentence_with_the_way_out(words, sentence):
    said = str(cluster.failure(words))
    assert said.startswith(sentence)
    assert "\n" not in said


def test_what_is_not_there_is_told_apart():
    assert isinstance(cluster.failure('Error from server (NotFound): computesessions.flowsession.dev "x" not found'), NotFound)


def test_documents_come_as_they_are_printed_even_in_pieces():
    first, second = {"type": "ADDED", "object": {"name": "ü" * 40_000}}, {"type": "DELETED", "object": {}}
    script = f"import sys; sys.stdout.write({json.dumps(first, ensure_ascii=False, indent=2)!r} + chr(10) + {json.dumps(second)!r})"
    process = subprocess.Popen([sys.executable, "-X", "utf8", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert list(cluster._documents(process)) == [first, second]


def test_a_watch_that_fails_says_why():
    script = "import sys; sys.stderr.write('Unable to connect to the server: no route'); sys.exit(1)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with pytest.raises(cluster.CliError, match="doesn't answer"):
        list(cluster._documents(process))


def test_the_users_options_go_to_kubectl():
    chosen = cluster.Cluster(namespace="team", context="prod", kubeconfig="/k")
    assert chosen.command("get", "x") == ["kubectl", "--kubeconfig=/k", "--context=prod", "--namespace=team", "get", "x"]
    assert cluster.Cluster().command("get") == ["kubectl", "get"]


def test_without_kubectl_it_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(cluster.CliError, match="kubectl is not on the PATH"):
        cluster.Cluster().call("version")
    assert cluster.Cluster().names("pods") == []
