"""Which inputs, nodes and variants a flow has, found in its files."""

import pytest

from flowsession_agent.session import flow_inputs

DAG = "inputs:\n  customer: {type: string, default: Grace}\n  subject: {type: string}\nnodes: []\n"
PROMPTY = "---\nname: x\ninputs: {text: {type: string}}\n---\nuser:\n{{text}}\n"


def sentence(tmp_path, files, given, flow):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    refused = flow_inputs.refusal(str(tmp_path / flow), given)
    return refused["message"] if refused else ""


@pytest.mark.parametrize(
    ("files", "given", "words"),
    [
        ({"flow.dag.yaml": DAG}, ["subject", "custmer"], "'custmer': is 'customer' meant? Its inputs are customer, subject."),
        ({"flow.dag.yaml": "nodes: []\n"}, ["a"], "'a': it has no inputs."),
        (
            {"flow.flex.yaml": "entry: m:f\n", "m.py": "def f(text, *, n=1): pass\n"},
            ["txt"],
            "'txt': is 'text' meant? Its inputs are text, n.",
        ),
        ({"flow.flex.yaml": "entry: m:f\n", "m.py": "def f(text, **more): pass\n"}, ["other"], "'other': its inputs are text."),
        (
            {"flow.flex.yaml": "entry: m:C\n", "m.py": "class C:\n    def __call__(this, text): pass\n"},
            ["this"],
            "'this': its inputs are text.",
        ),
        ({"flow.flex.yaml": "entry: a.m:f\n", "a/m.py": "@trace\nasync def f(text): pass\n"}, ["x"], "'x': its inputs are text."),
        ({"flow.dag.yaml": "entry: m:f\n", "m.py": "def f(text): pass\n"}, ["x"], "'x': its inputs are text."),
        ({"chat.prompty": PROMPTY}, ["test"], "'test': is 'text' meant? Its inputs are text."),
        ({"chat.prompty": PROMPTY.replace("inputs: {text: {type: string}}", "sample: {text: a}")}, ["x"], "'x': its inputs are text."),
    ],
)
def test_the_first_input_that_there_is_not_is_named(files, given, words, tmp_path):
    assert sentence(tmp_path, files, given, next(iter(files))) == f"The flow has no input {words}"


@pytest.mark.parametrize(
    ("files", "given"),
    [
        ({"flow.dag.yaml": DAG}, ["subject", "customer"]),
        ({"flow.dag.yaml": "inputs: [\n"}, ["a"]),
        ({"flow.dag.yaml": "language: csharp\ninputs: {}\n"}, ["a"]),
        ({"flow.flex.yaml": "entry: m:f\n", "m.py": "from other import f\n"}, ["a"]),
        ({"flow.flex.yaml": "entry: m:f\n", "m.py": "@wrapped\ndef f(text): pass\n"}, ["a"]),
        ({"flow.flex.yaml": "entry: package:f\n"}, ["a"]),
        ({"chat.prompty": PROMPTY.replace("inputs: {text: {type: string}}", "sample: ${file:x.json}")}, ["a"]),
        ({"chat.prompty": "no head"}, ["a"]),
    ],
)
def test_what_can_not_be_told_is_left_to_prompt_flow(files, given, tmp_path):
    assert sentence(tmp_path, files, given, next(iter(files))) == ""


NODES = """
inputs: {text: {type: string}}
outputs: {}
nodes:
- name: first
  type: python
  source: {type: code, path: first.py}
  inputs: {text: "${inputs.text}", times: 2}
- name: second
  use_variants: true
node_variants:
  second:
    default_variant_id: calm
    variants:
      calm: {node: {type: python, source: {type: code, path: s.py}, inputs: {said: "${first.output}"}}}
      loud: {node: {type: python, source: {type: code, path: l.py}, inputs: {said: "${first.output}"}}}
"""


@pytest.mark.parametrize(
    ("given", "node", "variant", "code", "words"),
    [
        ([], "frist", "", "UnknownNode", "The flow has no node 'frist': is 'first' meant? Its nodes are first, second."),
        (
            ["txt"],
            "first",
            "",
            "UnknownInput",
            "The node 'first' has no input 'txt': is 'text' meant? Its inputs are text, times, inputs.text.",
        ),
        ([], "", "${second.lout}", "UnknownVariant", "is '${second.loud}' meant? Its variants are ${second.calm}, ${second.loud}."),
        ([], "", "second.loud", "UnknownVariant", "'second.loud'"),
    ],
)
def test_a_node_or_variant_that_there_is_not_is_named(given, node, variant, code, words, tmp_path):
    (tmp_path / "flow.dag.yaml").write_text(NODES)
    refused = flow_inputs.refusal(str(tmp_path / "flow.dag.yaml"), given, node=node, variant=variant)
    assert refused is not None
    assert refused["code"] == code
    assert words in refused["message"]


@pytest.mark.parametrize(
    ("given", "node", "variant"),
    [(["text", "times"], "first", ""), (["inputs.text"], "first", ""), (["first.output"], "second", ""), ([], "", "${second.loud}")],
)
def test_the_names_by_which_prompt_flow_takes_a_nodes_inputs(given, node, variant, tmp_path):
    (tmp_path / "flow.dag.yaml").write_text(NODES)
    assert flow_inputs.refusal(str(tmp_path / "flow.dag.yaml"), given, node=node, variant=variant) is None
