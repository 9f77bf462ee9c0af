"""The cluster, through the user's own kubectl, and so with every kind of kubeconfig, credential and proxy that kubectl supports.

kubectl starts in 60 ms, importing the Python client takes half a second, and without compiled libraries the program fits in one file.
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
"""An object as the API returns it."""

SESSION, ENVIRONMENT, RUN, INSTANCE, SIZE = (
    f"{plural}.{GROUP}" for plural in ("computesessions", "flowenvironments", "flowruns", "computeinstances", "vmsizes")
)
FIELD_MANAGER = "kubectl-flow"
LOG_LINES = 8
PATIENCE_SECONDS = 2.0
"""Seconds after which a call that is still running is assumed to wait for the user."""

LOOK_SECONDS = 0.5
LINGERS_SECONDS = 1.0
"""Seconds to wait for the end of standard error: a login program may leave a process behind that keeps it open."""

HANG_UP_SECONDS = 10.0
"""Seconds the cluster may take to notice that a command's client is gone."""

_PIECE = 65536

_COMMAND_FAILED = re.compile(r"command terminated with exit code \d+")
"""How kubectl's message ends if the command in the pod failed."""


@dataclass(frozen=True)
class Cluster:
    """The cluster of the kubeconfig's context. Methods raise CliError with kubectl's message as one sentence."""

    namespace: str = ""
    context: str = ""
    kubeconfig: str = ""

    def command(self, *words: str) -> list[str]:
        """Return kubectl's command line with the user's options."""
        options = (("--kubeconfig", self.kubeconfig), ("--context", self.context), ("--namespace", self.namespace))
        return ["kubectl", *(f"{name}={value}" for name, value in options if value), *words]

    def inside(self, pod: str, *command: str, options: Sequence[str] = ()) -> list[str]:
        """Return kubectl's command line for a command in a session's pod."""
        return self.command("exec", *options, pod, "-c", "session", "--", *command)

    def call(self, *words: str, stdin: str = "") -> str:
        """Run kubectl and return what it prints."""
        stderr = StandardError()
        try:
            # kubectl inherits the terminal: the kubeconfig's login program may ask something there.
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
        """Return the object. Raises NotFound."""
        found: Object = json.loads(self.call("get", kind, name, "-o", "json"))
        return found

    def find(self, kind: str, name: str) -> Object | None:
        """Return the object, or None if it doesn't exist."""
        text = self.call("get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text.strip() else None

    def objects(self, kind: str, *options: str) -> list[Object]:
        """Return the objects of that kind."""
        items: list[Object] = json.loads(self.call("get", kind, "-o", "json", *options))["items"]
        return items

    def names(self, kind: str, *options: str) -> list[str]:
        """Return the names of that kind for completion, or none if the cluster doesn't answer."""
        try:
            return [line.rpartition("/")[2] for line in self.call("get", kind, *options, "-o", "name", "--request-timeout=2s").split()]
        except CliError:
            return []

    def refuse_missing_namespace(self) -> None:
        """Raise NotFound if the namespace doesn't exist: lists and look-ups in it find nothing and don't say why. Checked only after
        something was not found, and skipped if the caller may not read namespaces."""
        name = self.namespace or self.call("config", "view", "--minify", "-o", "jsonpath={..namespace}").strip() or "default"
        with contextlib.suppress(Forbidden):
            self.call("get", "namespace", name, "-o", "name")

    def events(self, name: str, *kinds: str, uid: str = "") -> list[Object]:
        """Return the Events of an object of one of these kinds, the oldest first, whether the object exists or not. `uid` excludes Events
        of earlier objects of that name."""
        found = self.objects("events", f"--field-selector=involvedObject.name={name}")
        mine = [event for event in found if event["involvedObject"].get("kind") in kinds]
        return sorted((event for event in mine if not uid or event["involvedObject"].get("uid", uid) == uid), key=event_time)

    def events_of_former_pods(self, session: Object) -> list[Object]:
        """Return the Events of the pods that a session had, the oldest first."""
        before = re.compile(re.escape(f"{session['metadata']['name']}-{session['metadata'].get('uid', '')[:5]}-") + r"\d+")
        found = self.objects("events", "--field-selector=involvedObject.kind=Pod")
        return sorted((event for event in found if before.fullmatch(event["involvedObject"]["name"])), key=event_time)

    def log(self, pod: str) -> str:
        """Return the last lines of a session's container, of the previous one if there was one. Empty if no log can be read."""
        for options in (("--previous",), ()):
            try:
                return self.call("logs", pod, "-c", "session", f"--tail={LOG_LINES}", *options)
            except CliError:
                continue
        return ""

    def apply(self, *manifests: Object) -> list[Object]:
        """Server-side apply manifests with this program as field manager. Raises CliError with the owner of a field in conflict."""
        document = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        text = self.call("apply", "--server-side", f"--field-manager={FIELD_MANAGER}", "-f", "-", "-o", "json", stdin=json.dumps(document))
        applied = json.loads(text)
        return applied["items"] if applied["kind"] == "List" else [applied]

    def managed_fields(self, kind: str, name: str) -> list[Object]:
        """Return which program has written which fields of an object. Empty if the object is gone."""
        text = self.call("get", kind, name, "--ignore-not-found", "--show-managed-fields", "-o", "json")
        found: list[Object] = json.loads(text)["metadata"].get("managedFields") or [] if text.strip() else []
        return found

    def create(self, manifest: Object) -> Object:
        """Create the object and return it. Raises CliError if the name is taken."""
        made: Object = json.loads(self.call("create", "-f", "-", "-o", "json", stdin=json.dumps(manifest)))
        return made

    def patch(self, kind: str, name: str, change: Mapping[str, Any]) -> Object:
        """Merge-patch an object and return it."""
        words = ("patch", kind, name, "--type=merge", f"--field-manager={FIELD_MANAGER}", "-p", json.dumps(change), "-o", "json")
        changed: Object = json.loads(self.call(*words))
        return changed

    def request(self, kind: str, name: str, what: str, *, spec: Mapping[str, Any] | None = None) -> tuple[Object, str]:
        """Request something from the operator by an annotation, with a change of the spec if one is given. Return the object, and the
        timestamp that `status.handledRequests` has once the request is handled."""
        at = stamp()
        change: Object = {"metadata": {"annotations": {f"{GROUP}/{what}-requested-at": at}}, **({"spec": dict(spec)} if spec else {})}
        return self.patch(kind, name, change), at

    def runs_in(self, session: str) -> list[Object]:
        """Return the runs that were assigned to a session."""
        return [run for run in self.objects(RUN) if run.get("status", {}).get("sessionName") == session]

    def delete(self, kind: str, name: str) -> None:
        """Delete an object without waiting until it is gone."""
        self.call("delete", kind, name, "--wait=false")

    def user(self) -> str:
        """Return the caller's user name as the cluster knows it."""
        return str(self.review("authentication.k8s.io/v1", "SelfSubjectReview")["status"]["userInfo"]["username"])

    def review(self, version: str, kind: str, spec: Object | None = None) -> Object:
        """Return the response to a review, which is not stored as an object. Plain `kubectl create` would first list the cluster's CRDs,
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
            # A separate process group: this program handles ^C.
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
        """Replace this program with that kubectl command: standard streams, signals and the exit status are kubectl's."""
        command = self.command(*words)
        try:
            os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
        except FileNotFoundError:
            raise _without_kubectl() from None

    def read_from(self, pod: str, command: Sequence[str], target: IO[bytes]) -> None:
        """Write what a command in a session's pod prints to a file. Raises CliError with the command's message if it fails."""
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
        """Run a command in a session's pod in place of this program, with its standard streams and signals, and exit with its status. When
        a signal ends this program, the command gets that signal too if possible, or SIGHUP if it has a terminal."""
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
    """kubectl's standard error: collected, and shown live while a call takes long, for example when a login program says where to log in.

    What comes right before the end of a call is not shown: it is the reason of a failure, which CliError has as a sentence.
    """

    def __init__(self) -> None:
        self._read, self.end = os.pipe()
        self._began = time.monotonic()
        self._text = ""
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def close(self) -> str:
        """Return what kubectl printed, once it has ended."""
        os.close(self.end)
        self._reader.join(timeout=LINGERS_SECONDS)
        return self._text

    def _listen(self) -> None:
        shown = 0
        while True:
            ready, _, _ = select.select([self._read], [], [], LOOK_SECONDS)
            if ready:
                piece = os.read(self._read, _PIECE)
                if not piece:
                    os.close(self._read)
                    return
                self._text += piece.decode(errors="replace")
            elif time.monotonic() - self._began > PATIENCE_SECONDS and len(self._text) > shown:
                sys.stderr.write(self._text[shown:])
                sys.stderr.flush()
                shown = len(self._text)


def manifest(kind: str, name: str, spec: Object, *, labels: Mapping[str, str] | None = None) -> Object:
    """Return an object of this project's API."""
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, "labels": dict(labels or {})}, "spec": spec}


def stamp() -> str:
    """Return the present time in the format of requests."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event_time(event: Object) -> str:
    """Return when an Event was last seen, in the API's time format."""
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or "")


def _documents(process: "subprocess.Popen[bytes]") -> Iterator[Object]:
    """Yield the JSON documents that kubectl prints in sequence, each once it is complete."""
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
