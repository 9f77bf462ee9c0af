"""Cases for the comparison of FlowRuns with `pf run create`: flow, data and run.yml, one case for each feature of run.yml or of a flow."""

import json
from dataclasses import dataclass

import modelserver


@dataclass(frozen=True)
class Case:
    """A flow folder with its run.yml. `earlier` names the case whose run `run: EARLIER` in run.yml refers to."""

    files: dict[str, str]
    run: str
    earlier: str = ""
    failed: tuple[int, ...] = ()
    """The numbers of the lines that must fail."""
    words: str = ""
    """Words of the run's message, if it says more than prompt flow's."""


def python(name: str, inputs: str = 'text: "${inputs.text}"', more: str = "") -> str:
    return f"- name: {name}\n  type: python\n  source: {{type: code, path: {name}.py}}\n  inputs: {{{inputs}}}\n" + (
        f"  {more}\n" if more else ""
    )


def tool(signature: str, body: str) -> str:
    return f"import json, os\nfrom promptflow.core import log_metric, tool\n\n@tool\ndef run({signature}):\n    {body}\n"


def dag(
    nodes: str,
    *,
    inputs: str = "text: {type: string}",
    outputs: str = 'answer: {type: string, reference: "${shout.output}"}',
    more: str = "",
) -> str:
    return f"inputs:\n  {inputs}\noutputs:\n  {outputs}\n{more}nodes:\n{nodes}"


def rows(*items: object) -> str:
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)


WORDS = rows({"word": "a"}, {"word": "b"}, {"word": "c"})
SHOUT = tool("text: str", "return text.upper()")
PLAIN = {"flow.dag.yaml": dag(python("shout")), "shout.py": SHOUT, "data.jsonl": WORDS}
MAPPED = 'flow: .\ndata: data.jsonl\ncolumn_mapping: {text: "${data.word}"}\n'
COUNT = python("count", 'answers: "${shout.output}"', "aggregation: true")
COUNTED = {
    **PLAIN,
    "flow.dag.yaml": dag(python("shout") + COUNT),
    "count.py": tool("answers: list", 'log_metric("count", len(answers)); log_metric("share", 0.5); return len(answers)'),
}
TYPES = {
    "flow.dag.yaml": dag(
        python("shout", 'n: "${inputs.n}", items: "${inputs.items}", thing: "${inputs.thing}", yes: "${inputs.yes}", f: "${inputs.f}"'),
        inputs="n: {type: int}\n  items: {type: list}\n  thing: {type: object}\n  yes: {type: bool}\n  f: {type: double}",
    ),
    "shout.py": tool("n, items, thing, yes, f", "return json.dumps([n, items, thing, yes, f])"),
    "data.jsonl": rows(
        {"n": 1, "items": [1, "x"], "thing": {"a": 1}, "yes": True, "f": 1.5}, {"n": "2", "items": [], "thing": {}, "yes": "false", "f": 2}
    ),
}
ENVIRONMENT = {
    **PLAIN,
    "flow.dag.yaml": dag(python("shout"), more="environment_variables: {CASE_TONE: calm, CASE_KEPT: kept}\n"),
    "shout.py": tool("text: str", 'return " ".join([text, os.environ["CASE_TONE"], os.environ["CASE_KEPT"]])'),
}
VARIANTS = {
    **PLAIN,
    "flow.dag.yaml": """\
inputs:
  text: {type: string}
outputs:
  answer: {type: string, reference: "${shout.output}"}
nodes:
- {name: shout, use_variants: true}
node_variants:
  shout:
    default_variant_id: quiet
    variants:
      quiet: {node: {type: python, source: {type: code, path: mark.py}, inputs: {text: "${inputs.text}", mark: "."}}}
      loud: {node: {type: python, source: {type: code, path: mark.py}, inputs: {text: "${inputs.text}", mark: "!"}}}
""",
    "mark.py": tool("text: str, mark: str", "return text + mark"),
}
FLEX = {"flow.flex.yaml": "entry: main:answer\n", "main.py": "def answer(text: str) -> str:\n    return text * 2\n", "data.jsonl": WORDS}
CLASS = {
    "flow.flex.yaml": "entry: main:Flow\n",
    "main.py": """\
class Flow:
    def __init__(self, times: int = 1):
        self.times = times

    def __call__(self, text: str) -> dict:
        return {"answer": text * self.times, "times": self.times}

    def __aggregate__(self, line_results: list) -> dict:
        return {"lines": len(line_results), "times": self.times}
""",
    "init.json": '{"times": 4}',
    "data.jsonl": WORDS,
}
LLM = {**modelserver.FLOW, "data.jsonl": WORDS}
ASKED = MAPPED.replace("{text:", "{question:")
ACTIVATE = 'activate: {when: "${inputs.text}", is: b}'

CASES: dict[str, Case] = {
    "plain": Case(PLAIN, MAPPED),
    "csv": Case({**PLAIN, "d.csv": 'word,n\na,1\n"b,c",2\n'}, MAPPED.replace("data.jsonl", "d.csv")),
    "tsv": Case({**PLAIN, "d.tsv": "word\tn\na\t1\nb c\t2\n"}, MAPPED.replace("data.jsonl", "d.tsv")),
    "metrics": Case(COUNTED, MAPPED),
    "metric that is no number": Case(
        {**COUNTED, "count.py": tool("answers: list", 'log_metric("m", float("nan")); log_metric("w", float("inf"))')}, MAPPED
    ),
    "failed lines": Case({**COUNTED, "shout.py": tool("text: str", "return {'a': 'x', 'c': 'y'}[text]")}, MAPPED, failed=(1,)),
    "default variant": Case(VARIANTS, MAPPED),
    "variant": Case(VARIANTS, MAPPED + "variant: ${shout.loud}\n"),
    "environment variables": Case(ENVIRONMENT, MAPPED + "environment_variables: {CASE_TONE: shrill}\n"),
    "file of environment variables": Case(
        {**ENVIRONMENT, "e.env": "# x\nCASE_TONE='good day'\nexport CASE_KEPT=now\n"}, MAPPED + "environment_variables: e.env\n"
    ),
    "flow's own environment variables": Case(ENVIRONMENT, MAPPED),
    "activate": Case({**PLAIN, "flow.dag.yaml": dag(python("shout", more=ACTIVATE))}, MAPPED),
    "one of two nodes": Case(
        {
            **PLAIN,
            "flow.dag.yaml": dag(
                python("b", more=ACTIVATE)
                + python("other", more='activate: {when: "${inputs.text}", is: a}')
                + python("shout", 'x: "${b.output}", y: "${other.output}"')
            ),
            "b.py": SHOUT,
            "other.py": SHOUT,
            "shout.py": tool("x=None, y=None", "return f'{x}/{y}'"),
        },
        MAPPED,
    ),
    "constants": Case(
        TYPES, 'flow: .\ndata: data.jsonl\ncolumn_mapping: {n: 7, items: [1, 2], thing: {k: v}, yes: "${data.yes}", f: 0.5}\n'
    ),
    "types": Case(TYPES, "flow: .\ndata: data.jsonl\n"),
    "no mapping": Case({**PLAIN, "data.jsonl": rows({"text": "a"}, {"text": "b", "more": 1})}, "flow: .\ndata: data.jsonl\n"),
    "a default for what is not there": Case(
        {**PLAIN, "flow.dag.yaml": dag(python("shout"), inputs="text: {type: string, default: none}")}, "flow: .\ndata: data.jsonl\n"
    ),
    "a column that is not there": Case(
        PLAIN,
        'flow: .\ndata: data.jsonl\ncolumn_mapping: {text: "${data.wrd}"}\n',
        words="columnMapping: data.jsonl has no column 'wrd': is 'word' meant?",
    ),
    "chain and two outputs": Case(
        {
            **PLAIN,
            "flow.dag.yaml": dag(
                python("shout") + python("size", 'text: "${shout.output}"'),
                outputs='answer: {type: string, reference: "${shout.output}"}\n  size: {type: int, reference: "${size.output.n}"}',
            ),
            "size.py": tool("text: str", 'return {"n": len(text)}'),
        },
        MAPPED,
    ),
    "async tool": Case(
        {
            **PLAIN,
            "shout.py": SHOUT.replace("def run", "async def run")
            .replace("return", "await asyncio.sleep(0)\n    return")
            .replace("json", "asyncio"),
        },
        MAPPED,
    ),
    "generator": Case({**PLAIN, "shout.py": tool("text: str", "yield from (text, '-', text)")}, MAPPED),
    "prompt node": Case(
        {
            **PLAIN,
            "flow.dag.yaml": dag(
                '- name: shout\n  type: prompt\n  source: {type: code, path: p.jinja2}\n  inputs: {text: "${inputs.text}"}\n'
            ),
            "p.jinja2": "{% for x in text %}<{{x}}>{% endfor %}\n",
        },
        MAPPED,
    ),
    "unicode and blank lines": Case(
        {**PLAIN, "data.jsonl": "\n" + rows({"word": "Grüße 日本"}) + "\n\n" + rows({"word": "\u2028x"})}, MAPPED
    ),
    "lines without a word": Case({**PLAIN, "data.jsonl": rows({"word": "a"}, {"word": ""}, {"word": None})}, MAPPED),
    "flex flow": Case(FLEX, MAPPED),
    "class": Case(CLASS, MAPPED),
    "class with arguments": Case(CLASS, MAPPED + "init: {times: 3}\n"),
    "class with a file of arguments": Case(CLASS, MAPPED + "init: init.json\n"),
    "language model": Case(LLM, ASKED),
    "another connection": Case(LLM, ASKED + "connections: {ask: {connection: other_connection, model: large}}\n"),
    "a connection's key in a variable": Case(ENVIRONMENT, MAPPED + 'environment_variables: {CASE_TONE: "${other_connection.base_url}"}\n'),
    "evaluation": Case(
        {
            "flow.dag.yaml": dag(
                python("shout", 'answer: "${inputs.answer}", word: "${inputs.word}"')
                + python("count", 'grades: "${shout.output}"', "aggregation: true"),
                inputs="answer: {type: string}\n  word: {type: string}",
            ),
            "shout.py": tool("answer: str, word: str", "return 'good' if answer == word.upper() else 'bad'"),
            "count.py": tool("grades: list", 'log_metric("accuracy", grades.count("good") / len(grades))'),
        },
        'flow: .\nrun: EARLIER\ncolumn_mapping: {answer: "${run.outputs.answer}", word: "${run.inputs.word}"}\n',
        earlier="plain",
    ),
    "evaluation with data of its own": Case(
        {
            **PLAIN,
            "flow.dag.yaml": dag(
                python("shout", 'answer: "${inputs.answer}", truth: "${inputs.truth}"'),
                inputs="answer: {type: string}\n  truth: {type: string}",
            ),
            "shout.py": tool("answer: str, truth: str", "return answer + truth"),
            "truth.jsonl": rows({"t": "1"}, {"t": "2"}, {"t": "3"}),
        },
        'flow: .\nrun: EARLIER\ndata: truth.jsonl\ncolumn_mapping: {answer: "${run.outputs.answer}", truth: "${data.t}"}\n',
        earlier="failed lines",
    ),
}
