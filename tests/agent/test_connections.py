"""Connections from mounted Secrets: flows, commands and scripts in the session call a model with them, and their values don't leave it."""

import base64
import contextlib
import gzip
import json
import socket
import sqlite3
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import modelserver
from flowsession_agent.check import connections
from flowsession_agent.connections import mounted
from flowsession_protocol import connection_kinds
from modelserver import ModelServer

from . import support
from .conftest import StartAgent
from .editing import NONE, edits
from .feeds import places_with
from .support import Agent, eventually
from .test_saved_edits import saved_of

KEY = "sk-5f1d7c0e9b8a"
DAG = modelserver.DAG.encode()
CHAT = {name: text.encode() for name, text in modelserver.FLOW.items()}


@pytest.fixture(scope="module")
def runtime_base() -> str:
    """A base with prompt flow and its tools, without a keyring."""
    return support.base("runtime", "promptflow==1.18.5", "promptflow-tools==1.6.1")


@pytest.fixture
def model() -> Iterator[ModelServer]:
    with modelserver.serving(KEY) as server:
        yield server


class Secrets:
    """Secrets as a kubelet mounts them: keys link through one folder link, which is replaced atomically."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._count = 0

    def write(self, name: str, keys: Mapping[str, str]) -> None:
        self._count += 1
        folder = self._root / name
        version = folder / f"..{self._count}"
        version.mkdir(parents=True)
        for key, value in keys.items():
            (version / key).write_text(value)
        data = folder / "..data"
        (folder / "..new").symlink_to(version.name)
        (folder / "..new").replace(data)
        for entry in folder.iterdir():
            if not entry.name.startswith("..") and entry.name not in keys:
                entry.unlink()
        for key in keys:
            if not (folder / key).is_symlink():
                (folder / key).symlink_to(f"..data/{key}")

    def variable(self, **connections: str) -> str:
        """Return the environment variable by which the operator gives the pod connections and their Secrets."""
        return json.dumps([{"name": name, "secret": secret, "path": str(self._root / secret)} for name, secret in connections.items()])


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    return Secrets(tmp_path / "mounted")


@pytest.fixture
def operators_port() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


def open_ai(url: str, key: str = KEY) -> dict[str, str]:
    return {"connection.yaml": f"name: what-it-was-called\ntype: open_ai\napi_key: {key}\nbase_url: {url}/v1\n"}


def in_terminal(agent: Agent, *command: str, stdin: str = "", seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command as `kubectl exec` does, with the environment of the pod."""
    home = agent.home / "home"
    environment = {"HOME": str(home), "PF_HOME_DIRECTORY": str(home / ".promptflow"), "PATH": "/usr/bin:/bin", "PF_DISABLE_TRACING": "true"}
    return subprocess.run(
        command, env=environment, cwd=agent.home / "flow", input=stdin, capture_output=True, text=True, timeout=seconds, check=False
    )


def filled(agent: Agent) -> bool:
    return (agent.home / "home/.local/share/flowsession/filled.json").exists()


def test_flow_test_terminals_and_scripts_find_it_by_name_and_a_changed_secret_is_in_use_at_once(
    start: StartAgent, runtime_base: str, model: ModelServer, secrets: Secrets
) -> None:
    secrets.write("open-ai", open_ai(model.url))
    agent = start(python=runtime_base, FLOWSESSION_CONNECTIONS=secrets.variable(open_ai_connection="open-ai"))
    assert agent.put("p1", "f1", files=CHAT)[0] == 200
    ran = agent.flow("test", "--inputs", "question=hello")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"answer": "you said: hello"}
    assert model.calls[-1].authorization == KEY
    pf = str(Path(runtime_base).parent / "pf")
    typed = in_terminal(agent, pf, "flow", "test", "--flow", ".", "--inputs", "question=there")
    assert (typed.returncode, "you said: there" in typed.stdout) == (0, True), typed.stdout + typed.stderr
    script = "from promptflow.client import PFClient; print(PFClient().connections.get('open_ai_connection').base_url)"
    assert in_terminal(agent, runtime_base, "-c", script).stdout == f"{model.url}/v1\n"
    model.keys = {"sk-another"}
    secrets.write("open-ai", open_ai(model.url, "sk-another"))
    ran = agent.flow("test", "--inputs", "question=again")
    assert (ran.returncode, model.calls[-1].authorization) == (0, "sk-another"), ran.stderr


def test_it_is_there_without_being_asked_for_and_is_no_work(
    start: StartAgent, runtime_base: str, model: ModelServer, secrets: Secrets
) -> None:
    secrets.write("open-ai", open_ai(model.url))
    agent = start(python=runtime_base, pid1=True, FLOWSESSION_CONNECTIONS=secrets.variable(open_ai_connection="open-ai"))
    before = agent.put("p1")[1]["activity"]["what"]
    eventually("the store is filled", lambda: filled(agent))
    activity: dict[str, Any] = agent.state()["activity"]
    assert (activity["busy"], activity["what"]) == (False, before)


def test_what_is_saved_has_the_runs_and_not_the_connections_and_comes_back(
    start: StartAgent, runtime_base: str, model: ModelServer, secrets: Secrets, tmp_path: Path
) -> None:
    secrets.write("open-ai", open_ai(model.url))
    variable = secrets.variable(open_ai_connection="open-ai")
    agent = start(python=runtime_base, FLOWSESSION_CONNECTIONS=variable)
    agent.put("p1", "f1", files=CHAT)
    eventually("the store is filled", lambda: filled(agent))
    assert edits(agent) == NONE  # what the agent wrote is not an edit
    store = agent.home / "home/.promptflow/pf.sqlite"
    with contextlib.closing(sqlite3.connect(store)) as database:
        database.execute("INSERT INTO run_info (name, created_on, status) VALUES ('run1', '2026-01-01', 'Completed')")
        database.commit()
    assert model.url.encode() in store.read_bytes()
    found = edits(agent)
    assert found["files"] == ["~/.promptflow/pf.sqlite"]
    archive = base64.b64decode(agent.call("GET", "/v1/edits")[1]["archive"])
    assert not any(word in gzip.decompress(archive) for word in (KEY.encode(), b"open_ai_connection", model.url.encode()))
    other = start(python=runtime_base, FLOWSESSION_HOME=str(tmp_path / "other"), FLOWSESSION_CONNECTIONS=variable)
    other.put("p1", "f1", files=CHAT, savedEdits=saved_of(agent))
    eventually("the store is filled", lambda: filled(other))
    assert edits(other)["revision"] == found["revision"]
    assert other.flow("test", "--inputs", "question=hello").returncode == 0
    with contextlib.closing(sqlite3.connect(other.home / "home/.promptflow/pf.sqlite")) as database:
        assert database.execute("SELECT name FROM run_info").fetchall() == [("run1",)]


def problems(agent: Agent) -> list[tuple[str, str]]:
    check = agent.call("POST", "/v1/validate")[1]["check"]
    return [(problem["code"], problem["message"]) for problem in check["problems"]]


@pytest.mark.parametrize(
    ("keys", "code", "words"),
    [
        ({}, "ConnectionSecretMissing", "Secret 'open-ai' does not exist"),
        ({"connection.yaml": "type: open_ai\n"}, "ConnectionField", "it has no api_key, which type open_ai needs"),
        ({"type": "open_ai", "apikey": KEY}, "ConnectionField", "its field 'apikey' is probably meant"),
        ({"type": "open_ia", "api_key": KEY}, "ConnectionType", "open_ai is probably meant"),
        ({"type": KEY}, "ConnectionType", "its type is none of"),
        ({"connection.yaml": f"type: open_ai\napi_key: {KEY}: {KEY}\n"}, "ConnectionInvalid", "not YAML line 2"),
        ({"connection.yaml": "type: open_ai\napi_key: <user-input>\n"}, "ConnectionField", "only a placeholder"),
        ({"connection.yaml": "type: open_ai\napi_key: 5\n"}, "ConnectionField", "in quotes"),
        ({"type": "azure_open_ai", "api_base": "x", "auth_mode": "entra"}, "ConnectionField", "auth_mode must be key or meid_token"),
        ({"type": "open_ai", "secrets.api_key": KEY}, "ConnectionField", "type open_ai has no secrets"),
        ({"type": "custom", "configs.a": "x"}, "ConnectionField", "secrets.NAME"),
        (
            {"connection.yaml": "type: custom\ncustom_type: A\nmodule: nowhere.of\npackage: nowhere\nsecrets: {a: b}\n"},
            "ConnectionModule",
            "add nowhere to the requirements",
        ),
    ],
)
def test_what_is_wrong_with_a_secret_is_named_without_its_values(keys: dict[str, str], code: str, words: str, tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    if keys:
        secrets.write("open-ai", keys)
    known = connections.known({"FLOWSESSION_CONNECTIONS": secrets.variable(mine="open-ai"), "PF_HOME_DIRECTORY": str(tmp_path)})
    found = known.trouble("mine")
    assert found is not None
    assert (found[0], words in found[1], KEY in found[1]) == (code, True, False), found
    assert "'open-ai'" in found[1] or code == "ConnectionModule"


def test_the_check_names_a_misspelt_connection_and_a_secret_that_comes_late(
    start: StartAgent, runtime_base: str, model: ModelServer, secrets: Secrets, operators_port: socket.socket
) -> None:
    """A datagram also notifies the operator, which doesn't read the Secret, that the check's result changed, even if a test was the first
    to use the Secret."""
    agent = start(python=runtime_base, FLOWSESSION_CONNECTIONS=secrets.variable(open_ai_connection="open-ai"))
    to = f"127.0.0.1:{operators_port.getsockname()[1]}"
    agent.put("p1", "f1", files={**CHAT, "flow.dag.yaml": DAG.replace(b"open_ai_connection", b"open_ai_conection")}, editsAddress=to)
    ((code, said),) = problems(agent)
    assert (code, "is 'open_ai_connection' meant?" in said) == ("ConnectionMissing", True), said
    agent.put("p1", "f2", files=CHAT, editsAddress=to)
    ((code, said),) = problems(agent)
    assert (code, "Secret 'open-ai' does not exist" in said) == ("ConnectionSecretMissing", True), said
    operators_port.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while operators_port.recv(1000):
            pass
    operators_port.settimeout(60)
    secrets.write("open-ai", open_ai(model.url))
    assert agent.flow("test", "--inputs", "question=hello").returncode == 0
    while b" checked\n" not in operators_port.recv(1000):
        pass
    assert agent.state()["check"]["verdict"] == "Valid"


CORE_TOOL = b"""
import json, urllib.request
from promptflow.connections import OpenAIConnection
from promptflow.core import tool


@tool
def ask(connection: OpenAIConnection, question: str) -> str:
    body = json.dumps({"model": "small", "messages": [{"role": "user", "content": question}]}).encode()
    headers = {"Authorization": f"Bearer {connection.api_key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{connection.base_url}/chat/completions", body, headers)
    return json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"]
"""
CORE_FLOW = {
    "ask.py": CORE_TOOL,
    "flow.dag.yaml": b"""
inputs: {question: {type: string}}
outputs: {answer: {type: string, reference: "${ask.output}"}}
nodes:
- name: ask
  type: python
  source: {type: code, path: ask.py}
  inputs: {connection: open_ai_connection, question: "${inputs.question}"}
""",
}


def test_prompt_flows_core_alone_asks_the_agent(start: StartAgent, model: ModelServer, secrets: Secrets) -> None:
    core = support.base("core", "promptflow-core==1.18.5", "httpx")
    secrets.write("open-ai", open_ai(model.url))
    secrets.write("own", {"type": "custom", "configs.a": "b", "secrets.k": KEY})
    agent = start(python=core, FLOWSESSION_CONNECTIONS=secrets.variable(open_ai_connection="open-ai", own="own"))
    agent.put("p1", "f1", files=CORE_FLOW)
    ran = agent.flow("test", "--inputs", "question=hello")
    assert (ran.returncode, ran.stdout) == (0, '{\n  "answer": "you said: hello"\n}\n'), ran.stderr
    (path,) = agent.home.rglob("flowsession_connections.pth")
    script = f"import site; site.addsitedir({str(path.parent)!r})\n"
    script += "from promptflow.connections import ConnectionProvider as P\nown = P.get_instance().get('own')\n"
    script += "print(own.configs, own.secrets, sorted(one.name for one in P.get_instance().list()))"
    typed = in_terminal(agent, core, "-c", script)
    assert typed.stdout == f"{{'a': 'b'}} {{'k': '{KEY}'}} ['open_ai_connection', 'own']\n", typed.stderr
    endpoint = path.read_text().split("'")[3]
    for wrong in (f"{endpoint[:-1]}/connections/own", endpoint.rpartition("/")[0] + "/connections", f"{endpoint}/connections/nobody"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(wrong, timeout=10)
    assert places_with(KEY, agent) == []


ORACLE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from flowsession_agent.connections.fill import for_core
from flowsession_protocol.connection_kinds import KINDS, BadConnectionError, validated
from promptflow._sdk.entities._connection import _Connection

def both(data):
    found = []
    for load in (lambda: validated(data), lambda: _Connection._load(data=dict(data))):
        try:
            found.append(load())
        except Exception as error:
            found.append(None)
    return found

answer = {"differ": [], "kinds": sorted(_Connection.SUPPORTED_TYPES)}
for kind in KINDS.values():
    fields = {name: f"a-{name}" for name in kind.needs}
    whole = {"name": "x", "type": kind.name, **fields, **({"secrets": {"k": "v"}, "configs": {"c": "d"}} if kind.name == "custom" else {})}
    cases = [whole] + [{name: value for name, value in whole.items() if name != left_out} for left_out in kind.needs]
    if kind.keyless:
        cases.append({**cases[1 + kind.needs.index("api_key")], "auth_mode": "meid_token"})
    for data in cases:
        mine, theirs = both(data)
        if (mine is None) != (theirs is None):
            answer["differ"].append([data, mine is None])
        elif mine is not None:
            ours, upstream = for_core("x", mine), theirs._to_execution_connection_dict()
            for name in ("api_type", "api_version", "auth_mode"):
                if name not in mine:
                    upstream["value"].pop(name, None)
            if ours != upstream:
                answer["differ"].append([ours, upstream])
print(json.dumps(answer))
"""
"""Compares which connections this code and prompt flow accept, and how they read them, except for defaults of prompt flow's classes."""


def test_all_of_prompt_flows_types_are_judged_and_read_as_prompt_flow_does(runtime_base: str, tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "PF_HOME_DIRECTORY": str(tmp_path), "PATH": "/usr/bin:/bin"}
    command = [runtime_base, "-c", ORACLE, str(support.SOURCES)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout.splitlines()[-1])
    assert answer["differ"] == []
    assert set(answer["kinds"]) - {"NotSet"} == set(connection_kinds.TYPES.values())  # "NotSet" is the base of user-defined classes


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "which has no identity in Azure: name a ServiceAccount with a workload identity"),
        ({"AZURE_CLIENT_ID": "client", "AZURE_TENANT_ID": "t", "AZURE_FEDERATED_TOKEN_FILE": "/nowhere"}, "identity client gets no token"),
        ({"AZURE_CLIENT_SECRET": "of somebody"}, ""),
    ],
)
def test_a_connection_without_key_needs_an_identity(environ: dict[str, str], words: str, tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    secrets.write("aoai", {"type": "azure_open_ai", "api_base": "https://x", "auth_mode": "meid_token"})
    given = {"FLOWSESSION_CONNECTIONS": secrets.variable(mine="aoai"), "PF_HOME_DIRECTORY": str(tmp_path), "HOME": str(tmp_path)}
    found = connections.known({**given, "AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:9", **environ}).trouble("mine")
    assert (found or ("", ""))[0] == ("ConnectionIdentity" if words else "")
    assert words in (found or ("", ""))[1]


def test_what_prompt_flow_refuses_is_in_the_check(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    secrets.write("open-ai", open_ai("http://x"))
    mounted.note_refused(str(tmp_path), {"mine": "prompt flow refuses it (ValidationException)"})
    given = {"FLOWSESSION_CONNECTIONS": secrets.variable(mine="open-ai"), "PF_HOME_DIRECTORY": str(tmp_path), "HOME": str(tmp_path)}
    assert connections.known(given).trouble("mine") == (
        "ConnectionRefused",
        "connection 'mine': Secret 'open-ai': prompt flow refuses it (ValidationException)",
    )
    mounted.note_refused(str(tmp_path), {})
    assert connections.known(given).trouble("mine") is None
