"""The command `flow`, for people in the pod: `kubectl exec POD -- flow test --inputs name=Ada`."""

from __future__ import annotations

import io
import json
import os
import sys

from flowsession_protocol import variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    import socket
    from typing import IO, Any, Callable, Sequence

USUAL_HOME = "/session"
FOLLOW_SECONDS = 0.3
WAKE_MS = 500
"""Milliseconds after which a wait is interrupted. Python notices a ^C right before a system call that blocks only after that call."""
EPILOG = "Inputs that are not given have the flow's own defaults. All but `flow test` answer from the agent's memory, at once."


class CommandError(Exception):
    """A message for standard error; the command exits with 1. `code`: the agent's error code. `tail`: the end of a failed flow's stderr."""

    def __init__(self, message: str, *, code: str = "", tail: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.tail = tail


def main(argv: Sequence[str]) -> int:
    """Run the command and return the exit code."""
    try:
        if (inputs := _only_inputs(argv)) is not None:
            _print_outputs({"inputs": inputs}, traceback=False)
            return 0
        parser = _parser()
        arguments = parser.parse_args(argv)
        if arguments.run is None:
            parser.print_help()
            return 2
        arguments.run(arguments)
    except CommandError as error:
        print(f"flow: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # `flow packages | head`
    except KeyboardInterrupt:
        return 130
    return 0


def _only_inputs(argv: Sequence[str]) -> dict[str, str] | None:
    """Return the inputs of `test [--inputs NAME=VALUE ...]`, else None: it avoids `argparse`, which takes a tenth of a warm test's time."""
    words = list(argv[1:])
    if list(argv[:1]) != ["test"] or (words and words.pop(0) != "--inputs") or any(word.startswith("-") for word in words):
        return None
    return _inputs(words) if words or len(argv) == 1 else None


def _parser() -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(prog="flow", description="Use this session's flow and packages.", epilog=EPILOG)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    parser.set_defaults(run=None)
    test = commands.add_parser("test", help="run the flow once and print its outputs as JSON")
    test.add_argument("--inputs", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="the flow's inputs")
    test.add_argument("--node", default="", metavar="NAME", help="run this node alone; the inputs are the node's, by its names for them")
    test.add_argument("--variant", default="", metavar="NODE.VARIANT", help="run with this variant of a node, also written ${NODE.VARIANT}")
    test.add_argument("--stream", action="store_true", help="print what the flow streams as it comes, as is done in a terminal anyway")
    test.add_argument("--traceback", action="store_true", help="after a failure, print the traceback and the rest of what the flow wrote")
    test.set_defaults(run=_test)
    chat = commands.add_parser("chat", help="talk to a chat flow, which is given the history; end with ^D")
    chat.add_argument("--inputs", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="the flow's other inputs")
    chat.add_argument("--variant", default="", metavar="NODE.VARIANT", help="chat with this variant of a node")
    chat.set_defaults(run=_chat)
    check = commands.add_parser("check", help="tell what is wrong with the flow as it is now, without running it")
    check.add_argument("--json", action="store_true", help="print what was found as JSON")
    check.set_defaults(run=_check)
    status = commands.add_parser("status", help="tell what is installed, what is under way and since when the session is idle")
    status.add_argument("--json", action="store_true", help="print all that the agent knows")
    status.set_defaults(run=_status)
    packages = commands.add_parser("packages", help="list the installed packages, and which of them the requirements brought")
    packages.add_argument("--follow", action="store_true", help="print what the installer says while it runs")
    packages.add_argument("--json", action="store_true", help="print the list as JSON")
    packages.set_defaults(run=_packages)
    edits = commands.add_parser("edits", help="list the files of the flow folder that were changed here, and where saved edits stand")
    edits.add_argument("--diff", action="store_true", help="show what was changed, and what `flow restore` would change")
    edits.add_argument("--discard", action="store_true", help="the present edits need not be saved; the files stay")
    edits.add_argument("--pack", action="store_true", help="write them to standard output as a .tar.gz, with what they were made on")
    edits.add_argument("--json", action="store_true", help="print what the agent knows of them")
    edits.set_defaults(run=_edits)
    restore = commands.add_parser("restore", help="write the edits that an earlier session saved into the flow folder")
    restore.add_argument("--force", action="store_true", help="also over files edited here, which are kept as NAME.kept")
    restore.set_defaults(run=_restore)
    commands.add_parser("keep-alive", help="count as work now, so that the session is kept").set_defaults(run=_keep_alive)
    hang_up = commands.add_parser("hang-up")  # for programs, to end what they started by `kubectl exec`
    hang_up.add_argument("call", metavar="CALL")
    hang_up.add_argument("signal", choices=("HUP", "INT", "TERM"))
    hang_up.set_defaults(run=_hang_up)
    return parser


def _test(arguments: argparse.Namespace) -> None:
    order = {"inputs": _inputs(arguments.inputs), "node": arguments.node, "variant": _variant(arguments.variant)}
    _print_outputs(order, traceback=arguments.traceback, stream=arguments.stream)


def _inputs(words: Sequence[str]) -> dict[str, str]:
    inputs = {}
    for given in words:
        name, equals, value = given.partition("=")
        if not equals or not name:
            raise CommandError(f"{given!r} is no input: write NAME=VALUE, e.g. --inputs name=Ada.")
        inputs[name] = value
    return inputs


def _variant(word: str) -> str:
    """Return the variant as prompt flow writes it."""
    return word if not word or word.startswith("${") else f"${{{word}}}"


def _print_outputs(order: dict[str, Any], *, traceback: bool, stream: bool = False) -> None:
    """Run a test and print its outputs. Streamed text goes to standard error, where it doesn't mix with them."""
    streamed = False

    def show(members: dict[str, Any]) -> None:
        nonlocal streamed
        streamed = True
        print(members.get("text", ""), end="", file=sys.stderr, flush=True)

    try:
        answer = call("POST", "/v1/test", {**order, "stream": stream or sys.stderr.isatty()}, show)
    except CommandError as error:
        if error.code != "FlowFailed":
            raise
        more = f"\n\n{error.tail}" if traceback and error.tail else ""
        ways = "`flow check` looks for what is wrong with the flow"
        ways = ways if more or not error.tail else f"`flow test --traceback` shows all that it wrote, {ways}"
        raise CommandError(f"{error}\n{ways}.{more}") from None
    finally:
        if streamed:
            print(file=sys.stderr)
    print(json.dumps(answer["outputs"], indent=2, ensure_ascii=False))


def _chat(arguments: argparse.Namespace) -> None:
    """Chat until the input ends. In a terminal, print the error of a failed round and continue with the history from before it."""
    import contextlib

    at_terminal = sys.stdin.isatty()
    if at_terminal:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - so that lines can be edited
    order: dict[str, Any] = {"inputs": _inputs(arguments.inputs), "variant": _variant(arguments.variant), "stream": True}
    history = None
    if at_terminal:
        _refuse_no_chat(order)
    while True:
        try:
            message = input("User: " if at_terminal else "")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if not message.strip():
            continue
        try:
            history = _round({**order, "chat": {"message": message, "history": history}})
        except KeyboardInterrupt:
            if not at_terminal:
                raise
            print("\nflow: this answer was canceled; ^D ends the chat.", file=sys.stderr)
        except CommandError as error:
            if not at_terminal or error.code == "NoChatFlow":
                raise
            print(f"flow: {error}", file=sys.stderr)


def _refuse_no_chat(order: dict[str, Any]) -> None:
    """Raise CommandError, before anything is typed, if the flow can't chat or can't take these inputs."""
    try:
        call("POST", "/v1/test", {**order, "stream": False, "chat": {"message": None, "history": None}})
    except CommandError as error:
        if error.code in ("NoFlow", "NoChatFlow", "UnknownInput", "UnknownVariant"):
            raise


def _round(order: dict[str, Any]) -> list[Any]:
    """Print the flow's answer as it arrives; return the history including it."""
    streamed = False

    def show(members: dict[str, Any]) -> None:
        nonlocal streamed
        print("" if streamed else "Bot: ", members.get("text", ""), sep="", end="", flush=True)
        streamed = True

    try:
        chat = call("POST", "/v1/test", order, show)["chat"]
    finally:
        if streamed:
            print(flush=True)
    if not streamed:
        output = chat["output"]
        print(f"Bot: {output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)}", flush=True)
    history: list[Any] = chat["history"]
    return history


def _check(arguments: argparse.Namespace) -> None:
    check = call("POST", "/v1/validate")["check"]
    if arguments.json:
        print(json.dumps(check, indent=2))
    else:
        for problem in check["problems"]:
            print(_in_a_line(problem))
        for warning in check["warnings"]:
            print(f"{_in_a_line(warning)} (warning)")
        if check["count"] > len(check["problems"]):
            print(f"... and {check['count'] - len(check['problems'])} more")
    if check["verdict"] == "Invalid":
        raise CommandError(f"{check['count']} problem{'s' if check['count'] != 1 else ''} found.")
    if check["verdict"] == "Valid":
        print("flow: no problems found.", file=sys.stderr)
    else:
        raise CommandError(check["reason"] or "there is no flow in this session.")


def _in_a_line(problem: dict[str, Any]) -> str:
    place = ":".join(str(problem[part]) for part in ("file", "line") if part in problem)
    node = f"node {problem['node']}: " if "node" in problem else ""
    return f"{place + ': ' if place else ''}{node}{problem['message']} [{problem['code']}]"


def _status(arguments: argparse.Namespace) -> None:
    state = call("GET", "/v1/state")
    if arguments.json:
        print(json.dumps(state, indent=2))
        return
    install, activity = state["install"], state["activity"]
    words = {"None": "not installed yet", "Running": f"installing for {install['seconds']:.0f} s", "Succeeded": "installed"}
    packages = words.get(install["state"]) or f"{install['code']}: {install['message']}"
    idle = f"busy: {activity['what']}" if activity["busy"] else f"idle for {activity['idleSeconds']:.0f} s, last {activity['what']}"
    print(f"packages  {packages}\nactivity  {idle}\nedits     {_edits_in_a_line(state['edits'])}")
    print(f"retired   {'yes, it is being ended' if state['retired'] else 'no'}")


def _packages(arguments: argparse.Namespace) -> None:
    if arguments.follow:
        _follow_install()
        return
    packages = call("GET", "/v1/packages")["packages"]
    if arguments.json:
        print(json.dumps(packages, indent=2))
        return
    width = max((len(package["name"]) for package in packages), default=0)
    for package in packages:
        replaces = f", replaces {package['replaces']} of the image" if "replaces" in package else ""
        print(f"{package['name']:<{width}}  {package['version']:<16} {package['layer']}{replaces}")


def _follow_install() -> None:
    """Print the installer's lines as they arrive, each once: an install repeats the lines of its dry run."""
    import time

    step, seen, printed = "", 0, set()

    def print_new(lines: list[str]) -> None:
        for line in lines:
            if line.strip() and line not in printed and not line.startswith(("Would ", "Using Python ")):
                printed.add(line)
                print(line, flush=True)

    while True:
        answer = call("GET", "/v1/install")
        words = answer["words"]
        if words["step"] != step:
            step, seen = words["step"], 0
        if words["lines"] > seen:
            print_new(words["text"].splitlines()[seen - words["lines"] :])
            seen = words["lines"]
        if answer["install"]["state"] != "Running":
            install = answer["install"]
            print_new((install["stderrTail"] if install["tool"] == "uv" else install["stdoutTail"]).splitlines())
            return
        time.sleep(FOLLOW_SECONDS)


def _edits(arguments: argparse.Namespace) -> None:
    if arguments.diff:
        from flowsession_agent.edits import diff
        from flowsession_agent.settings import Home

        for line in diff.lines(Home(os.path.dirname(_socket_path()))):
            print(line.encode(errors="backslashreplace").decode())
        return
    if arguments.pack:
        _pack_edits()
        return
    edits = (call("POST", "/v1/edits/discard") if arguments.discard else call("GET", "/v1/state"))["edits"]
    if arguments.json:
        print(json.dumps(edits, indent=2))
        return
    for name in edits["files"]:
        print(name)
    if edits["count"] > len(edits["files"]):
        print(f"... and {edits['count'] - len(edits['files'])} more")
    for name in edits.get("leftOutFiles", ()):
        print(f"not saved: {name}")
    for name in edits.get("kept", ()):
        print(f"moved aside by the environment's change: {name}")
    print(f"flow: {_edits_in_a_line(edits)}", file=sys.stderr)


def _pack_edits() -> None:
    from flowsession_agent.edits import pack_all
    from flowsession_agent.settings import Home

    try:
        pack_all.write(Home(os.path.dirname(_socket_path())), sys.stdout.buffer)
    except pack_all.ChangingError as error:
        raise CommandError(f"{error} changes while it is read: try again when nothing writes there.") from None


def _edits_in_a_line(edits: dict[str, Any]) -> str:
    count = edits["count"]
    words = [f"{count} file{'s' if count != 1 else ''} changed, {edits['bytes']:,} bytes" if count else "none"]
    if edits.get("more"):
        words.append("more than can be looked at")
    if edits.get("discarded"):
        words.append("not to be saved")
    if edits.get("saved"):
        words.append("saved")
    elif edits.get("waiting"):
        words.append("about to be saved")
    if edits.get("leftOut"):
        words.append(f"{edits['leftOut']} more that are not saved")
    if edits["restored"]:
        words.append("saved edits of an earlier session were restored")
    if edits["offered"]:
        words.append(f"{edits['offered']} holds edits of an earlier session: run `flow restore`")
    return "; ".join(words + ([edits["problem"]] if "problem" in edits else []))


def _restore(arguments: argparse.Namespace) -> None:
    try:
        done = call("POST", "/v1/edits/restore", {"force": arguments.force})
    except CommandError as error:
        if error.code != "Edited" or not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        print(f"flow: {error}", file=sys.stderr)
        if input("Restore them now, and keep what is there as NAME.kept? [y/N] ").strip().lower() not in ("y", "yes"):
            raise CommandError("nothing was restored.") from None
        done = call("POST", "/v1/edits/restore", {"force": True})
    for verb in ("written", "deleted", "kept"):
        for name in done[verb]:
            print(f"{verb:<7}  {name}")
    if not any(done[verb] for verb in ("written", "deleted", "kept")):
        print(f"The flow folder has the edits of {done['name']} already.")


def _hang_up(arguments: argparse.Namespace) -> None:
    import signal

    from flowsession_agent.session.hang_up import hang_up

    if not hang_up(arguments.call, signal.Signals[f"SIG{arguments.signal}"]):
        raise CommandError("nothing of that call runs here any more.")


def _keep_alive(_: argparse.Namespace) -> None:
    call("POST", "/v1/keepalive")
    print("The session counts as used now.")


def call(
    method: str, path: str, body: dict[str, Any] | None = None, show: Callable[[dict[str, Any]], None] = lambda _: None
) -> dict[str, Any]:
    """Return the agent's response; `show` gets partial ones before it. Raises CommandError with the agent's reason, or if no agent runs."""
    import socket

    content = json.dumps(body).encode() if body is not None else b""
    request = f"{method} {path} HTTP/1.1\r\nHost: agent\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode() + content
    where, sent = _socket_path(), False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(where)
            connection.sendall(request)
            sent = True
            status, members = _read(io.BufferedReader(_Received(connection)), show)
    except OSError as error:
        if sent and isinstance(error, BrokenPipeError):  # not the agent's: the reader of this command's output is gone
            raise
        raise CommandError(f"this pod has no running flowsession agent at {where} ({error.strerror or error}).") from None
    except (ValueError, IndexError):
        raise CommandError(f"the agent at {where} ended before it answered.") from None
    if status != 200:
        message, code, tail = (str(members.get(name) or "") for name in ("message", "code", "stderrTail"))
        raise CommandError(message or f"the agent answered {status}.", code=code, tail=tail.strip())
    return members


def _wait(connection: socket.socket) -> None:
    """Wait until the agent has sent more. Raises BrokenPipeError if nobody reads this command's output any more."""
    import select

    poll = select.poll()
    poll.register(connection, select.POLLIN)
    poll.register(1, 0)
    while True:
        for descriptor, event in poll.poll(WAKE_MS):
            if descriptor != 1:
                return
            if event & (select.POLLERR | select.POLLHUP):
                raise BrokenPipeError
            poll.unregister(1)  # standard output is closed


class _Received(io.RawIOBase):
    """What a connection receives."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        _wait(self._connection)
        return self._connection.recv_into(buffer)


def _read(answer: IO[bytes], show: Callable[[dict[str, Any]], None]) -> tuple[int, dict[str, Any]]:
    """Return a response's status and members. In a response in lines, the last line has the status. Raises ValueError, IndexError."""
    status, in_lines = int(answer.readline().split(b" ", 2)[1]), False
    for line in iter(answer.readline, b"\r\n"):
        if not line:
            raise ValueError("no answer")
        in_lines = in_lines or b"application/x-ndjson" in line
    while in_lines:
        members: dict[str, Any] = json.loads(answer.readline())
        if "status" in members:
            return int(members["status"]), members
        show(members)
    return status, json.loads(answer.read())


def _socket_path() -> str:
    home = os.environ.get(variables.HOME)
    return os.path.join(home or USUAL_HOME, "agent.sock")
