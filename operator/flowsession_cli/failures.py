"""Turn kubectl's standard error into one sentence: thing, place, way out."""

import os
import re
from collections.abc import Mapping

from flowsession.api import GROUP
from flowsession_cli.errors import CliError, Forbidden, NotFound, Unreachable

ROLES = {
    "view": "the ClusterRole flowsession-view of the chart, which the cluster's role view includes,",
    "edit": "the ClusterRole flowsession-edit of the chart, which the cluster's role edit includes,",
    "sizes": "the ClusterRole flowsession-sizes of the chart, bound for the whole cluster,",
    "identities": "the ClusterRole flowsession-assign-identities of the chart",
}
_READING = ("get", "list", "watch")
_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)"(?: in API group "(?P<group>[^"]*)")?'
    r'(?: in the namespace "(?P<namespace>[^"]*)")?'
)
_LOGGED = re.compile(r"[EWI]\d{4} |Warning: |\s*>")
"""Lines that kubectl logs in addition to its message."""

_LOGIN = re.compile(r"getting credentials: ([^\n]+)")
_OWNER = re.compile(r'conflicts? with "([^"]+)"')
_FIELD = re.compile(r"(?:^|\s)-?\s?(\.[^\s:,]+)", re.MULTILINE)
MANAGERS = {
    "argocd-controller": "Argo CD",
    "argocd-application-controller": "Argo CD",
    "kustomize-controller": "Flux",
    "helm-controller": "Flux",
    "helm": "Helm",
}
"""Well-known programs, by the names of their field managers."""

_PROXIES = ("HTTPS_PROXY", "https_proxy")
_HIDDEN = re.compile(r"//[^/@]*@")


_NO_ANSWER = "the cluster doesn't answer"
_SILENT = "the cluster doesn't answer: {text}; is it up, and does this machine reach it (VPN, proxy)?{proxy}"


def failure(words: str, environ: Mapping[str, str] = os.environ) -> CliError:
    """Return what kubectl's standard error means, as an error of this program. `environ`: where its proxy is set."""
    lines = list(dict.fromkeys(line.strip() for line in words.splitlines() if line.strip() and not _LOGGED.match(line)))
    if login := _LOGIN.search(words):
        return CliError(_of_login(login[1], lines))
    text = " ".join(lines) or " ".join(words.split())
    if missing := re.search(r'namespaces "([^"]+)" not found', text):
        return NotFound(f"there is no namespace {missing[1]}: name one that is there by -n, or have it created")
    if "(NotFound)" in text:
        return NotFound(_plain(text))
    if refusal := _refusal(words, text):
        return refusal
    for sign, sentence in _SIGNS:
        if sign in text:
            kind = Unreachable if sentence.startswith(_NO_ANSWER) else CliError
            return kind(sentence.format(text=_plain(text), proxy=_proxy(environ)))
    return CliError(_plain(text))


_SIGNS = (
    ("Unauthorized", "the cluster doesn't take your credentials, they may have expired: log in again, and see kubectl config view"),
    ("asked for the client to provide credentials", "the cluster doesn't take your credentials, they may have expired: log in again"),
    ("exec plugin: invalid apiVersion", "{text}: the kubeconfig is older than this kubectl, have it written anew by whatever made it"),
    ("doesn't have a resource type", "the cluster has no flowsession, or an older one: {text}; install or upgrade its chart, or choose"
     " another cluster with --context"),
    ("no matches for kind", "the cluster has no flowsession, or an older one: {text}; install or upgrade its chart"),
    ("unknown field", "the cluster's flowsession is older than this program: {text}; upgrade its chart, or do without that"),
    ("field not declared in schema", "the cluster's flowsession is older than this program: {text}; upgrade its chart, or do without that"),
    ("localhost:8080", "no cluster is configured: set KUBECONFIG, or choose one with --kubeconfig or --context"),
    ("error loading config file", "the kubeconfig can't be read: {text}; correct it, or name another one by --kubeconfig"),
    ("no such file or directory", "there is no such kubeconfig ({text}): name one that is there by --kubeconfig, or in KUBECONFIG"),
    ("current-context is not set", "no cluster is chosen: kubectl config use-context NAME, or --context"),
    ("does not exist for context", "{text}: kubectl config get-contexts lists them"),
    ("context was not found", "{text}: kubectl config get-contexts lists them"),
    ("does not exist", "{text}: kubectl config get-contexts lists them"),
    ("Proxy Authentication Required", "the HTTPS proxy wants a login: write it into HTTPS_PROXY, or have the cluster in NO_PROXY{proxy}"),
    ("proxyconnect", "the HTTPS proxy doesn't answer: {text}; correct HTTPS_PROXY, or have the cluster in NO_PROXY{proxy}"),
    ("x509:", "the cluster's certificate isn't trusted: {text}; have its CA in the kubeconfig, or, behind a proxy that opens TLS, the"
     " cluster in NO_PROXY{proxy}"),
    ("connection reset by peer", "the cluster doesn't answer: {text}{proxy}"),
    ("client connection lost", "the cluster doesn't answer: {text}"),
    ("unexpected EOF", "the cluster doesn't answer any more: {text}"),
    ("handshake timeout", "the cluster doesn't answer: {text}{proxy}"),
    ("was refused", "the cluster doesn't answer: {text} kubectl config view shows which one is meant{proxy}"),
    ("rejected our request for an unknown reason", "{text}: is the kubeconfig's server the https:// address of a cluster? kubectl config"
     " view{proxy}"),
    ("Unable to connect to the server", _SILENT),
    ("i/o timeout", _SILENT),
)  # fmt: skip
"""Substrings of kubectl's message, each with the sentence for it."""


def _plain(text: str) -> str:
    """Return the message without kubectl's own phrases around it."""
    text = re.sub(r'(Error from server \(\w+\): )?error (when \w+|validating) "STDIN": (error validating data: )?', "", text)
    text = re.sub(r"; if you choose to ignore these errors, turn validation off with --validate=false", "", text)
    return re.sub(r"^(Error from server( \(\w+\))?|error|Error in configuration): ", "", text).strip()


def _of_login(message: str, lines: list[str]) -> str:
    """Return the failure that the kubeconfig's login program reports, with the program's own output."""
    own = [line for line in lines if "getting credentials" not in line and not line.startswith(("It looks like you", "The connection"))]
    text = "; ".join([message.strip().rstrip('"').replace('\\"', '"'), *own[:3]])
    if "interactive mode" in text:
        return f"the kubeconfig's login program needs a terminal: {text}; run kubectl get namespaces in one, and then this again"
    return f"the kubeconfig's login program failed: {text}; run it by hand, or log in again"


def _proxy(environ: Mapping[str, str]) -> str:
    found = next((value for name in _PROXIES if (value := environ.get(name))), "")
    return f"; HTTPS_PROXY is {_HIDDEN.sub('//', found)}" if found else ""


def _refusal(words: str, text: str) -> CliError | None:
    """Return the error if rights, an admission policy or another owner of a field refused the request, else None."""
    if "ValidatingAdmissionPolicy" in text:
        return CliError(f"the cluster refuses it: {text.rpartition('denied request: ')[2]}")
    if found := _FORBIDDEN.search(text):
        return Forbidden(_forbidden(**found.groupdict()))
    if _OWNER.search(words):
        return CliError(f"{_owners(words)}: change it where that is managed, or leave it as it is there")
    return None


def _owners(words: str) -> str:
    """Return who owns which fields, from kubectl's message about conflicts of a server-side apply."""
    found = []
    parts = _OWNER.split(words.partition("Please review")[0])[1:]
    for manager, fields in zip(parts[::2], parts[1::2], strict=True):
        names = list(dict.fromkeys(_FIELD.findall(fields)))
        who = f"{MANAGERS[manager]} ({manager})" if manager in MANAGERS else manager
        found.append(f"{' and '.join(names) or 'that'} {'belong' if len(names) > 1 else 'belongs'} to {who}")
    return ", ".join(found)


def _forbidden(*, user: str, verb: str, resource: str, group: str | None, namespace: str | None) -> str:
    thing = f"{resource}.{group}" if group else resource
    where = f"in namespace {namespace}" if namespace else "in the whole cluster"
    whom = "namespace" if namespace else "cluster"
    hint = "" if namespace or resource == "vmsizes" or verb not in _READING else ", or leave -A out for one namespace"
    role = role_for(verb, resource, group or "")
    return f"{user} may not {verb} {thing} {where}: {role} has that right; ask whoever administers the {whom} for it{hint}"


def role_for(verb: str, resource: str, group: str) -> str:
    """Return the role that has a right."""
    reading = verb in _READING
    if group == GROUP:
        return ROLES["sizes"] if resource == "vmsizes" else ROLES["view" if reading else "edit"]
    if resource == "serviceaccounts":
        return ROLES["identities"]
    return f"the cluster's role {'view' if reading and resource != 'secrets' else 'edit'}"
