"""The check of a flow: flows that prompt flow runs are valid. Problems name file, line, node and the way out. No work is disturbed."""

import json
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from . import flows, support
from .conftest import StartAgent
from .flows import BAD, GOOD, Bad, Good
from .support import Agent, eventually

CONNECTIONS = {"aoai": "AzureOpenAI", "serp": "Serp", "own": "Custom"}


@pytest.fixture(scope="module")
def runtime_base() -> str:
    """A base like the runtime image's."""
    return support.base("runtime", "promptflow==1.18.5", "promptflow-tools==1.6.1")


def store(home: Path, connections: Mapping[str, str]) -> None:
    """Create prompt flow's local store with these connections."""
    with sqlite3.connect(home / "pf.sqlite") as database:
        database.execute("CREATE TABLE connection (connectionName TEXT PRIMARY KEY, connectionType TEXT, configs TEXT, customConfigs TEXT)")
        database.executemany("INSERT INTO connection VALUES (?, ?, '{}', '{}')", list(connections.items()))


class Server:
    """checkserver.py, run by a base's Python."""

    def __init__(self, python: str, home: Path) -> None:
        (home / "pf.yaml").write_text("telemetry: {enabled: false}\ntrace: {destination: none}\n")
        store(home, CONNECTIONS)
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "PF_HOME_DIRECTORY": str(home),
            "PF_DISABLE_TRACING": "true",
            "PYTHONPATH": str(support.SOURCES),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._scratch = home / "scratch"
        self._scratch.mkdir()
        self._process = subprocess.Popen(
            [python, str(Path(__file__).parent / "checkserver.py")],
            env=environment,
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, what: str, flow: Good | Bad, folder: Path, **members: Any) -> dict[str, Any]:
        """Return the answer to `check`, `run` or `outputs`."""
        assert self._process.stdin and self._process.stdout
        order = {"what": what, "folder": str(folder), "file": flow.file, "scratch": str(self._scratch), "load": flow.load, **members}
        print(json.dumps(order), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "failed" not in answer, answer["failed"]
        return answer

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=30)


@pytest.fixture(scope="module")
def server(runtime_base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    process = Server(runtime_base, tmp_path_factory.mktemp("pf"))
    yield process
    process.close()


def written(files: Mapping[str, str], folder: Path) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("flow", GOOD, ids=lambda flow: flow.name)
def test_what_prompt_flow_runs_is_valid(flow: Good, server: Server, tmp_path: Path) -> None:
    folder = written(flow.files, tmp_path / "flow")
    found = server.ask("check", flow, folder)
    assert (found["problems"], found["unchecked"]) == ([], "")
    ran = server.ask("run", flow, folder, inputs=dict(flow.inputs))
    assert ran["ran"], ran


@pytest.mark.parametrize("flow", BAD, ids=lambda flow: flow.name)
def test_what_is_wrong_is_named(flow: Bad, server: Server, tmp_path: Path) -> None:
    folder = written(flow.files, tmp_path / "flow")
    found = server.ask("check", flow, folder)
    assert [problem["code"] for problem in found["problems"]] == [flow.code], found
    problem = found["problems"][0]
    assert (problem.get("node", ""), problem.get("file", "")) == (flow.node, flow.where), problem
    assert all(word in problem["message"] for word in flow.words), problem
    assert flow.line in (None, problem.get("line")), problem
    assert bool(found["early"]["problems"]) == flow.early, found["early"]
    ran = server.ask("run", flow, folder, inputs={})
    assert not ran["ran"], f"prompt flow runs it, so it is no problem: {problem}"


CHAT = "text: {type: string, default: hi, is_chat_input: true}\nchat_history: {type: list, default: [], is_chat_history: true}"
CHATTED = 'answer: {type: string, reference: "${shout.output}", is_chat_output: true}'
OUTPUTS = [
    ("a text", flows.flex("def main(text='a'):\n    return text\n"), {"output": "a"}),
    ("a mapping", flows.flex("def main(text='a'):\n    return {'a': [1, None, 'é']}\n"), {"a": [1, None, "é"]}),
    ("a number", flows.flex("def main(text='a'):\n    return 1.5\n"), {"output": 1.5}),
    ("nothing", flows.flex("def main(text='a'):\n    return None\n"), {"output": None}),
    ("numbers one by one", flows.flex("def main(text='a'):\n    yield 1\n    yield 2\n"), {"output": "12"}),
    (
        "a dataclass",
        flows.flex(
            "from dataclasses import dataclass\n\n\n@dataclass\nclass Out:\n    n: int\n    t: str\n\n\n"
            "def main(text='a') -> Out:\n    return Out(1, 'x')\n"
        ),
        {"n": 1, "t": "x"},
    ),
    (
        "texts of a node one by one",
        flows.with_tool(flows.TOOL.replace("return text.upper()", "yield 'a'\n    yield 'b'")),
        {"answer": "ab"},
    ),
    (
        "numbers of a node",
        flows.with_tool(flows.TOOL.replace("-> str", "").replace("return text.upper()", "yield 1\n    yield 2")),
        {"answer": "12"},
    ),
    (
        "mappings of a chat's node",
        flows.files(
            flows.dag(inputs=CHAT, outputs=CHATTED, nodes=flows.NODE),
            shout_py=flows.TOOL.replace("-> str", "").replace("return text.upper()", "yield {'a': 1}\n    yield {'b': 2}"),
        ),
        {"answer": "{'a': 1}{'b': 2}"},
    ),
]


@pytest.mark.parametrize(("what", "files", "wanted"), OUTPUTS, ids=[row[0] for row in OUTPUTS])
def test_outputs_are_those_that_pf_flow_test_prints(
    what: str, files: Mapping[str, str], wanted: Any, server: Server, tmp_path: Path
) -> None:
    flow = Good(what, files, file=next(name for name in files if name.startswith("flow.")))
    found = server.ask("outputs", flow, written(files, tmp_path / "flow"), inputs={"text": "a"})
    assert json.loads(found["ours"]) == wanted
    if "output" in wanted:
        assert found["printed"] == str(wanted["output"])
    elif what == "a dataclass":
        assert found["printed"].endswith("Out(n=1, t='x')"), "pf prints its repr"
    else:
        assert json.loads(found["printed"]) == wanted


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- with a real agent


FILES = {name: text.encode() for name, text in flows.files(shout_py=flows.TOOL).items()}
BROKEN = {**FILES, "shout.py": b"import bs4\n" + FILES["shout.py"]}


@pytest.fixture
def agent(start: StartAgent, runtime_base: str) -> Agent:
    """An agent whose Python has prompt flow."""
    return start(python=runtime_base)


def checked(agent: Agent, flow: str, *, over: bool = True) -> dict[str, Any]:
    """Wait with long polls for the check of this revision of the flow folder. Return it, or without `over` its first verdict."""
    state = agent.state()
    while True:
        check: dict[str, Any] = state["check"]
        if check["flowRevision"] == flow and (check["state"] == "Done" or (check["verdict"] and not over)):
            return check
        _, state = agent.call("GET", f"/v1/state?since={state['version']}&wait=30")


def test_a_pushed_flow_is_checked_and_mended_by_the_next_push(agent: Agent) -> None:
    _, state = agent.put("p1", "f1", files=BROKEN)
    assert (state["check"]["state"], state["check"]["flowRevision"], state["check"]["verdict"]) == ("Running", "f1", "")
    early, over = checked(agent, "f1", over=False), checked(agent, "f1")
    assert (early["verdict"], over["verdict"], over["count"]) == ("Invalid", "Invalid", 1)
    assert over["problems"] == [
        {
            "code": "ModuleMissing",
            "message": "No module named 'bs4': add beautifulsoup4 to the requirements, or build it into the image",
            "file": "shout.py",
            "line": 1,
            "node": "shout",
        }
    ]
    agent.put("p1", "f2", files=FILES)
    over = checked(agent, "f2")
    assert (over["verdict"], over["count"], over["nodes"], over["packagesRevision"]) == ("Valid", 0, 1, "p1")
    print(f"known by reading after {early['seconds']} s, in all after {over['seconds']} s")


def test_without_a_flow_folder_there_is_nothing_to_check(agent: Agent) -> None:
    _, state = agent.put("p1", "none")
    assert (state["check"]["state"], state["check"]["verdict"]) == ("Done", "NoFlow")


def test_where_prompt_flow_is_missing_nothing_is_said_against_the_flow(start: StartAgent, python: str) -> None:
    agent = start(python=python)
    agent.put("p1", "f1", files=FILES)
    check = checked(agent, "f1")
    assert (check["verdict"], check["count"]) == ("NotChecked", 0)
    assert "prompt flow is not installed here" in check["reason"]


def test_the_latest_content_wins_over_an_import_that_hangs(agent: Agent) -> None:
    slow = {**FILES, "shout.py": b"import time\ntime.sleep(50)\n" + FILES["shout.py"]}
    agent.put("p1", "slow", files=slow)
    eventually("the import has begun", lambda: [*agent.home.glob("tmp/check-*/imported.json")])
    agent.put("p1", "f2", files=BROKEN)
    agent.put("p1", "f3", files=FILES)
    seen = set()
    state = agent.state()
    while state["check"]["state"] != "Done":
        seen.add(state["check"]["flowRevision"])
        _, state = agent.call("GET", f"/v1/state?since={state['version']}&wait=30")
    assert (state["check"]["flowRevision"], state["check"]["verdict"], seen) == ("f3", "Valid", {"f3"})
    eventually("nothing is left but the process kept for tests", lambda: len(support.descendants(agent.process.pid)) <= 1)


def test_the_check_is_no_work_and_leaves_no_traces(agent: Agent) -> None:
    busy = {
        **FILES,
        "shout.py": b"open('written.txt', 'w').write('x')\nopen(__file__, 'a').write('# more')\n" + FILES["shout.py"],
        "data.csv": b"a\n",
    }
    agent.put("p1", "f1", files=busy)
    before = time.monotonic()
    what = set()
    while (asked := time.monotonic()) and (state := agent.state())["check"]["state"] != "Done":
        what.add(state["activity"]["what"])
        assert not state["activity"]["busy"]
        time.sleep(0.1)
    assert (state["check"]["verdict"], what) == ("Valid", {"environment"})
    assert state["activity"]["idleSeconds"] >= asked - before - 0.1, "idleness went on all the while"
    assert (state["edits"]["count"], names(agent.home / "flow")) == (0, ["data.csv", "flow.dag.yaml", "shout.py"])
    assert (agent.home / "flow" / "shout.py").read_bytes() == busy["shout.py"]
    eventually("its copy is gone", lambda: not [*agent.home.glob("tmp/check-*")])


@pytest.mark.parametrize("runners", [True, False])
def test_the_imports_run_niced(start: StartAgent, runtime_base: str, runners: bool) -> None:
    agent = start(python=runtime_base, runners=runners)
    agent.put("p1", "f1", files={**FILES, "shout.py": b"import os\nassert os.nice(0) >= 10, os.nice(0)\n" + FILES["shout.py"]})
    assert checked(agent, "f1")["verdict"] == "Valid"


def test_a_tool_that_kills_its_process_is_named_but_not_blamed(agent: Agent) -> None:
    agent.put("p1", "f1", files={**FILES, "shout.py": b"import os\nos.kill(os.getpid(), 11)\n" + FILES["shout.py"]})
    check = checked(agent, "f1")
    assert (check["verdict"], check["reason"]) == ("NotChecked", "importing shout.py ended by signal 11")


def test_packages_that_are_being_installed_are_waited_for(agent: Agent) -> None:
    needing = {**FILES, "shout.py": b"import iniconfig\n" + FILES["shout.py"], "requirements.txt": b"iniconfig\n"}
    install = agent.install("p1", "iniconfig\n", path="requirements.txt", files=needing, flow="f1")
    assert install["state"] == "Succeeded", install
    check = checked(agent, "f1")
    assert (check["verdict"], check["packagesRevision"]) == ("Valid", "p1")


def test_a_package_tool_whose_package_fails_at_its_import_names_what_that_lacks(agent: Agent) -> None:
    node = "- {name: t, type: python, source: {type: package, tool: my_tool_package.tools.tool_with_file_path_input.my_tool}, inputs: {}}\n"
    outputs = 'answer: {type: string, reference: "${t.output}"}'
    files = {"flow.dag.yaml": flows.dag(outputs=outputs, nodes=node).encode(), "requirements.txt": b"my-tools-package==0.0.7\n"}
    install = agent.install("p1", "my-tools-package==0.0.7\n", path="requirements.txt", files=files, flow="f1")
    assert install["state"] == "Succeeded", install
    (problem,) = checked(agent, "f1")["problems"]
    assert (problem["code"], problem["node"]) == ("PackageToolMissing", "t")
    for words in (
        "my-tools-package 0.0.7, which is installed, fails at its import",
        "No module named 'yaml'",
        "add PyYAML to the requirements",
    ):
        assert words in problem["message"], problem


def test_a_module_beside_the_flow_folder_is_named_with_the_way_to_it(start: StartAgent, runtime_base: str) -> None:
    agent = start(python=runtime_base)
    files = {"flow.flex.yaml": b"entry: main:Chat\n", "main.py": b"import os\nfrom rag.search import find\n\n\ndef Chat():\n    pass\n"}
    agent.put("p1", "f1", files=files, outsideModules={"rag": "../rag"})
    (problem,) = checked(agent, "f1")["problems"]
    assert (problem["code"], problem["file"], problem["line"]) == ("ModuleMissing", "main.py", 2)
    assert "`additional_includes: [../rag]`" in problem["message"]
    agent.close()
    again = start(python=runtime_base)
    assert checked(again, "f1")["problems"] == [problem], "a restarted agent knows it still"
    again.put("p1", "f2", files=files)
    assert "additional_includes" not in checked(again, "f2")["problems"][0]["message"], "it was that source's"


def test_the_command_checks_what_is_there_now(agent: Agent) -> None:
    agent.put("p1", "f1", files=FILES)
    fine = agent.flow("check")
    assert (fine.returncode, fine.stdout, fine.stderr) == (0, "", "flow: no problems found.\n")
    (agent.home / "flow" / "shout.py").write_text("import bs4\nimport sklearn\n" + flows.TOOL)
    broken = agent.flow("check")
    assert (broken.returncode, broken.stderr) == (1, "flow: 2 problems found.\n")
    assert broken.stdout.splitlines()[0].startswith("shout.py:1: node shout: No module named 'bs4'")
    found = json.loads(agent.flow("check", "--json").stdout)
    assert [problem["code"] for problem in found["problems"]] == ["ModuleMissing", "ModuleMissing"]
    assert agent.state()["check"]["verdict"] == "Invalid", "the operator's next look sees it"


def test_a_restarted_agent_checks_again(start: StartAgent, runtime_base: str, tmp_path: Path) -> None:
    first = start(python=runtime_base)
    first.put("p1", "f1", files=BROKEN)
    first.close()
    assert checked(start(python=runtime_base), "f1")["verdict"] == "Invalid"


def test_only_some_problems_travel_with_the_state(agent: Agent) -> None:
    nodes = "".join(flows.NODE.replace("shout,", f"n{number},").replace("shout.py", f"{number}.py") for number in range(150))
    agent.put("p1", "f1", files={"flow.dag.yaml": flows.dag(nodes=flows.NODE + nodes).encode(), "shout.py": FILES["shout.py"]})
    check = checked(agent, "f1")
    assert (check["count"], len(check["problems"])) == (150, 20)
    _, answer = agent.call("POST", "/v1/validate", {})
    assert (answer["check"]["count"], len(answer["check"]["problems"])) == (150, 100)


def test_a_check_that_was_asked_for_is_that_of_what_is_pushed_meanwhile(agent: Agent) -> None:
    agent.put("p1", "f1", files={**FILES, "shout.py": b"import time\ntime.sleep(60)\n" + FILES["shout.py"]})
    (first,) = eventually("the check imports", lambda: [*agent.home.glob("tmp/check-*/read.json")]) or ()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(agent.call, "POST", "/v1/validate", {})
        eventually("the one asked for imports", lambda: {*agent.home.glob("tmp/check-*/read.json")} - {first})
        agent.put("p1", "f2", files=BROKEN)
        status, answer = asked.result()
    assert (status, answer["check"]["flowRevision"], answer["check"]["verdict"]) == (200, "f2", "Invalid"), answer


def test_the_edit_of_a_prompt_needs_no_import_again(agent: Agent) -> None:
    dag = flows.dag(nodes=flows.NODE + "- {name: words, type: prompt, source: {type: code, path: words.jinja2}, inputs: {}}\n")
    files = {
        "flow.dag.yaml": dag.encode(),
        "shout.py": b"import os, time\ntime.sleep(2)\n" + FILES["shout.py"],
        "words.jinja2": b"Hello.\n",
    }
    agent.put("p1", "f1", files=files)
    assert checked(agent, "f1")["seconds"] > 2
    agent.put("p1", "f2", files={**files, "words.jinja2": b"Good day.\n"})
    again = checked(agent, "f2")
    assert (again["verdict"], again["seconds"] < 2) == ("Valid", True), again
    agent.put("p1", "f3", files={**files, "words.jinja2": b"Good {% day.\n"})
    assert [problem["code"] for problem in checked(agent, "f3")["problems"]] == ["TemplateSyntax"]
    agent.put("p1", "f4", files={**files, "shout.py": files["shout.py"] + b"\nraise KeyError('x')\n"})
    first = checked(agent, "f4")
    agent.put("p1", "f5", files=files)
    assert checked(agent, "f5")["verdict"] == "Valid"
    agent.put("p1", "f6", files={**files, "shout.py": files["shout.py"] + b"\nraise KeyError('x')\n"})
    assert checked(agent, "f6")["problems"] == first["problems"] != []
