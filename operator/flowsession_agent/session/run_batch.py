"""Runs in the session's Python, not in the agent's: the flow over a file of data, by prompt flow's own SDK.

`run_batch ORDER FOLDER`: the order as JSON, and the folder that gets `progress.json` while lines are run and `result.json` at the end.
Prompt flow keeps the run in the order's folder `outputs`.
"""

from __future__ import annotations

import codecs
import gc
import json
import os
import re
import sys
import threading

from flowsession_agent.session import batch_engine, flow_inputs, fork_ahead, traces
from flowsession_agent.session.run_outputs import DATA, OUTPUTS, RECORDS, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOOK_SECONDS = 0.5
MOST_ERRORS = 10
LONGEST = 500
NO_OBJECT = 'line {} of {} is no object: write the columns by name, as in {{"question": ...}}'
FIRST_ERROR = "First error message is: "
NO_DATA = "Couldn't find any inputs data"
NO_RELATION = "Couldn't find these mapping relations: "
_REFERENCE = re.compile(r"\$\{(data|run\.outputs)\.([^{}]+)\}")
NO_LINES = (NO_DATA, "The input for batch run is incorrect")
"""How prompt flow begins its message about data, or a mapping of it, that gives no lines to run. Its record has only the message."""


def main() -> None:
    """Run the flow over the data and write the result."""
    order_file, folder = sys.argv[1:]
    with open(order_file, encoding="utf-8") as file:
        order = json.load(file)
    if "concurrency" in order:
        os.environ["PF_WORKER_COUNT"] = str(order["concurrency"])
    else:
        os.environ.setdefault("PF_WORKER_COUNT", str(order["processors"]))
    if "lineSeconds" in order:
        os.environ["PF_LINE_TIMEOUT_SEC"] = str(order["lineSeconds"])
    traces.prepare()
    if "promptflow" not in sys.modules:  # else it was imported without them, which the process for the lines must not be
        os.environ.update({name: value for name, value in order.get("environmentVariables", {}).items() if "${" not in value})
    gc.disable()  # as in run_flow: it makes the import a fifth faster
    try:
        import promptflow.client  # type: ignore[import-not-found,unused-ignore] # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "promptflow":
            raise
        missing = "prompt flow is not installed in the session: use the default image, or put `promptflow` into the requirements"
        write(os.path.join(folder, "result.json"), {"code": "FlowInvalid", "message": missing})
        return
    gc.freeze()
    fork_ahead.fork_for_next_spawn()
    batch_engine.poll_sooner()
    gc.enable()
    with traces.sent(folder, run=order["name"].removesuffix(f"-{order['id'][:8]}")):
        write(os.path.join(folder, "result.json"), run(order, folder))


def run(order: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return the run's result: `lines`, `errors`, `tokens` and `metrics`, with `code` and `message` if it failed, or `canceled`."""
    from promptflow.client import PFClient

    data, earlier = order.get("data"), order.get("earlier")
    outputs = os.path.join(earlier["folder"], OUTPUTS) if earlier else ""
    try:
        total = min(count_lines(file) for file in (data, outputs) if file)
    except Exception as error:
        if not data and earlier:
            return {"code": "DataInvalid", "message": f"run {earlier['name']} has no outputs that can be read: {error}"[:LONGEST]}
        return {"code": "DataInvalid", "message": unreadable(str(data), str(order.get("shown")), error)}
    if data and (lacking := _no_columns(data, str(order.get("shown")))):
        return {"code": "DataInvalid", "message": lacking}
    if order.get("variant") and (unknown := flow_inputs.refusal(order["file"], [], variant=order["variant"])):
        return {"code": "FlowInvalid", "message": unknown["message"].rstrip(".")[:LONGEST]}
    kept = os.path.join(order["outputs"], order["name"])
    warnings = _no_inputs(order)
    progress = Progress(os.path.join(kept, RECORDS), os.path.join(folder, "progress.json"), total, warnings)
    problem: dict[str, Any] = {}
    tokens: dict[str, int] = {}
    environ = dict(os.environ)  # a copy, since prompt flow sets its own variables
    keep_data(data, kept)
    progress.start()
    stopped = batch_engine.stop_at_interrupt()
    batch_engine.complete_records()
    batch_engine.await_next_process()
    try:
        client = PFClient(config={"run.output_path": order["outputs"]})
        done = submit(client, order)
        tokens = tokens_of(done)
        problem = {"canceled": True} if stopped.is_set() else {}
    except KeyboardInterrupt:
        problem = {"canceled": True}
    except Exception as error:  # whatever prompt flow, or the flow's own code, raises before lines are run
        problem = {"code": "FlowInvalid", "message": (_no_connection(error, environ) or f"{type(error).__name__}: {error}")[:LONGEST]}
    finally:
        progress.stop()
    known = read(os.path.join(kept, "error.json"))
    if not problem and not progress.seen and known:
        message = _words(known).replace(FIRST_ERROR, "", 1)
        problem = {"code": "DataInvalid" if message.startswith(NO_LINES) else "FlowInvalid", "message": message}
        if message.startswith(NO_DATA) and data and not total:
            problem["message"] = f"{order.get('shown')} has no lines: a run needs one at least"
        elif unknown_columns := _unknown_columns(message, order):
            problem["message"] = unknown_columns
    errors = progress.errors()
    failed_nodes = _failed_aggregations(known)
    if progress.seen and problem.get("code") == "FlowInvalid":  # the flow was loaded, and lines were run
        problem = _ended_early(progress, problem["message"])
    elif not problem and progress.seen:
        problem = _verdict(progress, failed_nodes)
    metrics = read(os.path.join(kept, "metrics.json"))
    return {
        **problem,
        "lines": progress.lines(),
        "errors": [*errors, *failed_nodes][:MOST_ERRORS],
        "tokens": tokens,
        "metrics": {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in metrics.items()},
    }


def submit(client: Any, order: dict[str, Any]) -> Any:
    """Return prompt flow's run when it is done. Raises what prompt flow raises."""
    earlier, before = order.get("earlier"), order.get("resume")
    settings = {
        "flow": order["flow"],
        "data": order.get("data"),
        "run": known_run(client, earlier, order["flow"]) if earlier else None,
        "column_mapping": order["columnMapping"] or None,
        "variant": order.get("variant"),
        "environment_variables": order.get("environmentVariables") or environment_of(order.get("environmentFile")),
        "connections": order.get("connections"),
        "init": order.get("init") or arguments_of(order.get("initFile")),
        "display_name": order.get("displayName"),
        "tags": order.get("tags"),
        "name": order["name"],
    }
    forget(client, order["name"])  # an earlier container may have begun it
    if before is None:
        return client.run(**settings)
    # `pf run create --resume-from` takes all settings from the earlier run's entry in the store. These repeat the same settings.
    from promptflow.entities import Run  # type: ignore[import-not-found,unused-ignore]

    resumed = known_run(client, before, order["flow"])
    return client.runs.create_or_update(Run(**settings, resume_from=resumed, config=client._config))


def environment_of(file: str | None) -> dict[str, str] | None:
    """Return the variables in a file that run.yml names. Values may be `${connection.key}`, as in run.yml itself."""
    if file is None:
        return None
    from dotenv import dotenv_values  # type: ignore[import-not-found,unused-ignore]

    if not os.path.isfile(file):  # dotenv takes a missing file for an empty one
        raise FileNotFoundError(f"environment_variables names {file}, and there is no such file in the flow folder")
    return {name: value or "" for name, value in dotenv_values(file).items()}


def arguments_of(file: str | None) -> Any:
    """Return the arguments for a flex flow's class from a file that run.yml names."""
    if file is None:
        return None
    from promptflow._sdk._utilities.general_utils import load_input_data  # type: ignore[import-not-found,unused-ignore]

    return load_input_data(file)


def known_run(client: Any, earlier: dict[str, str], flow: str) -> str:
    """Return the earlier run's name, after adding it to prompt flow's store if needed: it may have been run in another session."""
    from promptflow.entities import Run  # type: ignore[import-not-found,unused-ignore]

    name, folder = earlier["name"], earlier["folder"]
    data = next((path for path in (os.path.join(folder, known) for known in DATA) if os.path.exists(path)), None)
    there = in_store(client, name)
    if there is not None and there.status == "Completed" and os.path.exists(os.path.join(str(there._output_path), OUTPUTS)):
        return name
    forget(client, name)
    Run(name=name, flow=flow, data=data, output_path=folder, status="Completed")._dump()
    return name


def in_store(client: Any, name: str) -> Any:
    """Return prompt flow's entry of a run, or None if its store has no run of that name."""
    try:
        return client.runs.get(name)
    except Exception as error:
        if type(error).__name__ != "RunNotFoundError":
            raise
        return None


def forget(client: Any, name: str) -> None:
    """Remove a run from prompt flow's store, not its files."""
    from promptflow._sdk._orm import RunInfo  # type: ignore[import-not-found,unused-ignore]

    if in_store(client, name) is not None:
        RunInfo.delete(name)


def tokens_of(run: Any) -> dict[str, int]:
    """Return the tokens that language models counted in all lines of a run; empty if none did."""
    found = run.properties.get("system_metrics") or {}
    counts = {name: found.get(f"{name}_tokens") for name in ("prompt", "completion", "total")}
    return {name: count for name, count in counts.items() if isinstance(count, int) and counts["total"]}


def keep_data(data: str | None, kept: str) -> None:
    """Copy the data to the folder of the outputs, for a later run over them."""
    import shutil

    name = f"data{os.path.splitext(data)[1]}" if data else ""
    if data and name in DATA:
        try:
            os.makedirs(kept, exist_ok=True)
            shutil.copyfile(data, os.path.join(kept, name))
        except OSError:  # no room, or gone meanwhile
            return


def count_lines(data: str) -> int:
    """Return how many lines prompt flow finds in the data. Raises what it raises for data that it can't read."""
    try:
        from promptflow._utils.load_data import load_df  # type: ignore[import-not-found,unused-ignore]
    except ImportError:  # another version of prompt flow: the total is known at the end
        return 0
    return len(load_df(data))


def unreadable(data: str, shown: str, error: Exception) -> str:
    """Return the sentence about data that can't be read, with the first line that is not JSON if that is the cause."""
    if data.endswith(".jsonl"):
        with open(data, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    return f"line {number} of {shown} begins with a byte order mark, which JSON has not: save it as UTF-8 without one"
                try:
                    found = json.loads(line.decode()) if line.strip() else {}
                except json.JSONDecodeError as problem:
                    return f"line {number} of {shown} is not JSON: {problem.msg} at column {problem.pos + 1}"[:LONGEST]
                except ValueError as problem:
                    return f"line {number} of {shown} is not JSON: {problem}"[:LONGEST]
                if not isinstance(found, dict):
                    return NO_OBJECT.format(number, shown)
    elif (message := _not_utf8(data)) is not None:
        return f"{shown} is not UTF-8: {message}; save it as UTF-8"
    return f"{shown} can't be read: {error}"[:LONGEST]


def _no_columns(data: str, shown: str) -> str:
    """Return the sentence on a JSON lines file's first line that is no object, or empty. Prompt flow would read columns 0, 1, ..."""
    if data.endswith(".jsonl"):
        with open(data, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.lstrip().startswith(b"{") and line.strip():
                    return NO_OBJECT.format(number, shown)
    return ""


def _no_inputs(order: dict[str, Any]) -> list[str]:
    """Return a sentence for each name in the mapping that is no input of the flow. Prompt flow leaves those out."""
    found = []
    for name in order["columnMapping"]:
        if refused := flow_inputs.refusal(order["file"], [name]):
            bare = "; YAML takes a bare n, y, no, yes, off or on for that: put it into quotes" if name in ("true", "false") else ""
            found.append(f"columnMapping: {refused['message'].rstrip('.')}{bare}")
    return found[:MOST_ERRORS]


def _unknown_columns(words: str, order: dict[str, Any]) -> str:
    """Return what the data has instead of the columns that prompt flow's message on a mapping names; empty if it names none."""
    data, earlier = order.get("data"), order.get("earlier") or {}
    sources = {
        "data": (data, f"{order.get('shown')} has no column", "columns"),
        "run.outputs": (os.path.join(earlier.get("folder", ""), OUTPUTS), f"run {earlier.get('name')} has no output", "outputs"),
    }
    found = []
    for source, column in _REFERENCE.findall(words.partition(NO_RELATION)[2]):
        path, has_no, what = sources[source]
        known = _columns(path)
        if known and column not in known:
            found.append(f"columnMapping: {flow_inputs.unknown(f'{has_no} {column!r}', column, known, what).rstrip('.')}")
    return "; ".join(found)[:LONGEST]


def _columns(data: str | None) -> list[str]:
    """Return the columns that prompt flow finds in a file; empty if it is missing or can't be read."""
    try:
        from promptflow._utils.load_data import load_df  # type: ignore[import-not-found,unused-ignore]

        return [str(name) for name in load_df(data).columns if name != "line_number"] if data and os.path.exists(data) else []
    except Exception:  # prompt flow's own message is shown then
        return []


def _not_utf8(data: str) -> str | None:
    """Return which line of a text file is not UTF-8; None if all are."""
    with open(data, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as problem:
                return f"line {number} has the byte {line[problem.start]:#04x}"
    return None


def write(path: str, members: dict[str, Any]) -> None:
    """Write JSON atomically."""
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(members, file)
    os.replace(f"{path}.new", path)


def read(path: str) -> dict[str, Any]:
    """Return the JSON object in a file; empty if it can't be read."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class Progress:
    """Counts the records of lines that prompt flow writes, one file each, and reports to the agent while the run is in progress."""

    def __init__(self, records: str, told: str, total: int, warnings: list[str]) -> None:
        self._records = records
        self._progress_file = told
        self._total = total
        self._warnings = warnings
        self._failed: dict[int, dict[str, Any]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.seen: dict[str, str] = {}
        """State of each line, by its record's file name."""

    def start(self) -> None:
        """Start watching."""
        self._tell()
        self._thread.start()

    def stop(self) -> None:
        """Stop watching, after a last look."""
        self._over.set()
        self._thread.join()
        self._look()

    def lines(self) -> dict[str, int]:
        """Return the counts so far."""
        states = list(self.seen.values())
        completed = states.count("Completed")
        return {"total": max(self._total, len(states)), "completed": completed, "failed": len(states) - completed}

    def errors(self) -> list[dict[str, Any]]:
        """Return the first lines that failed."""
        return [self._failed[line] for line in sorted(self._failed)[:MOST_ERRORS]]

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            if self._look():
                self._tell()

    def _look(self) -> bool:
        """Take in new records. Return whether lines have ended since the last look."""
        known = len(self.seen)
        for name in os.listdir(self._records) if os.path.isdir(self._records) else ():
            if name in self.seen or not name.endswith(".jsonl"):
                continue
            info = record(os.path.join(self._records, name))
            if info.get("status") in ("Completed", "Failed", "Canceled"):
                self.seen[name] = info["status"]
                if info["status"] == "Failed":
                    line = int(name.partition("_")[0])
                    self._failed[line] = {"line": line, **_error(info.get("error"))}
        return len(self.seen) > known

    def _tell(self) -> None:
        write(self._progress_file, {**self.lines(), "warnings": self._warnings})


def _verdict(progress: Progress, failed_nodes: list[dict[str, Any]]) -> dict[str, Any]:
    lines = progress.lines()
    if lines["failed"]:
        first = next(iter(progress.errors()), {"message": "no reason was given", "line": 0})
        message = f"{lines['failed']} of {lines['total']} lines failed; the first is line {first['line']}: {first['message']}"
        return {"code": "LinesFailed", "message": message[:LONGEST]}
    if lines["completed"] < lines["total"]:
        return {"code": "LinesFailed", "message": f"only {lines['completed']} of {lines['total']} lines were run"}
    if failed_nodes:
        return {"code": "AggregationFailed", "message": f"node {failed_nodes[0]['node']}: {failed_nodes[0]['message']}"[:LONGEST]}
    return {}


def _no_connection(error: Exception, environ: dict[str, str]) -> str:
    """Return why prompt flow finds no connection of a name, if a session with these variables knows the reason; else empty."""
    found = re.search(r"Connection '([^']+)' is not found", str(error))
    if found is None or type(error).__name__ != "ConnectionNotFoundError":
        return ""
    from flowsession_agent.check import connections

    return (connections.known(environ).trouble(found[1]) or ("", ""))[1]


def _ended_early(progress: Progress, words: str) -> dict[str, Any]:
    """Return the verdict on a run in which prompt flow itself failed after it had begun with the lines."""
    lines = progress.lines()
    if lines["failed"]:
        found = _verdict(progress, [])
        return {**found, "message": f"{found['message']} (and then prompt flow itself failed: {words})"[:LONGEST]}
    message = f"prompt flow itself failed when {lines['completed']} of {lines['total']} lines were done, which keep their outputs: {words}"
    return {"code": "RunFailed", "message": message[:LONGEST]}


def _failed_aggregations(error: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for more in error.get("additionalInfo") or ():
        for one in (more.get("info") or {}).get("errors") or ():
            if one.get("aggregation_node_name"):
                found.append({"node": str(one["aggregation_node_name"]), "message": _words(one.get("error") or {})})
    return found


def _error(error: object) -> dict[str, Any]:
    found = error if isinstance(error, dict) else {}
    node = (found.get("messageParameters") or {}).get("node_name")
    return {"message": _words(found), **({"node": str(node)} if node else {})}


def _words(error: dict[str, Any]) -> str:
    return " ".join(str(error.get("message") or "no reason was given").split())[:LONGEST]
