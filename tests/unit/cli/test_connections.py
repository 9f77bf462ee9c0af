"""Connections: how prompt flow's files are converted, what is asked for, and what is never shown."""

import base64
import json

import pytest
from click.testing import CliRunner

from flowsession_cli import app, cluster, connections
from flowsession_cli.errors import CliError
from unit.cli.fakes import FakeCluster

OPEN_AI = {"type": "open_ai", "api_key": "sk-1"}


class Cluster(FakeCluster):
    """Records what kubectl is called with."""

    def call(self, *words, stdin=""):
        self.__dict__.setdefault("calls", []).append((words, json.loads(stdin)))
        return ""


@pytest.fixture
def fake(monkeypatch):
    fake = Cluster()
    monkeypatch.setattr("flowsession_cli.cluster.Cluster", lambda **_: fake)
    return fake


def secret(fake, name="open-ai-connection", labels=None, **data):
    kept = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    made = fake.put("Secret", name, data=kept)
    made["metadata"]["labels"] = {connections.LABEL: "true"} if labels is None else labels
    return made


def environment(fake, name, *names, owner="ada@example.com"):
    listed = [{"name": known, "secretName": connections.secret_name(known)} for known in names]
    fake.put("FlowEnvironment", name, spec={"owner": owner, **({"connections": listed} if listed else {})})


def typed(*words, stdin=""):
    return CliRunner().invoke(app.cli, ["connection", *words], input=stdin)


def written(tmp_path, text):
    path = tmp_path / "connection.yaml"
    path.write_text(text)
    return str(path)


def never(field, secret):
    raise AssertionError(field)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("type: open_ai\nname: x\napi_key: sk-1\nbase_url: https://x", OPEN_AI | {"base_url": "https://x"}),
        ("$schema: https://x\ntype: OpenAI\napi_key: sk-1", OPEN_AI),
        (
            "type: azure_open_ai\napi_base: https://x\napi_version: 2024-02-01\nauth_mode: meid_token",
            {"type": "azure_open_ai", "api_base": "https://x", "api_version": "2024-02-01", "auth_mode": "meid_token"},
        ),
        (
            "type: custom\nconfigs: {url: https://x, size: 3}\nsecrets: {token: t1}\nmodule: mine",
            {"type": "custom", "configs.url": "https://x", "configs.size": "3", "secrets.token": "t1", "module": "mine"},
        ),
    ],
)
def test_prompt_flows_file_becomes_a_key_for_each_field(tmp_path, text, fields):
    found = connections.read(tmp_path / written(tmp_path, text))
    assert connections.completed("c", found, never) == (fields, [])


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("type: open_ai", {"api_key": True}),
        ("type: open_ai\napi_key: <user-input>", {"api_key": True}),
        ("type: azure_open_ai\napi_key: '***'", {"api_key": True, "api_base": False}),
        ("type: custom\nsecrets: {a: '', b: <user-input>, c: there}", {"secrets.a": True, "secrets.b": True}),
    ],
)
def test_what_is_missing_is_asked_for_and_secrets_unseen(tmp_path, text, asked):
    seen = {}

    def ask(field, is_secret):
        seen[field] = is_secret
        return "given"

    fields, _ = connections.completed("c", connections.read(tmp_path / written(tmp_path, text)), ask)
    assert seen == asked
    assert all(fields[name] == "given" for name in asked)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("type: openai_chat\napi_key: sk-1", "its type is none of open_ai, azure_open_ai"),
        ("api_key: sk-1", "it has no type: add one of open_ai"),
        ("type: open_ai\napi_kye: sk-1", "type open_ai has no field api_kye: api_key is probably meant"),
        ("type: open_ai\napi_key: sk-1\nsecrets: {a: sk-1}", "type open_ai has no secrets"),
        ("type: custom\nconfigs: {a: sk-1}", "a custom connection needs secrets"),
        ("- sk-1", "holds no mapping of fields"),
        ("type: open_ai\napi_key: 'sk-1", "not YAML"),
        ("type: azure_open_ai\napi_base: x\napi_key: sk-1\nauth_mode: sk-1", "its auth_mode must be key or meid_token"),
    ],
)
def test_what_is_no_connection_is_refused_without_its_values(tmp_path, text, said):
    with pytest.raises(CliError, match=said) as refused:
        connections.completed("c.yaml", connections.read(tmp_path / written(tmp_path, text)), never)
    assert "sk-1" not in str(refused.value)


def test_it_is_created_and_an_environment_uses_it(fake, tmp_path):
    environment(fake, "chat", "search")
    path = written(tmp_path, "name: open_ai_connection\ntype: open_ai\n")
    done = typed("create", "-f", path, "--stdin", "--environment", "chat", stdin="sk-1\n")
    assert done.exception is None, done.exception
    ((words, body),) = fake.calls
    assert words == ("create", "-f", "-", "-o", "name")
    assert body["stringData"] == OPEN_AI
    assert body["metadata"] == {
        "name": "open-ai-connection",
        "labels": {"flowsession.dev/connection": "true", "app.kubernetes.io/managed-by": "kubectl-flow"},
    }
    listed = [{"name": "search", "secretName": "search"}, {"name": "open_ai_connection", "secretName": "open-ai-connection"}]
    assert fake.get(cluster.ENVIRONMENT, "chat")["spec"]["connections"] == listed
    assert "kubectl flow reset" in done.output
    assert "sk-1" not in done.output


def test_without_a_terminal_nobody_is_asked(fake, tmp_path):
    path = written(tmp_path, "name: c\ntype: azure_open_ai\napi_base: https://x\n")
    assert str(typed("create", "-f", path).exception) == "api_key is missing, and nobody is here to ask: pipe it in with --stdin"
    assert "standard input has no api_key" in str(typed("create", "-f", path, "--stdin").exception)
    assert "has no name: give one by --name" in str(typed("create", "-f", written(tmp_path, "type: open_ai")).exception)
    assert "calls" not in fake.__dict__


def test_one_that_is_there_is_replaced_when_that_is_agreed_to(fake, tmp_path):
    secret(fake, type="open_ai", api_key="old")
    environment(fake, "chat", "open_ai_connection")
    path = written(tmp_path, "name: open_ai_connection\ntype: open_ai\napi_key: sk-1\n")
    refused = str(typed("create", "-f", path).exception)
    assert "There is a connection open-ai-connection already, which the environment chat uses. Replace it?" in refused
    assert typed("create", "-f", path, "--yes").exception is None
    assert fake.calls[0][0][0] == "replace"
    secret(fake, labels={})
    assert "it is no connection: give this one another --name" in str(typed("create", "-f", path, "--yes").exception)


def test_the_environment_of_another_owner_is_asked_about(fake, tmp_path):
    environment(fake, "team", owner="bob@example.com")
    path = written(tmp_path, "name: c\ntype: open_ai\napi_key: sk-1\n")
    refused = str(typed("create", "-f", path, "--environment", "team").exception)
    assert "The environment team belongs to bob@example.com. Change its connections?" in refused
    assert "calls" not in fake.__dict__


def test_the_list_says_who_uses_them(fake):
    secret(fake, type="open_ai", api_key="sk-1")
    secret(fake, "odd", **{"connection.yaml": "type: [\nsk-1"})
    environment(fake, "chat", "open_ai_connection")
    shown = typed("ls").output
    assert [line.split()[:3] for line in shown.splitlines()[1:]] == [["open-ai-connection", "open_ai", "chat"], ["odd", "-", "-"]]
    assert "sk-1" not in shown


def test_a_secret_that_is_used_without_the_label_is_told_with_the_way_out(fake):
    secret(fake)
    secret(fake, "open-ai", labels={})
    environment(fake, "chat", "open_ai_connection", "open_ai", "gone")
    environment(fake, "talk", "open_ai")
    way = "kubectl label secret open-ai flowsession.dev/connection=true"
    said = [line for line in typed("ls").output.splitlines() if "not listed" in line]
    assert [line.partition(":")[0] for line in said] == ["environment chat uses Secret open-ai too, which is not listed"]
    assert way in said[0]
    assert way in str(typed("show", "open_ai").exception)


@pytest.mark.parametrize(
    "data",
    [
        {"type": "azure_open_ai", "api_base": "https://x", "api_key": "sk-1", "api_kye": "sk-1"},
        {"connection.yaml": "type: azure_open_ai\napi_base: https://x\napi_key: sk-1\napi_kye: sk-1\n"},
        {"type": "custom", "configs.api_base": "https://x", "secrets.token": "sk-1", "other": "sk-1"},
        {"api_base": "sk-1", "type": "sk-1"},
    ],
)
def test_secrets_are_hidden_and_so_is_what_the_type_has_not(fake, data):
    secret(fake, **data)
    shown = typed("show", "open_ai_connection").output
    assert "used by" in shown
    assert connections.HIDDEN in shown
    assert ("https://x" in shown) is ("https://x" in str(data))
    assert "sk-1" not in shown


def test_who_uses_it_is_told_before_it_is_deleted(fake):
    secret(fake)
    for name in ("chat", "other"):
        environment(fake, name, "open_ai_connection")
    refused = str(typed("rm", "open_ai_connection").exception)
    assert refused.startswith("Delete the connection open-ai-connection, which the environments chat, other use?")
    assert fake.deleted == []
    assert typed("rm", "open-ai-connection", "-y").exception is None
    assert fake.deleted == [("secret", "open-ai-connection")]
    assert "there is no connection nothing; there is open-ai-connection" in str(typed("show", "nothing").exception)
