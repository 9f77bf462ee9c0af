"""What kubectl's messages on standard error mean for a user."""

import pytest

from flowsession_cli import failures
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
    ('error: the server doesn\'t have a resource type "computesessions"', "the cluster has no flowsession, or an older one: "),
    (
        'error: resource mapping not found for name: "x" namespace: "" from "STDIN": no matches for kind "FlowRun" in version "v1"',
        "the cluster has no flowsession, or an older one: ",
    ),
    ("Error in configuration: context was not found for specified context: zz", "context was not found for specified context: zz: kubectl"),
    (
        'Error from server (Forbidden): computesessions.flowsession.dev is forbidden: User "eve" cannot list resource "computesessions" in'
        ' API group "flowsession.dev" in the namespace "team"',
        "eve may not list computesessions.flowsession.dev in namespace team: the ClusterRole flowsession-view of the chart, which",
    ),
    (
        'Error from server (Forbidden): pods "p" is forbidden: User "eve" cannot create resource "pods/exec" in API group "" in'
        ' the namespace "team"',
        "eve may not create pods/exec in namespace team: the cluster's role edit has that right",
    ),
    (POLICY, "the cluster refuses it: you may not read the Secret s"),
    (
        'error: Apply failed with 1 conflict: conflict with "argocd-controller" using flowsession.dev/v1alpha1: .spec.suspend\nPlease',
        ".spec.suspend belongs to Argo CD (argocd-controller): change it where that is managed",
    ),
    ('Error from server (Invalid): error when creating "STDIN": the spec is odd', "the spec is odd"),
    (
        'error: Apply failed with 3 conflicts: conflicts with "argocd-controller":\n- .spec.idle.action\n- .spec.idle.timeoutSeconds\n'
        'conflicts with "kustomize-controller":\n- .spec.idle.action\nPlease review the fields above--they currently have other managers.',
        ".spec.idle.action and .spec.idle.timeoutSeconds belong to Argo CD (argocd-controller), .spec.idle.action belongs to Flux (kust",
    ),
    (
        'Error from server (Forbidden): x is forbidden: User "eve" cannot list resource "computesessions" in API group "flowsession.dev" at'
        " the cluster scope",
        "eve may not list computesessions.flowsession.dev in the whole cluster: the ClusterRole flowsession-vi"
        "ew of the chart, which the clu"
        "ster's role view includes, has that right; ask whoever administers the cluster for it, or leave -A out for one namespace",
    ),
    (
        'Error from server (Forbidden): x is forbidden: User "eve" cannot list resource "events" in API group "" in the namespace "team"',
        "eve may not list events in namespace team: the cluster's role view has that right; ask whoever administers the namespace for it",
    ),
    (
        'Error from server (NotFound): namespaces "x" not found\nError from server (NotFound): namespaces "x" not found',
        "there is no namespace x: name one that is there by -n, or have it created",
    ),
    (
        'error: error validating "STDIN": error validating data: ValidationError(ComputeSession.spec): unknown'
        ' field "baseImage" in dev.flow'
        "session.v1alpha1.ComputeSession.spec; if you choose to ignore these errors, turn validation off with --validate=false",
        'the cluster\'s flowsession is older than this program: ValidationError(ComputeSession.spec): unknown field "baseImage" in dev.flow'
        "session.v1alpha1.ComputeSession.spec; upgrade its chart, or do without that",
    ),
    (
        'Error: token expired, run az login\nE1129 10:14:32.115272 1 memcache.go:381] "Couldn\'t get" err="getting credentials: exec:'
        ' executable kubelogin failed with exit code 1"\nUnable to connect to the server: getting credentials: exec: executable kubelogin'
        " failed with exit code 1",
        "the kubeconfig's login program failed: exec: executable kubelogin failed with exit code 1; Error: tok"
        "en expired, run az login; run",
    ),
    (
        "Unable to connect to the server: getting credentials: exec plugin cannot support interactive mode: st"
        "andard input is not a terminal",
        "the kubeconfig's login program needs a terminal: ",
    ),
    ('error: exec plugin: invalid apiVersion "client.authentication.k8s.io/v1alpha1"', 'exec plugin: invalid apiVersion "client.authen'),
    ("Unable to connect to the server: Proxy Authentication Required", "the HTTPS proxy wants a login: write it into HTTPS_PROXY, or"),
    (
        "Unable to connect to the server: tls: failed to verify certificate: x509: certificate signed by unknown authority",
        "the cluster's certificate isn't trusted: Unable to connect",
    ),
    ('error: error loading config file "/k": yaml: line 1: did not find', "the kubeconfig can't be read: error loading config file"),
    ('error: context "prod" does not exist', 'context "prod" does not exist: kubectl config get-contexts lists them'),
    ("the server rejected our request for an unknown reason", "the server rejected our request for an unknown reason: is the kubeconfig'"),
]


@pytest.mark.parametrize(("words", "sentence"), CASES, ids=[sentence[:30] for _, sentence in CASES])
def test_every_failure_is_one_sentence_with_the_way_out(words, sentence):
    said = str(failures.failure(words))
    assert said.startswith(sentence)
    assert "\n" not in said


def test_what_is_not_there_is_told_apart():
    assert isinstance(failures.failure('Error from server (NotFound): computesessions.flowsession.dev "x" not found'), NotFound)


def test_a_proxy_that_may_be_the_cause_is_named_without_its_login():
    refused = "The connection to the server 10.0.0.1:6443 was refused - did you specify the right host or port?"
    assert "HTTPS_PROXY" not in str(failures.failure(refused, {}))
    told = str(failures.failure(refused, {"HTTPS_PROXY": "http://ada:secret@proxy:3128"}))
    assert told.endswith("; HTTPS_PROXY is http://proxy:3128")
