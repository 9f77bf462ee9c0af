"""Talking to the cluster: by the user's own kubectl, so with every kind of kubeconfig, credential and proxy that it knows.

kubectl starts in 60 ms where the Python client's import takes half a second; and without compiled libraries the program fits in one file.
"""

import codecs
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, NoReturn

from flowsession.api import API_VERSION, GROUP
from flowsession_cli.errors import CliError, NotFound, Unreachable

Object = dict[str, Any]
"""An object as the API has it."""

SESSION, ENVIRONMENT, RUN, INSTANCE, SIZE = (
    f"{plural}.{GROUP}" for plural in ("computesessions", "flowenvironments", "flowruns", "computeinstances", "vmsizes")
)
FIELD_MANAGER = "kubectl-flow"
EDIT_ROLE = "flowsession-edit"
LOG_LINES = 8
_PIECE = 65536
_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)"(?: in API group "(?P<group>[^"]*)")?'
    r'(?: in the namespace "(?P<namespace>[^"]*)")?'
)
_LOGGED = re.compile(r"[EWI]\d{4} |Warning: |\s*>")
"""Lines that kubectl logs beside what it has to say."""

_COMMAND_FAILED = re.compile(r"command terminated with exit code \d+")
"""How kubectl ends its words when it was the command in the pod that failed."""

_LOGIN = re.compile(r"getting credentials: (exec: [^\n]+)")
_CONFLICT = re.compile(r'conflicts? with "(?P<manager>[^"]+)"[^":]{0,80}:?\s{0,8}(?:- )?(?P<field>\.\S+)')


@dataclass(frozen=True)
class Cluster:
    """The cluster of the kubeconfig's context. Methods raise CliError with what kubectl said, in one sentence."""

    namespace: str = ""
    context: str = ""
    kubeconfig: str = ""

    def command(self, *words: str) -> list[str]:
        """kubectl's command line with the user's own options."""
        options = (("--kubeconfig", self.kubeconfig), ("--context", self.context), ("--namespace", self.namespace))
        return ["kubectl", *(f"{name}={value}" for name, value in options if value), *words]

    def call(self, *words: str, stdin: str = "") -> str:
        """What kubectl prints."""
        try:
            done = subprocess.run(self.command(*words), input=stdin, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise _without_kubectl() from None
        if done.returncode:
            raise failure(done.stderr)
        return done.stdout

    def get(self, kind: str, name: str) -> Object:
        """The object. Raises NotFound."""
        found: Object = json.loads(self.call("get", kind, name, "-o", "json"))
        return found

    def find(self, kind: str, name: str) -> Object | None:
        """The object; None if there is none."""
        text = self.call("get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text.strip() else None

    def objects(self, kind: str, *options: str) -> list[Object]:
        """The objects of that kind."""
        items: list[Object] = json.loads(self.call("get", kind, "-o", "json", *options))["items"]
        return items

    def names(self, kind: str) -> list[str]:
        """The names of that kind, for completion: none where nothing answers."""
        try:
            return [line.rpartition("/")[2] for line in self.call("get", kind, "-o", "name", "--request-timeout=2s").split()]
        except CliError:
            return []

    def events(self, name: str, *kinds: str) -> list[Object]:
        """The Events of an object of one of these kinds, the oldest first, whether the object exists or not."""
        found = self.objects("events", f"--field-selector=involvedObject.name={name}")
        mine = [event for event in found if event["involvedObject"].get("kind") in kinds]
        return sorted(mine, key=event_time)

    def events_of_former_pods(self, session: Object) -> list[Object]:
        """The Events of the pods that a session had, the oldest first."""
        before = re.compile(re.escape(f"{session['metadata']['name']}-{session['metadata'].get('uid', '')[:5]}-") + r"\d+")
        found = self.objects("events", "--field-selector=involvedObject.kind=Pod")
        return sorted((event for event in found if before.fullmatch(event["involvedObject"]["name"])), key=event_time)

    def log(self, pod: str) -> str:
        """The last lines of a session's container, of the one before the present one if there was one; empty where none can be had."""
        for options in (("--previous",), ()):
            try:
                return self.call("logs", pod, "-c", "session", f"--tail={LOG_LINES}", *options)
            except CliError:
                continue
        return ""

    def apply(self, *manifests: Object) -> list[Object]:
        """Server-side applies manifests as this program's fields. Raises CliError with the owner of a field in conflict."""
        document = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        text = self.call("apply", "--server-side", f"--field-manager={FIELD_MANAGER}", "-f", "-", "-o", "json", stdin=json.dumps(document))
        applied = json.loads(text)
        return applied["items"] if applied["kind"] == "List" else [applied]

    def create(self, manifest: Object) -> Object:
        """The object, created. Raises CliError if there is one of that name."""
        made: Object = json.loads(self.call("create", "-f", "-", "-o", "json", stdin=json.dumps(manifest)))
        return made

    def patch(self, kind: str, name: str, change: Mapping[str, Any]) -> Object:
        """Merge-patches an object and returns it."""
        words = ("patch", kind, name, "--type=merge", f"--field-manager={FIELD_MANAGER}", "-p", json.dumps(change), "-o", "json")
        changed: Object = json.loads(self.call(*words))
        return changed

    def delete(self, kind: str, name: str) -> None:
        """Deletes an object and doesn't wait until it is gone."""
        self.call("delete", kind, name, "--wait=false")

    def user(self) -> str:
        """Who the cluster says that the caller is."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        return str(self.create(review)["status"]["userInfo"]["username"])

    @contextmanager
    def watch(self, kind: str, name: str) -> Iterator[Iterator[Object]]:
        """The object as it is and at each change, as `{type, object}`; ends when the API server ends the watch."""
        command = self.command("get", kind, "--field-selector", f"metadata.name={name}", "-w", "--output-watch-events", "-o", "json")
        try:
            # A process group of its own: ^C is for us to answer.
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        except FileNotFoundError:
            raise _without_kubectl() from None
        try:
            yield _documents(process)
        finally:
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream:
                    stream.close()

    @contextmanager
    def printed(self, pod: str, *command: str) -> Iterator[IO[bytes]]:
        """What a command in a session's pod prints, as it comes. Raises CliError at the end if it failed."""
        call = self.command("exec", pod, "-c", "session", "--", *command)
        try:
            process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        except FileNotFoundError:
            raise _without_kubectl() from None
        assert process.stdout
        assert process.stderr
        with process.stdout, process.stderr:
            try:
                yield process.stdout
                process.stdout.read()
                told = process.stderr.read().decode(errors="replace")
                if process.wait():
                    raise failure(told)
            finally:
                process.kill()
                process.wait()

    def become(self, *words: str) -> NoReturn:
        """Becomes that kubectl command: standard streams, signals and the exit status are its own."""
        command = self.command(*words)
        try:
            os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
        except FileNotFoundError:
            raise _without_kubectl() from None

    def read_from(self, pod: str, command: Sequence[str], target: IO[bytes]) -> None:
        """Writes what a command in a session's pod prints to a file. Raises CliError with what it says when it fails."""
        words = self.command("exec", pod, "-c", "session", "--", *command)
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=target, stderr=subprocess.PIPE, check=False)
        except FileNotFoundError:
            raise _without_kubectl() from None
        said = done.stderr.decode(errors="replace")
        if done.returncode and (command_failed := _COMMAND_FAILED.search(said)):
            raise CliError(said[: command_failed.start()].strip().removeprefix("flow: ") or f"{' '.join(command)} failed in the session")
        if done.returncode:
            raise failure(said)

    def execute(self, pod: str, command: Sequence[str], *, stdin: bool, tty: bool) -> NoReturn:
        """Becomes a command in a session's pod."""
        options = [*(["-i"] if stdin else []), *(["-t"] if tty else [])]
        self.become("exec", *options, pod, "-c", "session", "--", *command)


def manifest(kind: str, name: str, spec: Object, *, labels: Mapping[str, str] | None = None) -> Object:
    """An object of this project's API."""
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, "labels": dict(labels or {})}, "spec": spec}


def event_time(event: Object) -> str:
    """When an Event was last seen, as the API writes times."""
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or "")


def failure(words: str) -> CliError:
    """What kubectl's words on standard error mean: thing, place, way out."""
    lines = [line.strip() for line in words.splitlines() if line.strip() and not _LOGGED.match(line)]
    if login := _LOGIN.search(words):
        return CliError(f"the kubeconfig's login program failed: {login[1].strip()}; run it by hand, or log in again")
    text = " ".join(lines) or " ".join(words.split())
    if "(NotFound)" in text:
        return NotFound(_plain(text))
    if refusal := _refusal(text):
        return CliError(refusal)
    for sign, sentence in _SIGNS:
        if sign in text:
            kind = Unreachable if sentence.startswith(_SILENT) else CliError
            return kind(sentence.format(text=_plain(text)))
    return CliError(_plain(text))


_SILENT = "the cluster doesn't answer"
_SIGNS = (
    ("Unauthorized", "the cluster doesn't take your credentials, they may have expired: log in again, and see kubectl config view"),
    ("asked for the client to provide credentials", "the cluster doesn't take your credentials, they may have expired: log in again"),
    ("doesn't have a resource type", "the cluster has no flowsession: {text}; install its chart, or choose another cluster with --context"),
    ("no matches for kind", "the cluster has no flowsession, or an older one: {text}; install or upgrade its chart"),
    ("localhost:8080", "no cluster is configured: set KUBECONFIG, or choose one with --kubeconfig or --context"),
    ("no such file or directory", "there is no such kubeconfig ({text}): name one that is there by --kubeconfig, or in KUBECONFIG"),
    ("current-context is not set", "no cluster is chosen: kubectl config use-context NAME, or --context"),
    ("does not exist for context", "{text}: kubectl config get-contexts lists them"),
    ("context was not found", "{text}: kubectl config get-contexts lists them"),
    ("was refused", "the cluster doesn't answer: {text} kubectl config view shows which one is meant"),
    ("connection reset by peer", "the cluster doesn't answer: {text}"),
    ("client connection lost", "the cluster doesn't answer: {text}"),
    ("unexpected EOF", "the cluster doesn't answer any more: {text}"),
    ("handshake timeout", "the cluster doesn't answer: {text}"),
    ("i/o timeout", "the cluster doesn't answer: {text}; does this machine reach it (VPN, proxy)?"),
    ("Unable to connect to the server", "the cluster doesn't answer: {text}; is it up, and does this machine reach it (VPN, proxy)?"),
)
"""What kubectl's words hold, and the sentence for it."""


def _plain(text: str) -> str:
    """Without kubectl's own introduction."""
    return re.sub(
        r"^(Error from server( \(\w+\))?|error|Error in configuration): ",
        "",
        re.sub(r'Error from server \(\w+\): error when \w+ "STDIN": ', "", text),
    )


def _refusal(text: str) -> str:
    """What rights, policies and other owners of a field have to say; empty if it is something else."""
    if "ValidatingAdmissionPolicy" in text:
        return f"the cluster refuses it: {text.rpartition('denied request: ')[2]}"
    if found := _FORBIDDEN.search(text):
        return _forbidden(**found.groupdict())
    if conflicts := _CONFLICT.findall(text):
        owners = ", ".join(f"{field} belongs to {manager}" for manager, field in conflicts)
        return f"{owners}: change it where that is managed, or take the field away from it there"
    return ""


def _forbidden(*, user: str, verb: str, resource: str, group: str | None, namespace: str | None) -> str:
    thing = f"{resource}.{group}" if group else resource
    where = f"in namespace {namespace}" if namespace else "in the whole cluster"
    role = f"the ClusterRole {EDIT_ROLE} of the chart has that right" if group == GROUP else "the cluster's role edit has that right"
    return f"{user} may not {verb} {thing} {where}: {role}; ask whoever administers the namespace for it"


def _documents(process: "subprocess.Popen[bytes]") -> Iterator[Object]:
    """The JSON documents that kubectl prints one after another, each as soon as it is whole."""
    assert process.stdout
    assert process.stderr
    decoder, characters, text = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8")("replace"), ""
    while piece := os.read(process.stdout.fileno(), _PIECE):
        text = (text + characters.decode(piece)).lstrip()
        while text:
            try:
                document, end = decoder.raw_decode(text)
            except ValueError:
                break
            yield document
            text = text[end:].lstrip()
    if process.wait():
        raise failure(process.stderr.read().decode(errors="replace"))


def _without_kubectl() -> CliError:
    return CliError("the program kubectl is not on the PATH, and everything goes through it: install kubectl")
