"""Server for test_check.py, run by a base's Python. Forks a process for each check and for each run by prompt flow itself, so that the
imports, which take seconds, are done once. Reads and writes lines of JSON."""

import contextlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

SECONDS = 20
TRIES = 4
"""Processes tried for one order. Prompt flow reads the entry of a flex flow through multiprocessing's Manager, a fork: if a thread has just
locked OpenSSL's table of digests, the Manager waits for that lock forever."""


def check(order: dict[str, Any]) -> dict[str, Any]:
    """Return what both parts of the agent's check find."""
    from flowsession_agent.check import imports, static

    folder, file, scratch = order["folder"], order["file"], order["scratch"]
    read, imported = f"{scratch}/read.json", f"{scratch}/imported.json"
    os.chdir(folder)
    sys.argv = ["static", folder, file, read]
    static.main()
    found: dict[str, Any] = json.loads(Path(read).read_text())
    early = {"problems": found["problems"], "unchecked": found["unchecked"]}
    if found["work"] is not None:
        sys.argv = ["imports", folder, read, imported]
        child = os.fork()
        if child == 0:
            imports.main()
        os.waitpid(child, 0)
        found = json.loads(Path(imported).read_text())
    found.pop("work", None)
    return {**found, "early": early}


def run(order: dict[str, Any]) -> dict[str, Any]:
    """Return whether prompt flow runs the flow as `flow test` does, or with `load` whether its executor loads it, and the error."""
    os.chdir(order["folder"])
    try:
        if order["file"].endswith(".prompty"):
            without_services()
        if order.get("load"):
            load(order)
        else:
            from flowsession_agent.session.run_flow import run as run_flow

            run_flow(f"{order['folder']}/{order['file']}", order["inputs"])
    except BaseException as error:
        causes = []
        cause: BaseException | None = error
        while cause is not None:
            causes.append(f"{type(cause).__name__}: {cause}")
            cause = cause.__cause__
        return {"ran": False, "error": " <- ".join(causes)[:3000], "trace": traceback.format_exc()[-1500:]}
    return {"ran": True, "error": ""}


def without_services() -> None:
    """Answer a prompty's request to the model here, and give prompt flow the tests' connections."""
    from promptflow.core import _flow, _prompty_utils

    types = {"aoai": "AzureOpenAI", "serp": "Serp", "own": "Custom"}

    def asked(client: Any, _: str, parameters: dict[str, Any], *__: Any) -> None:
        assert "${env:" not in f"{client.api_key} {client.base_url} {parameters['model']}", "no service takes that"

    _prompty_utils.get_connection_by_name = lambda name: ({"api_key": "k", "api_base": "https://a.example/"}, types[name])
    _flow.send_request_to_llm = asked
    _flow.format_llm_response = lambda **_: "answer"


def outputs(order: dict[str, Any]) -> dict[str, Any]:
    """Return the outputs as `pf flow test` prints them, and as `flow test` does."""
    from promptflow.client import PFClient

    from flowsession_agent.session import run_flow

    os.chdir(order["folder"])
    path = f"{order['folder']}/{order['file']}"
    result = PFClient().flows.test(
        flow=path, inputs=order["inputs"], allow_generator_output=False, stream_output=False, dump_test_result=True
    )
    printed = json.dumps(result, indent=4, ensure_ascii=False) if isinstance(result, dict) else str(result)  # as promptflow's _pf/_flow.py
    return {"printed": printed, "ours": json.dumps(run_flow.run(path, order["inputs"]), default=run_flow._plain)}


def load(order: dict[str, Any]) -> None:
    from promptflow.client import load_flow
    from promptflow.connections import AzureOpenAIConnection, CustomConnection, SerpConnection
    from promptflow.core._connection_provider._connection_provider import ConnectionProvider
    from promptflow.executor import FlowExecutor

    if order["file"].endswith(".prompty"):
        load_flow(f"{order['folder']}/{order['file']}")
        return
    known = {
        "aoai": AzureOpenAIConnection(api_key="k", api_base="https://a.example/", api_version="2024-02-01"),
        "serp": SerpConnection(api_key="k"),
        "own": CustomConnection(secrets={"k": "v"}),
    }

    class Provider(ConnectionProvider):
        def get(self, name: str, **_: Any) -> Any:
            return known[name] if isinstance(name, str) else name

        def list(self, **_: Any) -> list[Any]:
            return list(known.values())

    FlowExecutor.create(Path(order["file"]), connections=Provider(), working_dir=Path(order["folder"]))


def fork(order: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of a new process. Tries TRIES processes."""
    for _ in range(TRIES):
        answered = once(order)
        if answered is not None:
            return answered
    return {"failed": "no process ended with an answer"}


def once(order: dict[str, Any]) -> dict[str, Any] | None:
    """Return the answer, or None if the process hung or was killed."""
    answer = f"{order['scratch']}/answer.json"
    Path(answer).unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        signal.alarm(SECONDS)
        sink = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(sink, number)
        done: dict[str, Any] = {"failed": "nothing came"}
        try:
            done = {"run": run, "outputs": outputs, "check": check}[order["what"]](order)
        except BaseException:
            done = {"failed": traceback.format_exc()}
        finally:
            Path(answer).write_text(json.dumps(done))
            os._exit(0)
    os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # a Manager that hangs
    try:
        answered: dict[str, Any] = json.loads(Path(answer).read_text())
    except OSError:
        return None
    return answered


def main() -> None:
    with contextlib.suppress(ImportError):
        from promptflow.tools import aoai, openai, template_rendering  # noqa: F401
    for line in sys.stdin:
        print(json.dumps(fork(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
