"""Prompt flow's run.yml as fields of a FlowRun: each field, where its relative paths lead, and the messages about what it can't have."""

from typing import Any

import pytest

from flowsession.flow.run_yaml import RunYamlError, read

WHOLE = """\
$schema: https://azuremlschemas.azureedge.net/promptflow/latest/Run.schema.json
name: nightly
display_name: Nightly
description: all questions
tags: {team: support, empty: null}
flow: web-classification
data: web-classification/data.jsonl
column_mapping:
  url: ${data.url}
  top: 3
  words: [a, b]
run: earlier
variant: ${summarize.variant_1}
environment_variables: {TONE: formal, LEVEL: 3}
connections:
  classify: {connection: other, deployment_name: gpt-4o}
init: {model: gpt-4o}
runtime: my-session
resources: {instance_type: Standard_D4s_v5}
identity: {type: managed, client_id: abc-1}
"""


def test_every_field() -> None:
    found = read(WHOLE, "")
    assert found.settings == {
        "displayName": "Nightly",
        "description": "all questions",
        "tags": {"team": "support", "empty": ""},
        "data": {"path": "data.jsonl"},
        "columnMapping": {"url": "${data.url}", "top": 3, "words": ["a", "b"]},
        "run": "earlier",
        "variant": "${summarize.variant_1}",
        "environmentVariables": {"TONE": "formal", "LEVEL": "3"},
        "connections": {"classify": {"connection": "other", "deployment_name": "gpt-4o"}},
        "init": {"model": "gpt-4o"},
        "sessionRef": {"name": "my-session"},
        "resources": {"instanceType": "Standard_D4s_v5"},
    }
    assert (found.managed, found.environment_file, found.init_file) == ("abc-1", "", "")
    assert found.warnings == ("run.yml: name is left out: a FlowRun has its own name",)


def test_files_in_place_of_mappings() -> None:
    found = read("flow: .\ndata: d.csv\nenvironment_variables: ./.env\ninit: init.json\n", "")
    assert (found.environment_file, found.init_file, found.settings) == (".env", "init.json", {"data": {"path": "d.csv"}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runtime: automatic", {}),
        ("identity: {type: user_identity}", {}),
        ("resources: {compute: box}", {"resources": {"compute": "box"}}),
        ("data:\nrun: x", {"run": "x"}),
        ("run: 2024", {"run": "2024"}),
    ],
)
def test_words_of_azure(text: str, expected: dict[str, Any]) -> None:
    found = read(text, "")
    assert (found.settings, found.managed) == (expected, None)


@pytest.mark.parametrize(
    ("text", "path", "data"),
    [
        ("data: data.jsonl", "", "data.jsonl"),
        ("flow: .\ndata: ./d/data.jsonl", "", "d/data.jsonl"),
        ("flow: flows/chat\ndata: flows/chat/data.jsonl", "", "data.jsonl"),
        ("flow: ../chat/flow.dag.yaml\ndata: ../chat/d/data.jsonl", "", "d/data.jsonl"),
        ("flow: flow.flex.yaml\ndata: data.jsonl", "", "data.jsonl"),
        ("data: ../data.jsonl", "runs/nightly.yml", "data.jsonl"),
        ("flow: ..\ndata: more.jsonl", "runs/nightly.yml", "runs/more.jsonl"),
        ("flow: .\ndata: data.jsonl", "run.yml", "data.jsonl"),
        ("flow: chat\\flow\ndata: chat\\flow\\d.jsonl", "", "d.jsonl"),
    ],
)
def test_where_paths_lead(text: str, path: str, data: str) -> None:
    assert read(text, path).settings == {"data": {"path": data}}


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("data: ../data.jsonl", "", "run.yml: data: '../data.jsonl' lies outside of the flow folder"),
        ("flow: chat\ndata: data.jsonl", "", "'data.jsonl' lies outside of the flow folder"),
        ("data: ../../data.jsonl", "runs/n.yml", "runs/n.yml: data: '../../data.jsonl' lies outside"),
        ("flow: .\ndata: d.jsonl", "runs/n.yml", "flow: '.' is not the flow folder of this environment"),
        ("flow: azureml:chat", "", "flow: 'azureml:chat' lies elsewhere: environmentRef names"),
        ("data: azureml:data:1", "", "data: 'azureml:data:1' lies elsewhere: put the file into the flow folder"),
        ("data: https://example.com/d.jsonl", "", "lies elsewhere"),
        ("data: /tmp/d.jsonl", "", "is absolute"),
        ("flow: /tmp/d", "", "is absolute"),
        ("resources: {instance_typo: x}", "", "resources: unknown key 'instance_typo': did you mean 'instance_type'?"),
        ("identity: {type: managed, client: x}", "", "identity: unknown key 'client': did you mean 'client_id'?"),
        ("identity: {type: root}", "", "identity: type 'root' is none of managed and user_identity"),
        ("column_mapping: [a]", "", "run.yml: column_mapping is a list, but must be a mapping"),
        ("tags: {a: [1]}", "", "run.yml: tags.a is a list, but must be a text"),
        ("connections: {a: b}", "", "run.yml: connections.a is a text, but must be a mapping"),
        ("a: [", "", "run.yml line 2, column 1: not YAML"),
        ("- a", "", "run.yml is a list, but must be a mapping"),
        ("column_mapping: {a: &a [1, 1, 1, 1], b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a], c: [*b, *b, *b, *b, *b], d: *b, "
         + ", ".join(f"e{i}: *b" for i in range(60)) + "}", "", "column_mapping: has more than 2,000 values"),
    ],
)  # fmt: skip
def test_what_it_can_not_have(text: str, path: str, says: str) -> None:
    with pytest.raises(RunYamlError) as caught:
        read(text, path)
    assert says in str(caught.value)


def test_unknown_fields_are_warnings() -> None:
    found = read("colum_mapping: {}\nlines: 3\n" + "".join(f"zz{i}: 1\n" for i in range(20)), "runs/n.yml")
    assert found.warnings[:2] == (
        "runs/n.yml: 'colum_mapping' is no field of a run: did you mean 'column_mapping'?",
        "runs/n.yml: 'lines' is no field of a run",
    )
    assert len(found.warnings) == 10
