"""Talking to the cluster: by the user's own kubectl, so with every kind of kubeconfig, credential and proxy that it knows.

kubectl starts in 60 ms where the Python client's import takes half a second; and without compiled libraries the program fits in one file.
"""

import codecs
import contextlib
import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, NoReturn

from flowsession.api import API_VERSION, GROUP
from flowsession_cli import executing
from flowsession_cli.errors import CliError, Forbidden
from flowsession_cli.failures import failure
from flowsession_protocol.variables import CALL

Object = dict[str, Any]
"""An object as the API has it."""

SESSION, ENVIRONMENT, RUN, INSTANCE, SIZE = (
    f"{plural}.{GROUP}" for plural in ("computesessions", "flowenvironments", "flowruns", "computeinstances", "vmsizes")
)
FIELD_MANAGER = "kubectl-flow"
LOG_LINES = 8
PATIENCE_SECONDS = 2.0
"""After which a call that still goes on is taken for one that waits for the user."""

LOOK_SECONDS = 0.5
LINGERS_SECONDS = 1.0
"""How long the end of standard error is waited for: a login program may leave a process behind that holds it."""

HANG_UP_SECONDS = 10.0
"""How long the cluster may take to hear that a command's client is gone."""

_PIECE = 65536

_COMMAND_FAILED = re.compile(r"command terminated with exit code \d+")
"""How kubectl ends its words when it was the command in the pod that failed."""


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

    def inside(self, pod: str, *command: str, options: Sequence[str] = ()) -> list[str]:
        """kubectl's command line for a command in a session's pod."""
        return self.command("exec", *options, pod, "-c", "session", "--", *command)

    def call(self, *words: str, stdin: str = "") -> str:
        """What kubectl prints."""
        stderr = StandardError()
        try:
            # A terminal goes on to kubectl: the kubeconfig's login program may ask something there.
            done = subprocess.run(
                self.command(*words), input=stdin or None, stdout=subprocess.PIPE, stderr=stderr.end, text=True, check=False
            )
        except FileNotFoundError:
            raise _without_kubectl() from None
        finally:
            message = stderr.close()
        if done.returncode:
            raise failure(message)
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

    def names(self, kind: str, *options: str) -> list[str]:
        """The names of that kind, for completion: none where nothing answers."""
        try:
            return [line.rpartition("/")[2] for line in self.call("get", kind, *options, "-o", "name", "--request-timeout=2s").split()]
        except CliError:
            return []

    def refuse_missing_namespace(self) -> None:
        """Raises NotFound if the namespace isn't there: lists and look-ups find nothing in it, and don't say why. Asked of the cluster
        where something was not found, and passed over where that may not be seen."""
        name = self.namespace or self.call("config", "view", "--minify", "-o", "jsonpath={..namespace}").strip() or "default"
        with contextlib.suppress(Forbidden):
            self.call("get", "namespace", name, "-o", "name")

    def events(self, name: str, *kinds: str, uid: str = "") -> list[Object]:
        """The Events of an object of one of these kinds, the oldest first, whether the object exists or not. `uid`: not those of objects
        that had the name before it."""
        found = self.objects("events", f"--field-selector=involvedObject.name={name}")
        mine = [event for event in found if event["involvedObject"].get("kind") in kinds]
        return sorted((event for event in mine if not uid or event["involvedObject"].get("uid", uid) == uid), key=event_time)

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

    def managed_fields(self, kind: str, name: str) -> list[Object]:
        """Which program has written which fields of an object; none where it is gone."""
        text = self.call("get", kind, name, "--ignore-not-found", "--show-managed-fields", "-o", "json")
        found: list[Object] = json.loads(text)["metadata"].get("managedFields") or [] if text.strip() else []
        return found

    def create(self, manifest: Object) -> Object:
        """The object, created. Raises CliError if there is one of that name."""
        made: Object = json.loads(self.call("create", "-f", "-", "-o", "json", stdin=json.dumps(manifest)))
        return made

    def patch(self, kind: str, name: str, change: Mapping[str, Any]) -> Object:
        """Merge-patches an object and returns it."""
        words = ("patch", kind, name, "--type=merge", f"--field-manager={FIELD_MANAGER}", "-p", json.dumps(change), "-o", "json")
        changed: Object = json.loads(self.call(*words))
        return changed

    def request(self, kind: str, name: str, what: str, *, spec: Mapping[str, Any] | None = None) -> tuple[Object, str]:
        """Asks the operator for something by an annotation, with a change of the spec if one is given. Returns the object, and the time by
        which `status.handledRequests` says that it was done."""
        at = stamp()
        change: Object = {"metadata": {"annotations": {f"{GROUP}/{what}-requested-at": at}}, **({"spec": dict(spec)} if spec else {})}
        return self.patch(kind, name, change), at

    def runs_in(self, session: str) -> list[Object]:
        """The runs that were given to a session."""
        return [run for run in self.objects(RUN) if run.get("status", {}).get("sessionName") == session]

    def delete(self, kind: str, name: str) -> None:
        """Deletes an object and doesn't wait until it is gone."""
        self.call("delete", kind, name, "--wait=false")

    def user(self) -> str:
        """Who the cluster says that the caller is."""
        return str(self.review("authentication.k8s.io/v1", "SelfSubjectReview")["status"]["userInfo"]["username"])

    def review(self, version: str, kind: str, spec: Object | None = None) -> Object:
        """The answer to a review, which is no object that is kept. `kubectl create` itself would want to list the cluster's CRDs first,
        which most people may not."""
        body = {"apiVersion": version, "kind": kind, **({"spec": spec} if spec else {})}
        words = ("create", "--raw", f"/apis/{version}/{kind.lower()}s", "-f", "-")
        answer: Object = json.loads(self.call(*words, stdin=json.dumps(body)))
        return answer

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
        call = self.inside(pod, *command)
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
                message = process.stderr.read().decode(errors="replace")
                if process.wait():
                    raise failure(message)
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
        words = self.inside(pod, *command)
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=target, stderr=subprocess.PIPE, check=False)
        except FileNotFoundError:
            raise _without_kubectl() from None
        stderr = done.stderr.decode(errors="replace")
        if done.returncode and (command_failed := _COMMAND_FAILED.search(stderr)):
            raise CliError(stderr[: command_failed.start()].strip().removeprefix("flow: ") or f"{' '.join(command)} failed in the session")
        if done.returncode:
            raise failure(stderr)

    def execute(self, pod: str, command: Sequence[str], *, stdin: bool, tty: bool) -> NoReturn:
        """Goes on as a command in a session's pod: standard streams, signals and the exit status are its own, and it ends with this
        program where that can still say so. A terminal hangs up."""
        options = [*(["-i"] if stdin else []), *(["-t"] if tty else [])]
        call = secrets.token_hex(8)

        def hang_up(number: int) -> None:
            name = "HUP" if tty else signal.Signals(number).name.removeprefix("SIG")
            words = self.inside(pod, "flow", "hang-up", call, name)
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    timeout=HANG_UP_SECONDS,
                    check=False,
                )

        try:
            words = self.inside(pod, "env", f"{CALL}={call}", *command, options=options)
            sys.exit(executing.run(words, hang_up))
        except FileNotFoundError:
            raise _without_kubectl() from None


class StandardError:
    """kubectl's standard error: kept, and shown as it comes once a call takes long, as when a login program tells where to log in."""

    def __init__(self) -> None:
        self._read, self.end = os.pipe()
        self._began = time.monotonic()
        self._text = ""
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def close(self) -> str:
        """What was said, once kubectl has ended."""
        os.close(self.end)
        self._reader.join(timeout=LINGERS_SECONDS)
        return self._text

    def _listen(self) -> None:
        shown = 0
        while True:
            ready, _, _ = select.select([self._read], [], [], LOOK_SECONDS)
            piece = os.read(self._read, _PIECE) if ready else None
            if piece == b"":
                os.close(self._read)
                return
            self._text += (piece or b"").decode(errors="replace")
            if time.monotonic() - self._began > PATIENCE_SECONDS and len(self._text) > shown:
                sys.stderr.write(self._text[shown:])
                sys.stderr.flush()
                shown = len(self._text)


def manifest(kind: str, name: str, spec: Object, *, labels: Mapping[str, str] | None = None) -> Object:
    """An object of this project's API."""
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, "labels": dict(labels or {})}, "spec": spec}


def stamp() -> str:
    """The present time, as requests have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event_time(event: Object) -> str:
    """When an Event was last seen, as the API writes times."""
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or "")


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
