"""A run's spec takes precedence over its run.yml, which is validated by the same rules."""

from typing import Any

import pytest

from flowsession.engine.store import objects

OWN = {"user": "ada", "environmentRef": {"name": "chat"}}


def run(yaml: str, **spec: Any) -> objects.RunEntry:
    return objects.run({"metadata": {"name": "r", "namespace": "n"}, "spec": {**OWN, "runYaml": yaml, **spec}})


def test_a_spec_wins_over_run_yaml() -> None:
    entry = run("data: a.jsonl\nvariant: ${a.b}\nenvironment_variables: e.env\nruntime: box\nx: 1", data={"path": "b.jsonl"})
    assert entry.spec.data is not None
    assert (entry.spec.data.path, entry.spec.variant, entry.yaml.environment_file, entry.problem) == ("b.jsonl", "${a.b}", "e.env", "")
    assert entry.spec.session_ref is not None
    assert (entry.spec.session_ref.name, entry.yaml.warnings) == ("box", ("run.yml: 'x' is no field of a run",))
    assert run("data: a.jsonl\nenvironment_variables: e.env", environmentVariables={"A": "b"}).yaml.environment_file == ""
    managed = {"type": "Managed", "serviceAccountName": "team"}
    assert run("data: a.jsonl\nidentity: {type: managed}", identity=managed).spec.identity is not None


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        ("variant: ${x.y}", "run.yml names neither data nor run"),
        ("data: a.jsonl\nvariant: x", "run.yml: 'x' is no variant: A node's variant to run, such as \"${answer.variant_1}\""),
        ("run: Big_Run", "run.yml: 'Big_Run' is no run: An earlier FlowRun of the same user"),
        ("data: a\nruntime: My_Session", "run.yml: 'My_Session' is no sessionRef.name: The session to run in"),
        ("data: ../a", "lies outside"),
        ("data: a\nidentity: {type: managed, client_id: ab}", "add identity: {type: Managed, clientID: ab} to it"),
        ("data: a\nresources: {compute: a, instance_type: b}", "leave instance_type out"),
    ],
)
def test_a_run_yaml_that_can_not_be_used(yaml: str, says: str) -> None:
    entry = run(yaml)
    assert says in entry.problem
    assert entry.spec.run_yaml == yaml
