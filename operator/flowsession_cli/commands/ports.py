"""`kubectl flow open`: forward a session's port to this machine, and open it in the browser."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from flowsession_cli import app, follow, naming
from flowsession_cli.cluster import SESSION, Cluster, Object
from flowsession_cli.errors import CliError, Unreachable

_LOOPBACK = "127.0.0.1"
_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ->")
_LONGEST_PAUSE = 10.0
_LOOK_SECONDS = 5.0

_WAIT = """
import select, socket, sys
while True:
    try:
        socket.create_connection(("localhost", int(sys.argv[1])), 2).close()
        break
    except OSError:
        print("nobody", flush=True)
    if select.select([0], [], [], 1)[0] and not sys.stdin.buffer.read1(1):
        sys.exit(3)
"""
"""Runs in the session until something listens on the port, or its caller is gone."""


@click.command("open")
@click.argument("name", default="", metavar="[NAME or DIR]", shell_complete=app.complete(SESSION))
@click.argument("port", default="", metavar="PORT")
@click.option("--local-port", type=click.IntRange(1, 65535), default=None, help="The port on this machine; else the same, or a free one.")
@click.option("--browser/--no-browser", default=True, help="Open it in the browser (the default).")
@app.common
def open_command(cluster: Cluster, name: str, port: str, local_port: int | None, browser: bool) -> None:
    """Open a port of a session in the browser, through the API server. It is reached from this machine alone.

    Waits until something listens there. ^C ends it; a connection that breaks is made again.

    \b
    kubectl flow open chat 8501
    """
    if name.isdigit() and not port:
        name, port = "", name
    if not port.isdigit() or not 0 < int(port) < 65536:
        wrong = f"{port} is no port" if port else "the port is missing"
        raise CliError(f"{wrong}: kubectl flow open {name or 'NAME'} 8501", code=2)
    for number in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    try:
        _Opened(cluster, int(port), browser=browser).keep(name, local_port or _free(int(port)))
    except KeyboardInterrupt:
        click.echo("\nclosed", err=True)


class _Opened:
    """A session's port, kept open while the session lives."""

    def __init__(self, cluster: Cluster, port: int, *, browser: bool) -> None:
        self._cluster = cluster
        self._port = port
        self._browser = browser

    def keep(self, name: str, local: int) -> None:
        """Forward the port, and again after each break. Raises CliError when the session is over."""
        session = naming.usable(self._cluster, name)
        name, pause = session["metadata"]["name"], 0.5
        while True:
            pod = session["status"]["podName"]
            self._await_listener(name, pod)
            with self._forwarded(pod, local) as (process, words, forwards):
                if forwards:
                    pause = 0.5
                    self._print(name, local)
                lost = self._await_end(process, name, pod)
            self._refuse_taken(words, local)
            reason = lost or (words[-1] if words else "no reason was given")
            click.echo(f"the connection to {name} broke ({reason}): it is made again", err=True)
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            session = self._found_again(name)
            if naming.is_suspended(session):
                raise CliError(f"{name} was suspended: kubectl flow open {name} {self._port} resumes it")
            if not follow.is_ready(session):
                session = follow.until_ready(self._cluster, name)

    def _await_end(self, process: "subprocess.Popen[str]", name: str, pod: str) -> str:
        """Return when kubectl ends, or why the pod is lost: kubectl itself notices that only when the port is used next."""
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_SECONDS)
                return ""
            with contextlib.suppress(Unreachable):
                session = self._cluster.find(SESSION, name)
                if session is None or session.get("status", {}).get("podName") != pod:
                    return f"its pod {pod} is gone"

    def _found_again(self, name: str) -> Object:
        """Return the session once the cluster answers. Raises CliError if it is gone."""
        pause = 1.0
        while True:
            try:
                return naming.session(self._cluster, name)
            except Unreachable as error:
                click.echo(f"{error}; ^C ends this, else it is tried again", err=True)
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _await_listener(self, name: str, pod: str) -> None:
        """Wait, with a message, until something listens. Return at once if that can't be found out: the port is forwarded anyway."""
        command = self._cluster.inside(pod, "python3", "-c", _WAIT, str(self._port), options=("-i",))
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            assert process.stdout
            try:
                if process.stdout.readline():
                    start = f"start it there, for example in kubectl flow sh {name}"
                    click.echo(f"nothing listens on port {self._port} in {name} yet: {start}; waiting", err=True)
                    process.stdout.read()
            finally:
                process.kill()

    @contextmanager
    def _forwarded(self, pod: str, local: int) -> Iterator[tuple["subprocess.Popen[str]", list[str], bool]]:
        """kubectl port-forward, what it says on standard error, and whether it forwards; else it ends."""
        command = self._cluster.command("port-forward", f"--address={_LOOPBACK}", f"pod/{pod}", f"{local}:{self._port}")
        words: list[str] = []
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        assert process.stdout
        assert process.stderr
        reader = threading.Thread(target=_listen, args=(process.stderr, words), daemon=True)
        reader.start()
        try:
            lines = iter(process.stdout.readline, "")
            forwards = any(_FORWARDING.match(line) for line in lines)
            drain = threading.Thread(target=process.stdout.read, daemon=True)
            drain.start()
            yield process, words, forwards
        finally:
            process.kill()
            process.wait()
            reader.join(2)

    def _print(self, name: str, local: int) -> None:
        url = f"http://{_LOOPBACK}:{local}/"
        shown = self._browser and _show(url)
        hint = "" if shown or not self._browser else "; there is no browser here, so open it yourself"
        click.echo(f"port {self._port} of {name} is at {url}, from this machine alone{hint}; ^C ends it")
        sys.stdout.flush()
        self._browser = False

    def _refuse_taken(self, words: list[str], local: int) -> None:
        text = " ".join(words)
        if "unable to listen" in text.lower() or "address already in use" in text:
            raise CliError(f"port {local} of this machine is taken: choose another by --local-port")
        if "cannot create resource" in text:
            from flowsession_cli.failures import failure  # noqa: PLC0415

            raise failure(text)


def _listen(stream: "subprocess.IO[str]", words: list[str]) -> None:  # type: ignore[name-defined]
    for line in stream:
        if line.strip():
            words.append(re.sub(r"^[EWI]\d{4} \S+\s+\d+ \S+\] ", "", line.strip()).removeprefix("error: "))


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal has it
    """Exit by an exception, so that kubectl, which has its own process group, is ended too."""
    sys.exit(128 + number)


def _free(port: int) -> int:
    """Return the same port number, or a free one if that is taken or needs rights."""
    for wanted in (port, 0):
        try:
            with socket.socket() as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind((_LOOPBACK, wanted))
                found: int = tried.getsockname()[1]
                return found
        except OSError:
            continue
    raise CliError("no port of this machine is free")


def _show(url: str) -> bool:
    """Open the URL in a browser with a window. Return False if there is no browser."""
    import webbrowser  # noqa: PLC0415 - not for --help

    windows = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")) or sys.platform in ("darwin", "win32")
    try:
        return windows and webbrowser.open(url)
    except webbrowser.Error:
        return False
