"""Runs in the session's Python, not in the agent's: sends the spans of a test or run to the session's OTLP endpoint.

Prompt flow makes the spans and, with `trace.destination: none`, sends none itself. Its batch engine runs lines in processes that
multiprocessing spawns and forks. A spawned one runs the file of `__main__` first, which is how its spans get the same exporter.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import time

from flowsession_protocol.variables import TRACING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, Sequence

PROBLEM = "traces-problem.txt"
"""File in the test's or run's folder that has the reason why spans could not be sent: one sentence for the agent's log."""
SEND_SECONDS = 2.0
"""Seconds for which sending may delay a test or a process of a run. After a failure nothing is sent for PAUSE_SECONDS."""
ANSWER_SECONDS = 1.0
PAUSE_SECONDS = 30.0
NEEDED = "opentelemetry-exporter-otlp-proto-http"
"""The package that sends. promptflow-devkit requires it, promptflow-core does not."""
WORKER = """\
import sys
sys.path.insert(0, {sources!r})
from flowsession_agent.session import traces
sys.path.remove({sources!r})
traces.begin({folder!r}, run={run!r})
"""

KEPT = frozenset(
    [
        *("framework", "span_type", "function", "node_name", "output_type", "execution_target", "is_aggregation"),
        *("line_run_id", "batch_run_id", "line_number", "referenced.line_run_id", "referenced.batch_run_id", "llm.response.model"),
        *("gen_ai.system", "gen_ai.provider.name", "gen_ai.operation.name", "gen_ai.request.model", "gen_ai.response.model"),
        *("error.type", "exception.type", "http.request.method", "http.response.status_code", "server.address", "server.port"),
    ]
)
"""Attributes that reveal nothing of a flow's inputs and outputs."""
KEPT_PREFIXES = ("llm.usage.", "gen_ai.usage.", "__computed__.cumulative_token_count.")
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""OpenTelemetry's switch for the content that instrumentations of model clients record."""


@contextlib.contextmanager
def sent(folder: str, run: str = "") -> Iterator[None]:
    """Send the spans that end within the block. A failure to send never fails the flow, and is written to PROBLEM in `folder`."""
    begun = begin(folder, run=run)
    if begun:
        _prepare_workers(folder, run)
    try:
        yield
    finally:
        if begun:
            _flush()


def begin(folder: str, *, run: str = "") -> bool:
    """Send this process's spans from now on. Return whether they are sent: it takes an endpoint and the package that sends."""
    wanted = prepare()
    if not wanted:
        return False
    try:
        _install(Exporter(wanted, folder, run))
    except ImportError as error:
        message = f"traces can't be sent: the session has no module {error.name}: put {NEEDED} into the requirements"
        _tell(folder, message)
        return False
    return True


def prepare() -> dict[str, Any]:
    """Set the environment variables that sending needs. Return the members of TRACING; empty if there is no endpoint."""
    wanted: dict[str, Any] = json.loads(os.environ.get(TRACING) or "{}")
    if wanted:
        os.environ["PF_DISABLE_TRACING"] = "false"  # prompt flow makes no spans by default, and the runtime image disables them too
        if not wanted["content"]:
            os.environ[CAPTURE] = "false"
    return wanted


def _install(exporter: Exporter) -> None:
    from opentelemetry import trace  # type: ignore[import-not-found,unused-ignore]
    from opentelemetry.exporter.otlp.proto.http import trace_exporter  # type: ignore[import-not-found,unused-ignore] # noqa: F401
    from opentelemetry.sdk.trace import TracerProvider  # type: ignore[import-not-found,unused-ignore]
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # type: ignore[import-not-found,unused-ignore]

    provider = TracerProvider(resource=exporter.resource)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    trace.set_tracer_provider(provider)


def _flush() -> None:
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    with contextlib.suppress(Exception):  # the flow's code may have set any provider
        provider.force_flush()


def _prepare_workers(folder: str, run: str) -> None:
    from flowsession_agent.scripts import SOURCES

    path = os.path.join(folder, "traces_worker.py")
    with open(path, "w", encoding="utf-8") as file:
        file.write(WORKER.format(sources=SOURCES, folder=folder, run=run))
    sys.modules["__main__"].__file__ = path


class Exporter:
    """Exports spans by OpenTelemetry's OTLP exporter within SEND_SECONDS. After a failure it drops them for PAUSE_SECONDS."""

    def __init__(self, wanted: dict[str, Any], folder: str, run: str) -> None:
        """Take `wanted`, the members of the variable TRACING."""
        from opentelemetry.sdk.resources import Resource  # type: ignore[import-not-found,unused-ignore]

        own = {"service.name": "flowsession", **wanted["resource"], **({"flowsession.run": run} if run else {})}
        self.resource = Resource.create(own)
        self._own = Resource(own)
        self._endpoint = str(wanted["endpoint"])
        self._headers = str(wanted.get("headers") or "")
        self._secret = str(wanted.get("secret") or "")
        self._content = bool(wanted["content"])
        self._folder = folder
        self._paused_until = 0.0
        self._sender: tuple[int, Any] = (0, None)

    def export(self, spans: Sequence[Any]) -> object:
        """Send the spans or drop them. Raises nothing."""
        from opentelemetry.sdk.trace.export import SpanExportResult  # type: ignore[import-not-found,unused-ignore]

        if time.monotonic() < self._paused_until:
            return SpanExportResult.FAILURE
        problems = [f"no answer within {SEND_SECONDS:.0f} s"]

        def send() -> None:
            problems[0] = self._send(spans)

        thread = threading.Thread(target=send, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is shutting down
            send()
        else:
            thread.join(SEND_SECONDS)
        (problem,) = problems
        if not problem:
            return SpanExportResult.SUCCESS
        self._paused_until = time.monotonic() + PAUSE_SECONDS
        _tell(self._folder, f"traces could not be sent to {self._endpoint}: {problem}")
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Do nothing: the end of the process closes what is open."""

    def force_flush(self, *_: object) -> bool:
        """Return True: nothing is buffered here."""
        return True

    def _send(self, spans: Sequence[Any]) -> str:
        """Return why the endpoint did not take the spans; empty if it did. No text of an endpoint or library: it may contain a header."""
        from requests import exceptions  # type: ignore[import-untyped,unused-ignore]

        try:
            return self._post([self._as_message(span) for span in spans])
        except exceptions.Timeout:
            return f"no answer within {ANSWER_SECONDS:.0f} s"
        except exceptions.SSLError:
            return "its certificate is not trusted"
        except exceptions.ConnectionError as error:
            return _cause(error)
        except (exceptions.InvalidHeader, UnicodeError, ValueError):
            return f"a key or value of Secret {self._secret!r} is no HTTP header"
        except Exception as error:
            return type(error).__name__

    def _post(self, spans: list[Any]) -> str:
        pid, exporter = self._sender
        if pid != os.getpid():  # forked: the parent's connection must not be used
            exporter = _otlp_exporter(f"{self._endpoint.rstrip('/')}/v1/traces")
            self._sender = (os.getpid(), exporter)
        headers = read_headers(self._headers)
        try:
            exporter.export_with(headers, spans)
        except RefusedError as error:
            missing = self._secret and not headers
            return f"{error}; Secret {self._secret!r} does not exist or has no keys" if missing else str(error)
        return ""

    def _as_message(self, span: Any) -> Any:
        """Return the span with the session's resource, and without content unless that is wanted."""
        from opentelemetry.sdk.trace import ReadableSpan  # type: ignore[import-not-found,unused-ignore]

        attributes, events, links, status = span.attributes, span.events, span.links, span.status
        if not self._content:
            attributes, events, links, status = _kept(attributes), _without_content(events), (), _status(status)
        return ReadableSpan(
            name=span.name,
            context=span.context,
            parent=span.parent,
            resource=span.resource.merge(self._own),
            attributes=attributes,
            events=events,
            links=links,
            kind=span.kind,
            status=status,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )


class RefusedError(Exception):
    """The endpoint's response rejects the spans."""


def _otlp_exporter(url: str) -> Any:
    from opentelemetry.exporter.otlp.proto.http import trace_exporter
    from requests import Session

    class Posts(Session):  # type: ignore[misc,unused-ignore]
        """Follows no redirects: the headers are for the endpoint alone."""

        def __init__(self) -> None:
            super().__init__()
            self.given: dict[str, str] = {}

        def post(self, *arguments: Any, **more: Any) -> Any:
            answer = super().post(*arguments, **more, headers=self.given, allow_redirects=False)
            if not 200 <= answer.status_code < 300:
                raise RefusedError(f"it answers with status {answer.status_code}")
            return answer

    class Sender(trace_exporter.OTLPSpanExporter):  # type: ignore[misc,unused-ignore]
        def export_with(self, headers: dict[str, str], spans: list[Any]) -> None:
            posts.given = headers
            self.export(spans)

    posts = Posts()
    return Sender(endpoint=url, timeout=ANSWER_SECONDS, session=posts)


def read_headers(folder: str) -> dict[str, str]:
    """Return the headers in a mounted Secret, by its keys; none while it does not exist."""
    found = {}
    with contextlib.suppress(OSError):  # the kubelet is replacing it: the next request has all headers
        for name in os.listdir(folder) if folder else ():
            path = os.path.join(folder, name)
            if not name.startswith("..") and os.path.isfile(path):
                with open(path, encoding="utf-8") as file:
                    found[name] = file.read().strip()
    return found


def _kept(attributes: Any) -> dict[str, Any]:
    return {name: value for name, value in (attributes or {}).items() if name in KEPT or name.startswith(KEPT_PREFIXES)}


def _without_content(events: Sequence[Any]) -> list[Any]:
    """Return the events of exceptions only, with the exception's type alone."""
    from opentelemetry.sdk.trace import Event  # type: ignore[import-not-found,unused-ignore]

    return [Event(event.name, _kept(event.attributes), event.timestamp) for event in events if event.name == "exception"]


def _status(status: Any) -> Any:
    """Return the status with its description cut to the exception's type, with which it begins."""
    from opentelemetry.trace import Status  # type: ignore[import-not-found,unused-ignore]

    kind = re.match(r"[A-Za-z_][\w.]*(?=:)", status.description or "")
    return Status(status.status_code, kind.group() if kind else None) if status.description else status


def _cause(error: BaseException) -> str:
    """Return why there is no connection, in the operating system's words."""
    import socket

    seen: BaseException | None = error
    for _ in range(10):
        inner = getattr(seen, "reason", None) or next((one for one in getattr(seen, "args", ()) if isinstance(one, BaseException)), None)
        seen = inner or getattr(seen, "__cause__", None) or getattr(seen, "__context__", None)
        if isinstance(seen, socket.gaierror):
            return "its name is not known in DNS"
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror.lower()
    return "no connection"


def _tell(folder: str, sentence: str) -> None:
    with contextlib.suppress(OSError), open(os.path.join(folder, PROBLEM), "w", encoding="utf-8") as file:
        file.write(sentence)
