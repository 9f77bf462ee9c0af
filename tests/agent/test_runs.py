"""Runs over data in the session: counts, outputs, metrics, failures, order and cancel. Prompt flow runs them, and is the oracle too."""

import base64
import codecs
import http.client
import io
import itertools
import json
import os
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from . import support
from .support import Agent, Operator, eventually

DAG = b"""\
inputs:
  text: {type: string}
outputs:
  answer: {type: string, reference: "${shout.output}"}
nodes:
- name: shout
  type: python
  source: {type: code, path: shout.py}
  inputs: {text: "${inputs.text}"}
- name: count
  type: python
  aggregation: true
  source: {type: code, path: count.py}
  inputs: {answers: "${shout.output}"}
"""
SHOUT = b"""\
import os, time
from promptflow.core import tool

@tool
def run(text: str) -> str:
    if text == "bad":
        raise ValueError("a bad word")
    if text == "wait":
        while not os.path.exists("/tmp/" + os.environ["FLOWSESSION_POD_UID"] + "-go"):
            time.sleep(0.05)
    if text.startswith("nap"):
        time.sleep(0.5)
    return text.upper()
"""
COUNT = b"""\
from promptflow.core import log_metric, tool

@tool
def run(answers: list) -> int:
    if "QUIET" in answers:
        raise RuntimeError("too quiet")
    log_metric("answers", len(answers))
    return len(answers)
"""
FLOW = {"flow.dag.yaml": DAG, "shout.py": SHOUT, "count.py": COUNT}
MAPPING = {"text": "${data.word}"}
_NUMBERS = itertools.count(1)


def data(*words: str) -> bytes:
    return "".join(json.dumps({"word": word}) + "\n" for word in words).encode()


def order(agent: Agent, run_id: str = "r-1", **members: Any) -> tuple[int, dict[str, Any]]:
    return agent.call(
        "PUT", "/v1/runs", {"id": run_id, "name": f"answers-{run_id}", "data": "data.jsonl", "columnMapping": MAPPING, **members}
    )


def told(agent: Agent, run_id: str = "r-1", *, since: int = 0, wait: int = 0) -> dict[str, Any]:
    return agent.call("GET", f"/v1/runs?id={run_id}&since={since}&wait={wait}")[1]


def over(agent: Agent, run_id: str = "r-1", counts: list[dict[str, int]] | None = None) -> dict[str, Any]:
    """Wait for the run's end with long polls, and return its last state. Counts must never decrease. They are added to `counts`."""
    found: dict[str, Any] = {"state": "Running", "version": 0, "lines": {}}
    while found["state"] == "Running":
        before, found = found["lines"], told(agent, run_id, since=found["version"], wait=30)
        assert all(found["lines"][name] >= count for name, count in before.items())
        if counts is not None:
            counts.append(found["lines"])
    return found


def outputs(agent: Agent, run_id: str = "r-1") -> dict[str, bytes]:
    status, answer = agent.call("GET", f"/v1/runs/outputs?id={run_id}")
    assert status == 200, answer
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(answer["archive"]))) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def lines(text: bytes) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def session(start: Callable[..., Agent], flow_base: str) -> Iterator[Callable[..., Agent]]:
    """Starts a session with prompt flow, FLOW and the given data. Its home's path is short as in a pod, since Unix sockets are below it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:

        def begin(content: bytes = b"", files: Mapping[str, bytes] = FLOW, **more: Any) -> Agent:
            agent = start(python=flow_base, **{"FLOWSESSION_HOME": f"{folder}/session", **more})
            push(agent, content, files)
            return agent

        yield begin


@pytest.fixture(scope="module")
def used(operator: Operator, flow_base: str) -> Iterator[Agent]:
    """The session in which tests that need none of their own run one flow after another, as people do: it imports prompt flow once."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        agent = support.start(Path(folder), python=flow_base, operator=operator)
        yield agent
        agent.close()


@pytest.fixture
def run() -> str:
    """The id of a run that no test has ordered before."""
    return f"r-{next(_NUMBERS)}"


def push(agent: Agent, content: bytes = b"", files: Mapping[str, bytes] = FLOW) -> None:
    """Push a flow and its data in place of what was there."""
    assert agent.put("p1", f"f{next(_NUMBERS)}", files={**files, "data.jsonl": content})[0] == 200


def run_by_prompt_flow(folder: Path, python: str, content: bytes) -> tuple[list[Any], dict[str, Any]]:
    """Return the outputs and metrics of FLOW and the data, as run by `pf run create` with the same mapping."""
    for name, text in {**FLOW, "data.jsonl": content}.items():
        (folder / name).write_bytes(text)
    (folder / "pf").mkdir()
    (folder / "pf" / "pf.yaml").write_text("telemetry:\n  enabled: false\ntrace:\n  destination: none\n")
    command = [python, "-m", "promptflow._cli.pf", "run", "create", "--flow", ".", "--data", "data.jsonl", "--name", "oracle"]
    environment = {**os.environ, "PF_HOME_DIRECTORY": str(folder / "pf"), "HOME": str(folder)}
    done = subprocess.run(
        [*command, "--column-mapping", "text=${data.word}"], cwd=folder, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = folder / "pf" / ".runs" / "oracle"
    return lines((run / "flow_outputs" / "output.jsonl").read_bytes()), json.loads((run / "metrics.json").read_text())


def test_a_run_gives_what_prompt_flow_gives(session: Callable[..., Agent], tmp_path: Path, flow_base: str) -> None:
    content = data("a", "b", "bad", "c", "bad")
    agent = session(content)
    status, begun = order(agent)
    assert (status, begun["state"], begun["id"]) == (200, "Running", "r-1")
    assert agent.state()["activity"] == {"busy": True, "idleSeconds": 0, "what": "run answers-r-1"}
    end = over(agent)
    assert (end["state"], end["code"], end["lines"]) == ("Failed", "LinesFailed", {"total": 5, "completed": 3, "failed": 2})
    assert "2 of 5 lines failed; the first is line 2" in end["message"]
    assert [(error["line"], error["node"]) for error in end["errors"]] == [(2, "shout"), (4, "shout")]
    assert "a bad word" in end["errors"][0]["message"]
    assert "a bad word" in end["logTail"]
    kept = outputs(agent)
    (tmp_path / "oracle").mkdir()
    wanted, metrics = run_by_prompt_flow(tmp_path / "oracle", flow_base, content)
    assert lines(kept["flow_outputs/output.jsonl"]) == wanted
    assert json.loads(kept["metrics.json"]) == metrics == {"answers": 3}
    assert end["metrics"] == {"answers": "3"}
    assert agent.state()["edits"]["files"] == ["~/.promptflow/pf.sqlite"], "nothing is left in the flow folder"
    assert not agent.state()["activity"]["busy"]


def test_counts_are_told_while_it_goes_on_and_a_second_run_waits(session: Callable[..., Agent]) -> None:
    agent = session(data("a", "wait", "b"))
    order(agent)
    counts = eventually(
        "two lines are done", lambda: (found := told(agent)["lines"]) == {"total": 3, "completed": 2, "failed": 0} and found
    )
    assert counts
    assert order(agent)[1]["state"] == "Running", "the same order begins nothing"
    status, refused = order(agent, "r-2")
    assert (status, refused["code"]) == (409, "RunInProgress")
    assert agent.call("POST", "/v1/retire", {"idleAtLeast": 0})[0] == 409, "a run is work"
    assert agent.call("GET", "/v1/runs/outputs?id=r-1")[0] == 409
    status, _ = agent.call("DELETE", "/v1/runs?id=r-1")
    assert status == 200
    end = over(agent)
    assert (end["state"], end["lines"]) == ("Canceled", {"total": 3, "completed": 2, "failed": 0})
    assert order(agent, "r-2")[0] == 200, "now it may begin"
    agent.call("DELETE", "/v1/runs?id=r-2")
    over(agent, "r-2")


@pytest.mark.parametrize(
    ("content", "members", "code", "says"),
    [
        (b"", {"data": "no.jsonl"}, "DataNotFound", "there is no no.jsonl in the flow folder"),
        (b"", {}, "DataInvalid", "data.jsonl has no lines: a run needs one at least"),
        (b"\n\n", {}, "DataInvalid", "data.jsonl has no lines"),
        (data("a") + b'{"word": oops\n', {}, "DataInvalid", "line 2 of data.jsonl is not JSON: Expecting value at column 10"),
        (data("a") + b'\n"b"\n', {}, "DataInvalid", "line 3 of data.jsonl is no object: write the columns by name"),
        (codecs.BOM_UTF8 + data("a"), {}, "DataInvalid", "line 1 of data.jsonl begins with a byte order mark"),
        (data("a"), {"columnMapping": {"text": "${data.wrod}"}}, "DataInvalid", "data.jsonl has no column 'wrod': is 'word' meant? Its"),
        (data("a"), {"columnMapping": {"text": "fixed"}}, "FlowInvalid", "at least one mapping binding"),
        (data("quiet"), {}, "AggregationFailed", "too quiet"),
    ],
    ids=["no file", "empty", "empty lines", "not JSON", "no object", "byte order mark", "no such column", "constant", "aggregation"],
)
def test_what_is_wrong_is_said(used: Agent, run: str, content: bytes, members: dict[str, Any], code: str, says: str) -> None:
    push(used, content)
    order(used, run, **members)
    end = over(used, run)
    assert (end["state"], end["code"]) == ("Failed", code), end
    assert says in end["message"], end
    if code == "DataNotFound":
        status, refused = used.call("GET", f"/v1/runs/outputs?id={run}")
        assert (status, refused["code"]) == (404, "NoOutputs"), "there is nothing to keep"


def test_a_table_of_nothing_but_its_header_has_no_lines(used: Agent, run: str) -> None:
    push(used, files={**FLOW, "words.csv": b"word,more\n"})
    order(used, run, data="words.csv")
    assert over(used, run)["message"] == "words.csv has no lines: a run needs one at least"


def test_a_mapping_of_what_is_no_input_is_a_warning(used: Agent, run: str) -> None:
    push(used, data("a"))
    order(used, run, columnMapping={**MAPPING, "txet": "${data.word}", "false": "x"})
    end = over(used, run)
    assert (end["state"], len(end["warnings"])) == ("Completed", 2)
    assert end["warnings"][0] == "columnMapping: The flow has no input 'txet': is 'text' meant? Its inputs are text"
    assert end["warnings"][1].endswith("YAML takes a bare n, y, no, yes, off or on for that: put it into quotes")


def test_a_line_whose_inputs_are_refused_costs_the_others_nothing(used: Agent, run: str) -> None:
    shout = b"from promptflow.core import tool\n\n@tool\ndef run(text: int) -> str:\n    return str(text)\n"
    push(
        used, data("1", "2", "x"), {**FLOW, "flow.dag.yaml": DAG.replace(b"text: {type: string}", b"text: {type: int}"), "shout.py": shout}
    )
    order(used, run)
    end = over(used, run)
    assert (end["code"], [error["line"] for error in end["errors"]]) == ("LinesFailed", [2]), end
    assert "does not match the expected type 'int'" in end["message"]
    assert end["metrics"] == {"answers": "2"}
    kept = outputs(used, run)
    assert [line["answer"] for line in lines(kept["flow_outputs/output.jsonl"])] == ["1", "2"]
    assert [line["line_number"] for line in lines(kept["inputs.jsonl"])] == [0, 1, 2]


def with_tool(before: bytes) -> dict[str, bytes]:
    """Return FLOW with these lines at the beginning of its tool."""
    return {**FLOW, "shout.py": SHOUT.replace(b"    if text == ", before + b"    if text == ", 1)}


@pytest.mark.parametrize("end", [b"raise SystemExit(3)", b"os._exit(3)"])
def test_a_tool_that_ends_its_process_costs_its_line_alone(used: Agent, run: str, end: bytes) -> None:
    push(used, data("a", "leave", "b", "c"), with_tool(b"    if text == 'leave':\n        " + end + b"\n"))
    order(used, run, concurrency=1)
    told = over(used, run)
    assert (told["code"], told["lines"], told["metrics"]) == ("LinesFailed", {"total": 4, "completed": 3, "failed": 1}, {"answers": "3"})
    assert "the first is line 1: its process ended in the middle of it: a tool, or native code that it calls, ended it" in told["message"]
    assert [line["answer"] for line in lines(outputs(used, run)["flow_outputs/output.jsonl"])] == ["A", "B", "C"]


def test_where_prompt_flow_itself_fails_among_the_lines_no_flow_is_blamed(used: Agent, run: str) -> None:
    """It fails here because a file has replaced the folder for its records of a node."""
    spoil = b"""\
    if text == "spoil":
        import glob, shutil
        for folder in glob.glob(os.environ["FLOWSESSION_HOME"] + "/runs/*/out/*/node_artifacts/shout"):
            shutil.rmtree(folder)
            open(folder, "w").close()
"""
    push(used, data("a", "b", "spoil"), with_tool(spoil))
    order(used, run, concurrency=1)
    end = over(used, run)
    assert end["code"] == "RunFailed", end
    assert "prompt flow itself failed when 2 of 3 lines were done, which keep their outputs: " in end["message"]
    assert [line["answer"] for line in lines(outputs(used, run)["flow_outputs/output.jsonl"])] == ["A", "B"]


def test_outputs_that_are_too_large_stay_in_the_session(used: Agent, run: str) -> None:
    noise = SHOUT.replace(b"text.upper()", b"__import__('base64').b64encode(os.urandom(1_200_000)).decode()")
    push(used, data("a"), {**FLOW, "shout.py": noise})
    order(used, run)
    assert over(used, run)["state"] == "Completed"
    status, refused = used.call("GET", f"/v1/runs/outputs?id={run}")
    assert (status, refused["code"]) == (413, "TooLarge")
    assert "at most 1,000,000 can be kept" in refused["message"]
    folder = refused["message"].partition("in the session, in ")[2].partition(",")[0]
    assert (Path(folder) / "flow_outputs" / "output.jsonl").stat().st_size > 1_000_000


def test_an_agent_that_starts_anew_knows_that_a_run_was_lost(
    session: Callable[..., Agent], start: Callable[..., Agent], flow_base: str
) -> None:
    agent = session(data("wait"))
    order(agent)
    agent.close()
    again = start(python=flow_base, FLOWSESSION_HOME=str(agent.home))
    assert order(again)[1]["state"] == told(again)["state"] == "Lost"
    assert again.call("GET", "/v1/runs?id=r-9")[1]["code"] == "NoRun"


EVAL = b"""\
inputs:
  answer: {type: string}
  truth: {type: string}
  asked: {type: string}
outputs:
  grade: {type: string, reference: "${grade.output}"}
nodes:
- name: grade
  type: python
  source: {type: code, path: grade.py}
  inputs: {answer: "${inputs.answer}", truth: "${inputs.truth}", asked: "${inputs.asked}"}
- name: accuracy
  type: python
  aggregation: true
  source: {type: code, path: accuracy.py}
  inputs: {grades: "${grade.output}"}
"""
EVALUATION = {
    "flow.dag.yaml": EVAL,
    "grade.py": b"from promptflow.core import tool\n@tool\ndef run(answer: str, truth: str, asked: str) -> str:\n"
    b"    return f'{asked} ' + ('right' if answer == truth else 'wrong')\n",
    "accuracy.py": b"from promptflow.core import log_metric, tool\n@tool\ndef run(grades: list):\n"
    b"    log_metric('accuracy', sum(g.endswith('right') for g in grades) / len(grades))\n",
}


def test_an_earlier_run_is_evaluated_in_another_session(session: Callable[..., Agent]) -> None:
    first = session(data("a", "bad", "c"))
    order(first, displayName="three words", tags={"kind": "test"}, concurrency=2)
    assert over(first)["lines"] == {"total": 3, "completed": 2, "failed": 1}
    kept = first.call("GET", "/v1/runs/outputs?id=r-1")[1]["archive"]
    first.close()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        second = session(b"", EVALUATION, FLOWSESSION_HOME=f"{folder}/session")
        truth = b"".join(json.dumps({"truth": word}).encode() + b"\n" for word in ("A", "B", "X"))
        mapping = {"answer": "${run.outputs.answer}", "asked": "${run.inputs.word}", "truth": "${data.truth}"}
        sent = {"earlier": {"name": "answers-0", "archive": kept}, "columnMapping": mapping}
        status, refused = order(second, data=None, dataFile={"name": "truth.jsonl", "content": base64.b64encode(truth).decode()}, **sent)
        assert status == 200, refused
        end = over(second)
        assert (end["state"], end["metrics"]) == ("Completed", {"accuracy": "0.5"}), end
        assert [line["grade"] for line in lines(outputs(second)["flow_outputs/output.jsonl"])] == ["a right", "c wrong"]
        order(second, "r-2", data=None, **{**sent, "columnMapping": {**mapping, "truth": "A"}})
        assert over(second, "r-2")["metrics"] == {"accuracy": "0.5"}
        order(second, "r-3", data=None, **{**sent, "columnMapping": {**mapping, "answer": "${run.outputs.anwser}"}})
        wrong = over(second, "r-3")
        assert wrong["code"] == "DataInvalid", wrong
        assert wrong["message"].endswith("run answers-0 has no output 'anwser': is 'answer' meant? Its outputs are answer"), wrong
        order(second, "r-4", data=None, earlier={"name": "x", "archive": base64.b64encode(b"junk").decode()})
        assert (found := over(second, "r-4"))["code"] == "DataInvalid", found
        assert "create that run again" in found["message"]


ALL_THREE = {"total": 3, "completed": 3, "failed": 0}


def once(tmp_path: Path) -> dict[str, bytes]:
    """Return a flow that records each word it processes, and at `wait` waits until `go` exists."""
    code = SHOUT.replace(b'    if text == "bad"', f"    open('{tmp_path}/seen', 'a').write(text + ' ')\n    if text == \"bad\"".encode())
    return {**FLOW, "shout.py": code.replace(b'"/tmp/" + os.environ["FLOWSESSION_POD_UID"] + "-go"', f'"{tmp_path}/go"'.encode())}


def test_a_run_goes_on_in_the_next_container_without_the_lines_that_were_done(
    session: Callable[..., Agent], start: Callable[..., Agent], flow_base: str, tmp_path: Path
) -> None:
    agent = session(data("a", "wait", "b"), once(tmp_path))
    order(agent, concurrency=3)
    eventually("two lines are done", lambda: told(agent)["lines"]["completed"] == 2)
    agent.crash()
    (tmp_path / "go").touch()
    next_one = start(python=flow_base, FLOWSESSION_HOME=str(agent.home))
    assert order(next_one)[1]["state"] == "Lost"
    assert order(next_one, again=True)[1]["state"] == "Running"
    end = over(next_one)
    assert (end["state"], end["lines"], end["metrics"]) == ("Completed", ALL_THREE, {"answers": "3"}), end["message"] + end["logTail"]
    assert [line["answer"] for line in lines(outputs(next_one)["flow_outputs/output.jsonl"])] == ["A", "WAIT", "B"]
    assert sorted((tmp_path / "seen").read_text().split()) == ["a", "b", "wait", "wait"]
    next_one.close()
    third = start(python=flow_base, FLOWSESSION_HOME=str(agent.home))
    assert order(third, again=True)[1]["state"] == "Lost", "it goes on once"


def test_outputs_on_a_claim_outlive_the_pod_and_the_run_goes_on_from_them(
    session: Callable[..., Agent], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    claims = tmp_path_factory.mktemp("claims")
    (claims / "questions").mkdir()
    (claims / "results").mkdir()
    (claims / "questions" / "q.jsonl").write_bytes(data("a", "wait", "b"))
    wanted = {"data": None, "dataClaim": {"claim": "questions", "path": "q.jsonl"}, "outputsClaim": {"claim": "results", "path": "runs"}}
    agent = session(files=once(tmp_path), FLOWSESSION_CLAIMS=str(claims))
    order(agent, "r-2", **{**wanted, "dataClaim": {"claim": "questions", "path": "none.jsonl"}})
    assert (found := over(agent, "r-2"))["message"].startswith("there is no none.jsonl on claim questions: correct"), found
    order(agent, "r-3", **{**wanted, "outputsClaim": {"claim": "reslts", "path": ""}})
    assert "does not mount the claim 'reslts': add it to spec.claims" in over(agent, "r-3")["message"]
    order(agent, concurrency=3, **wanted)
    eventually("two lines are done", lambda: told(agent)["lines"]["completed"] == 2)
    agent.crash()
    (tmp_path / "go").touch()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        next_pod = session(files=once(tmp_path), FLOWSESSION_CLAIMS=str(claims), FLOWSESSION_HOME=f"{folder}/session")
        assert order(next_pod, again=True, **wanted)[1]["state"] == "Running"
        end = over(next_pod)
        assert (end["state"], end["lines"], end["metrics"]) == ("Completed", ALL_THREE, {"answers": "3"}), end["message"] + end["logTail"]
        kept = claims / "results" / "runs" / "answers-r-1"
        assert [line["answer"] for line in lines((kept / "flow_outputs/output.jsonl").read_bytes())] == ["A", "WAIT", "B"]
        assert sorted((tmp_path / "seen").read_text().split()) == ["a", "b", "wait", "wait"]
        earlier = {"earlierClaim": {"claim": "results", "path": "runs/answers-r-1"}, "columnMapping": {"text": "${run.outputs.answer}"}}
        order(next_pod, "r-4", data=None, **earlier)
        assert over(next_pod, "r-4")["lines"] == ALL_THREE


def test_a_run_resumes_from_what_was_kept_of_another_one(session: Callable[..., Agent], tmp_path: Path) -> None:
    first = session(data("a", "wait", "b"), once(tmp_path))
    order(first, concurrency=3)
    eventually("two lines are done", lambda: told(first)["lines"]["completed"] == 2)
    first.call("DELETE", "/v1/runs?id=r-1")
    assert over(first)["state"] == "Canceled"
    kept = first.call("GET", "/v1/runs/outputs?id=r-1")[1]["archive"]
    first.close()
    (tmp_path / "go").touch()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        second = session(data("a", "wait", "b"), once(tmp_path), FLOWSESSION_HOME=f"{folder}/session")
        order(second, resume={"name": "answers-0", "archive": kept})
        end = over(second)
        assert (end["state"], end["lines"], end["metrics"]) == ("Completed", {"total": 3, "completed": 3, "failed": 0}, {"answers": "3"}), (
            end
        )
        assert sorted((tmp_path / "seen").read_text().split()) == ["a", "b", "wait", "wait"]


VARIANTS = b"""\
environment_variables: {GREETING: hello, OTHER: kept}
inputs:
  text: {type: string}
outputs:
  answer: {type: string, reference: "${greet.output}"}
nodes:
- name: greet
  use_variants: true
node_variants:
  greet:
    default_variant_id: quiet
    variants:
      quiet: {node: {type: python, source: {type: code, path: greet.py}, inputs: {text: "${inputs.text}", mark: "."}}}
      loud: {node: {type: python, source: {type: code, path: greet.py}, inputs: {text: "${inputs.text}", mark: "!"}}}
"""
GREET = b"""\
import os
from promptflow.core import tool

@tool
def run(text: str, mark: str) -> str:
    return f"{os.environ['GREETING']} {os.environ['OTHER']} {text}{mark} {os.environ['PF_WORKER_COUNT']}"
"""


def test_variant_environment_and_concurrency_are_the_orders(used: Agent, run: str) -> None:
    push(used, data("a"), {"flow.dag.yaml": VARIANTS, "greet.py": GREET})
    wanted = {"variant": "${greet.loud}", "environmentVariables": {"GREETING": "bye"}, "concurrency": 3}
    order(used, run, **wanted)
    assert over(used, run)["state"] == "Completed"
    assert lines(outputs(used, run)["flow_outputs/output.jsonl"])[0]["answer"] == "bye kept a! 3"
    order(used, f"{run}-2", variant="${greet.shrill}")
    assert (found := over(used, f"{run}-2"))["code"] == "FlowInvalid", found
    said = "The flow has no variant '${greet.shrill}': is '${greet.loud}' meant? Its variants are "
    assert found["message"] == said + "${greet.quiet}, ${greet.loud}"


SEEN = b"""\
import os, signal, sys
from pathlib import Path
from promptflow.core import tool

@tool
def run(text: str) -> dict:
    return {
        "spawned": b"spawn_main" in Path(f"/proc/{os.getppid()}/cmdline").read_bytes(),
        "argv": sys.argv[1:],
        "path": sys.path,
        "cwd": os.getcwd(),
        "signals": [str(signal.getsignal(number)).split(" at ")[0] for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
        "standard": [os.readlink("/proc/self/fd/0"), os.umask(0o022)],
        "environment": {name: value for name, value in os.environ.items() if name != "FLOWSESSION_JOB"},
    }
"""


def test_lines_find_the_same_in_a_process_that_was_forked_ahead_as_in_one_that_was_spawned(session: Callable[..., Agent]) -> None:
    agent = session(
        data("a", "b"),
        {
            **FLOW,
            "shout.py": SEEN,
            "count.py": b"from promptflow.core import tool\n\n@tool\ndef run(answers: list): ...\n",
            "vars.env": b"A=1\n",
            "array.jsonl": b"",  # not a module, though a module has this name
        },
    )
    found = {}
    for run_id, more in (
        ("new", {}),
        ("runner", {}),
        ("file", {"environmentFile": "vars.env"}),
        ("given", {"environmentVariables": {"A": "1"}}),
    ):
        order(agent, run_id, **more)
        assert over(agent, run_id)["state"] == "Completed"
        found[run_id] = [line["answer"] for line in lines(outputs(agent, run_id)["flow_outputs/output.jsonl"])]
        for answer in found[run_id]:
            answer["argv"] = [word.replace(run_id, "RUN") for word in answer["argv"]]
    spawned = {run_id: {answer.pop("spawned") for answer in answers} for run_id, answers in found.items()}
    spawned.pop("given")  # either is possible: a new process, or a runner that imported prompt flow without the variable
    assert spawned == {"new": {False}, "runner": {False}, "file": {True}}
    assert found["new"] == found["runner"]
    assert found["given"] == found["file"]
    for answer in found["file"]:
        assert answer["environment"].pop("A") == "1"
    assert found["file"] == found["new"]


def test_constants_of_any_kind_and_files_of_variables(used: Agent, run: str) -> None:
    """run.yml accepts constants in its mapping, and a file in place of a mapping of variables."""
    push(used, data("a"), {"flow.dag.yaml": VARIANTS, "greet.py": GREET, "vars.env": b"GREETING='good day'\nOTHER=too\n"})
    order(used, run, columnMapping={"text": 3, "more": "${data.word}"}, environmentFile="vars.env")
    assert (end := over(used, run))["state"] == "Completed", end["message"]
    assert lines(outputs(used, run)["flow_outputs/output.jsonl"])[0]["answer"].startswith("good day too 3.")
    order(used, f"{run}-2", environmentFile="none.env")
    assert (found := over(used, f"{run}-2"))["code"] == "FlowInvalid", found
    assert "environment_variables names none.env, and there is no such file in the flow folder" in found["message"]


def test_lines_that_were_done_before_a_cancel_keep_their_outputs(used: Agent, run: str) -> None:
    push(used, data("a", "wait", "b"))
    order(used, run, concurrency=3)
    eventually("two lines are done", lambda: told(used, run)["lines"]["completed"] == 2)
    used.call("DELETE", f"/v1/runs?id={run}")
    end = over(used, run)
    assert (end["state"], end["message"]) == ("Canceled", "line 1 was under way")
    kept = outputs(used, run)
    assert lines(kept["flow_outputs/output.jsonl"]) == [{"line_number": 0, "answer": "A"}, {"line_number": 2, "answer": "B"}]
    assert kept["data.jsonl"] == data("a", "wait", "b")


def test_a_cancel_lets_no_more_lines_begin(used: Agent, run: str) -> None:
    push(used, data(*(f"nap {number}" for number in range(40))))
    order(used, run, concurrency=2)
    eventually("some lines are done", lambda: told(used, run)["lines"]["completed"] >= 2)
    used.call("DELETE", f"/v1/runs?id={run}")
    end = over(used, run)
    assert end["state"] == "Canceled", end
    assert end["lines"]["completed"] < 20, "two at a time, half a second each"
    kept = outputs(used, run)
    assert len(lines(kept["flow_outputs/output.jsonl"])) == end["lines"]["completed"]
    assert len(lines(kept["inputs.jsonl"])) >= end["lines"]["completed"]


def test_what_an_ending_agent_interrupts_is_no_success(session: Callable[..., Agent], tmp_path: Path) -> None:
    """On SIGINT, prompt flow reports a flow that it interrupted as completed, without outputs."""
    begun = SHOUT.replace(b"        while", f"        open(f'{tmp_path}/{{os.getpid()}}', 'w')\n        while".encode())
    agent = session(data("wait"), {**FLOW, "shout.py": begun})
    order(agent)
    counts: list[dict[str, int]] = []
    with ThreadPoolExecutor(2) as pool:
        tested = pool.submit(agent.flow, "test", "--inputs", "text=wait")
        eventually("both are under way", lambda: len(list(tmp_path.glob("[0-9]*"))) == 2)
        printed_lines = pool.submit(over, agent, counts=counts)
        eventually("the total is told", lambda: counts and counts[-1]["total"])
        os.kill(agent.pid, signal.SIGTERM)
        assert (tested.result().returncode, tested.result().stdout) == (1, "")
        assert "The session's pod ends" in tested.result().stderr
        with pytest.raises((http.client.HTTPException, OSError)):
            assert printed_lines.result() == "the run is over"
    assert not any(count["failed"] for count in counts), "what it interrupts is run again"


@pytest.mark.parametrize(
    "members",
    [
        {"id": "../x"},
        {"name": ""},
        {"data": "../d.jsonl"},
        {"data": "/etc/passwd"},
        {"data": None},
        {"columnMapping": ["a"]},
        {"initFile": "../x.json"},
        {"columnMapping": None},
        {"dataFile": {"name": "d.jsonl", "content": ""}},
        {"data": None, "dataFile": {"name": "../d.jsonl", "content": ""}},
        {"data": None, "dataFile": {"name": "d.jsonl", "content": "?"}},
        {"earlier": {"name": "x"}},
        {"earlier": {"name": "../x", "archive": ""}},
        {"concurrency": 0},
        {"outputsClaim": {"claim": "..", "path": ""}},
        {"outputsClaim": {"claim": "c", "path": "../x"}},
        {"connections": {"node": "text"}},
    ],
)
def test_orders_that_make_no_sense_are_refused(agent: Agent, members: dict[str, Any]) -> None:
    status, refused = order(agent, **members)
    assert (status, refused["code"]) == (400, "BadRequest")
