"""The command `flow`, for people in the pod: `kubectl exec POD -- flow test --inputs name=Ada`."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys

from flowsession_protocol import variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Sequence

USUAL_HOME = "/session"
EPILOG = "Inputs that are not given have the flow's own defaults. All but `flow test` answer from the agent's memory, at once."


class CommandError(Exception):
    """What the person reads on standard error; the command exits with 1. `code` is the agent's, `tail` what a failed flow has printed."""

    def __init__(self, message: str, *, code: str = "", tail: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.tail = tail


def main(argv: Sequence[str]) -> int:
    """Run the command and return the exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.run is None:
        parser.print_help()
        return 2
    try:
        arguments.run(arguments)
    except CommandError as error:
        print(f"flow: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # `flow packages | head`
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="flow", description="Use this session's flow and packages.", epilog=EPILOG)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    parser.set_defaults(run=None)
    test = commands.add_parser("test", help="run the flow once and print its outputs as JSON")
    test.add_argument("--inputs", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="the flow's inputs")
    test.add_argument("--node", default="", metavar="NAME", help="run this node alone; the inputs are the node's, by its names for them")
    test.add_argument("--variant", default="", metavar="NODE.VARIANT", help="run with this variant of a node, also written ${NODE.VARIANT}")
    test.add_argument("--traceback", action="store_true", help="after a failure, print the traceback and the rest of what the flow wrote")
    test.set_defaults(run=_test)
    check = commands.add_parser("check", help="tell what is wrong with the flow as it is now, without running it")
    check.add_argument("--json", action="store_true", help="print what was found as JSON")
    check.set_defaults(run=_check)
    status = commands.add_parser("status", help="tell what is installed, what is under way and since when the session is idle")
    status.add_argument("--json", action="store_true", help="print all that the agent knows")
    status.set_defaults(run=_status)
    packages = commands.add_parser("packages", help="list the installed packages, and which of them the requirements brought")
    packages.add_argument("--json", action="store_true", help="print the list as JSON")
    packages.set_defaults(run=_packages)
    edits = commands.add_parser("edits", help="list the files of the flow folder that were changed here, and where saved edits stand")
    edits.add_argument("--diff", action="store_true", help="show what was changed, and what `flow restore` would change")
    edits.add_argument("--discard", action="store_true", help="the present edits need not be saved; the files stay")
    edits.add_argument("--json", action="store_true", help="print what the agent knows of them")
    edits.set_defaults(run=_edits)
    restore = commands.add_parser("restore", help="write the edits that an earlier session saved into the flow folder")
    restore.add_argument("--force", action="store_true", help="also over files edited here, which are kept as NAME.kept")
    restore.set_defaults(run=_restore)
    commands.add_parser("keep-alive", help="count as work now, so that the session is kept").set_defaults(run=_keep_alive)
    return parser


def _test(arguments: argparse.Namespace) -> None:
    inputs = {}
    for given in arguments.inputs:
        name, equals, value = given.partition("=")
        if not equals or not name:
            raise CommandError(f"{given!r} is no input: write NAME=VALUE, e.g. --inputs name=Ada.")
        inputs[name] = value
    try:
        answer = call("POST", "/v1/test", {"inputs": inputs, "node": arguments.node, "variant": _variant(arguments.variant)})
    except CommandError as error:
        if error.code != "FlowFailed":
            raise
        more = f"\n\n{error.tail}" if arguments.traceback and error.tail else ""
        ways = "`flow check` looks for what is wrong with the flow"
        ways = ways if more or not error.tail else f"`flow test --traceback` shows all that it wrote, {ways}"
        raise CommandError(f"{error}\n{ways}.{more}") from None
    print(json.dumps(answer["outputs"], indent=2, ensure_ascii=False))


def _variant(word: str) -> str:
    """The variant as prompt flow writes it."""
    return word if not word or word.startswith("${") else f"${{{word}}}"


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
    packages = call("GET", "/v1/packages")["packages"]
    if arguments.json:
        print(json.dumps(packages, indent=2))
        return
    width = max((len(package["name"]) for package in packages), default=0)
    for package in packages:
        replaces = f", replaces {package['replaces']} of the image" if "replaces" in package else ""
        print(f"{package['name']:<{width}}  {package['version']:<16} {package['layer']}{replaces}")


def _edits(arguments: argparse.Namespace) -> None:
    if arguments.diff:
        from flowsession_agent.edits import diff
        from flowsession_agent.settings import Home

        for line in diff.lines(Home(os.path.dirname(_socket_path()))):
            print(line.encode(errors="backslashreplace").decode())
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


def _keep_alive(_: argparse.Namespace) -> None:
    call("POST", "/v1/keepalive")
    print("The session counts as used now.")


def call(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The agent's answer; raises CommandError with its reason, or when no agent answers."""
    content = json.dumps(body).encode() if body is not None else b""
    request = f"{method} {path} HTTP/1.1\r\nHost: agent\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode() + content
    where = _socket_path()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(where)
            connection.sendall(request)
            received = b"".join(iter(lambda: connection.recv(65536), b""))
    except OSError as error:
        raise CommandError(f"this pod has no running flowsession agent at {where} ({error.strerror or error}).") from None
    head, _, answer = received.partition(b"\r\n\r\n")
    try:
        status, members = int(head.split(b" ", 2)[1]), json.loads(answer)
    except (ValueError, IndexError):
        raise CommandError(f"the agent at {where} ended before it answered.") from None
    if status != 200:
        message, code, tail = (str(members.get(name) or "") for name in ("message", "code", "stderrTail"))
        raise CommandError(message or f"the agent answered {status}.", code=code, tail=tail.strip())
    found: dict[str, Any] = members
    return found


def _socket_path() -> str:
    home = os.environ.get(variables.HOME)
    return os.path.join(home or USUAL_HOME, "agent.sock")
