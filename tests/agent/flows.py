"""Flows for the tests of the check: valid ones, modeled on prompt flow's own examples, and invalid ones with one fault each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from textwrap import dedent
from typing import Any

TOOL = "from promptflow.core import tool\n\n\n@tool\ndef run(text: str) -> str:\n    return text.upper()\n"
DAG = """\
inputs:
  text: {type: string, default: hello}
outputs:
  answer: {type: string, reference: "${shout.output}"}
nodes:
- name: shout
  type: python
  source: {type: code, path: shout.py}
  inputs: {text: "${inputs.text}"}
"""
LLM = """\
- name: ask
  type: llm
  source: {type: code, path: ask.jinja2}
  inputs: {deployment_name: gpt-4o, max_tokens: "256", temperature: 0.2, question: "${inputs.text}"}
  connection: aoai
  api: chat
"""


def prompty(
    configuration: str = "{type: azure_openai, connection: aoai, azure_deployment: gpt}",
    *,
    parameters: str = "  parameters: {max_tokens: 12}\n",
    model: str = "",
    inputs: str = "{text: {type: string, default: hi}}",
    template: str = "system:\nHelp.\n\nuser:\n{{text}}\n",
) -> dict[str, str]:
    """Return a flow folder with a prompty composed of these parts."""
    model = model or f"model:\n  api: chat\n  configuration: {configuration}\n{parameters}"
    return {"chat.prompty": f"---\nname: Chat\n{model}inputs: {inputs}\n---\n{template}"}


def flex(text: str, flow: str = "entry: entry:main\n") -> dict[str, str]:
    """Return a flow folder with a flex flow of one file."""
    return {"flow.flex.yaml": flow, "entry.py": text}


@dataclass(frozen=True)
class Good:
    """A flow that prompt flow runs with `inputs` and its defaults. With `load`, it is only loaded, since running it needs a service."""

    name: str
    files: Mapping[str, str]
    load: bool = False
    file: str = "flow.dag.yaml"
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bad:
    """A flow that doesn't run: the code of its problem, its place, words of its message. `early`: reading the flow is enough to find it.
    `load`: loading the flow with prompt flow is enough to make it fail."""

    name: str
    files: Mapping[str, str]
    code: str
    words: tuple[str, ...]
    node: str = ""
    where: str = "flow.dag.yaml"
    line: int | None = None
    early: bool = True
    load: bool = False
    file: str = "flow.dag.yaml"


def files(dag: str = DAG, **others: str) -> dict[str, str]:
    """Return a flow folder. `shout_py` stands for shout.py, `__` for `/`."""
    return {"flow.dag.yaml": dedent(dag)} | {
        name.replace("__", "/")[::-1].replace("_", ".", 1)[::-1]: dedent(text) for name, text in others.items()
    }


def with_tool(text: str, dag: str = DAG, **others: str) -> dict[str, str]:
    return files(dag, shout_py=dedent(text), **others)


def dag(*, inputs: str = "text: {type: string, default: hello}", outputs: str = "", nodes: str = "", rest: str = "") -> str:
    """Return a flow file composed of these parts."""
    indented = "\n".join(f"  {line}" for line in inputs.splitlines())
    shown = "\n".join(f"  {line}" for line in (outputs or 'answer: {type: string, reference: "${shout.output}"}').splitlines())
    return f"inputs:\n{indented}\noutputs:\n{shown}\nnodes:\n{dedent(nodes)}{dedent(rest)}"


NODE = '- {name: shout, type: python, source: {type: code, path: shout.py}, inputs: {text: "${inputs.text}"}}\n'

GOOD = [
    Good("one tool", files(shout_py=TOOL)),
    Good(
        "chat with a model",
        files(
            dag(
                inputs="text: {type: string, default: hi, is_chat_input: true}\nchat_history: {type: list, default: [], is_chat_history: true}",
                outputs='answer: {type: string, reference: "${ask.output}", is_chat_output: true}',
                nodes=LLM.replace("question:", 'chat_history: "${inputs.chat_history}", question:'),
            ),
            ask_jinja2="""\
                system:
                You are helpful.
                {% for item in chat_history %}
                user:
                {{item.inputs.question}}
                assistant:
                {{item.outputs.answer}}
                {% endfor %}
                user:
                {{question}}
                """,
        ),
        load=True,
    ),
    Good(
        "evaluation with an aggregation",
        files(
            dag(
                inputs="groundtruth: {type: string, default: a}\nprediction: {type: string, default: a}",
                outputs='grade: {type: string, reference: "${grade.output}"}',
                nodes="""\
                    - name: grade
                      type: python
                      source: {type: code, path: grade.py}
                      inputs: {groundtruth: "${inputs.groundtruth}", prediction: "${inputs.prediction}"}
                    - name: aggregate
                      type: python
                      source: {type: code, path: aggregate.py}
                      inputs: {processed_results: "${grade.output}"}
                      aggregation: true
                    """,
            ),
            grade_py="from promptflow.core import tool\n\n@tool\ndef grade(groundtruth: str, prediction: str):\n    return str(groundtruth == prediction)\n",
            aggregate_py="""\
                from typing import List

                from promptflow.core import log_metric, tool


                @tool
                def aggregate(processed_results: List[str]):
                    log_metric("accuracy", processed_results.count("True"))
                    return len(processed_results)
                """,
        ),
    ),
    Good(
        "python, prompt and llm, nodes in any order",
        files(
            dag(outputs='answer: {type: string, reference: "${ask.output}"}', nodes=LLM.replace("${inputs.text}", "${words.output}"))
            + '- {name: words, type: prompt, source: {type: code, path: words.jinja2}, inputs: {text: "${shout.output}"}}\n'
            + NODE,
            ask_jinja2="user:\n{{question}}\n",
            words_jinja2="Say {{ text | upper }} {% if other %}never{% endif %}\n",
            shout_py=TOOL,
        ),
        load=True,
    ),
    Good(
        "prompt node",
        files(
            dag(
                outputs='answer: {type: string, reference: "${words.output}"}',
                nodes='- {name: words, type: prompt, source: {type: code, path: words.jinja2}, inputs: {text: "${inputs.text}"}}\n',
            ),
            words_jinja2="Say {{ text }} to {{ nobody }}\n",
        ),
    ),
    Good(
        "variants",
        files(
            dag(
                nodes="- {name: shout, use_variants: true}\n",
                rest="""\
                    node_variants:
                      shout:
                        default_variant_id: loud
                        variants:
                          loud:
                            node: {type: python, source: {type: code, path: shout.py}, inputs: {text: "${inputs.text}"}}
                          broken:
                            node: {type: python, source: {type: code, path: nowhere.py}, inputs: {}}
                    """,
            ),
            shout_py=TOOL,
        ),
    ),
    Good(
        "conditions, and a node without its inputs that is never run",
        files(
            dag(
                nodes=NODE
                + """\
                - name: never
                  type: python
                  source: {type: code, path: shout.py}
                  inputs: {}
                  activate: {when: "${shout.output}", is: nothing}
                - name: after
                  type: python
                  source: {type: code, path: after.py}
                  inputs: {a: "${shout.output}", b: "${never.output}"}
                """.replace("                ", "")
            ),
            shout_py=TOOL,
            after_py="from promptflow.core import tool\n\n@tool\ndef after(a, b=None):\n    return [a, b]\n",
        ),
    ),
    Good(
        "package tools, a function and a class",
        files(
            dag(
                outputs='answer: {type: list, reference: "${embed.output}"}',
                nodes="""\
                    - name: embed
                      type: python
                      source: {type: package, tool: promptflow.tools.embedding.embedding}
                      inputs: {connection: aoai, deployment_name: ada, input: "${inputs.text}"}
                    - name: find
                      type: python
                      source: {type: package, tool: promptflow.tools.serpapi.SerpAPI.search}
                      inputs: {connection: serp, query: "${inputs.text}", num: "5"}
                    """,
            )
        ),
        load=True,
    ),
    Good(
        "an assistant with tools of its own",
        files(
            dag(
                inputs="text: {type: string, default: hi}\nthread_id: {type: string, default: ''}",
                nodes="""\
                    - name: shout
                      type: python
                      source: {type: code, path: shout.py}
                      inputs:
                        conn: aoai
                        content: ${inputs.text}
                        thread_id: ${inputs.thread_id}
                        definition: assistant.yaml
                    """,
            ),
            shout_py="""\
                from typing import Union

                from promptflow.connections import AzureOpenAIConnection, OpenAIConnection
                from promptflow.contracts.types import AssistantDefinition
                from promptflow.core import tool


                @tool
                async def run(conn: Union[AzureOpenAIConnection, OpenAIConnection], content: str, thread_id: str, definition: AssistantDefinition):
                    return thread_id
                """,
            assistant_yaml="""\
                model: gpt-4
                instructions: Help.
                tools:
                - type: code_interpreter
                - type: function
                  tool_type: python
                  source: {type: code, path: weather.py}
                """,
            weather_py="from promptflow.core import tool\n\n@tool\ndef weather(place: str):\n    return place\n",
        ),
        load=True,
    ),
    Good(
        "old words",
        files(
            DAG.replace("${inputs.text}", "${flow.text}").replace("type: code, ", ""),
            shout_py=TOOL.replace("promptflow.core", "promptflow"),
        ),
    ),
    Good(
        "a class as a tool",
        with_tool(
            """\
            from promptflow.core import ToolProvider, tool


            class Shouter(ToolProvider):
                def __init__(self, mark: str = "!"):
                    super().__init__()
                    self.mark = mark

                @tool
                def shout(self, text: str, times: int = 1) -> str:
                    return text + self.mark * times
            """,
            DAG.replace('{text: "${inputs.text}"}', '{mark: "?", text: "${inputs.text}", times: "3"}'),
        ),
    ),
    Good(
        "keywords of any name, keyword-only ones and defaults",
        with_tool(
            "from promptflow.core import tool\n\n\n@tool\ndef run(text, *, loud: bool = True, **more):\n    return [text, loud, more]\n",
            DAG.replace('{text: "${inputs.text}"}', '{text: "${inputs.text}", loud: "true", other: 3, third: [1, {a: b}]}'),
        ),
    ),
    Good(
        "a tool by another name",
        with_tool("from promptflow.core import tool as step\n\n\n@step(name='x')\ndef run(text):\n    return text\n"),
    ),
    Good("a tool by its module", with_tool("import promptflow.core as pf\n\n\n@pf.tool\ndef run(text):\n    return text\n")),
    Good(
        "a tool without a decorator's sign",
        with_tool("from promptflow.core import tool\n\n\ndef plain(text):\n    return text\n\n\nrun = tool(plain)\n"),
    ),
    Good(
        "another decorator below",
        with_tool(
            """\
            import functools

            from promptflow.core import tool


            def given(name):
                def decorate(function):
                    @functools.wraps(function)
                    def inner(text):
                        return function(text, **{name: 1})

                    return inner

                return decorate


            @tool
            @given("number")
            def run(text, number):
                return text * number
            """
        ),
    ),
    Good(
        "tools that are imported count for nothing",
        with_tool(
            "from promptflow.core import tool\nfrom helpers import helper\n\n\n@tool\ndef run(text):\n    return helper(text=text)\n",
            helpers_py="from promptflow.core import tool\n\n\n@tool\ndef helper(text):\n    return text\n",
        ),
    ),
    Good(
        "another library's decorator of the same name",
        with_tool(
            "from promptflow.core import tool\nimport other\n\n\n@other.tool\ndef first(text):\n    return text\n\n\n@tool\ndef run(text):\n    return text\n",
            other_py="def tool(function):\n    return function\n",
        ),
    ),
    Good(
        "modules that may be missing",
        with_tool(
            """\
            from promptflow.core import tool

            try:
                import not_installed_anywhere
            except ImportError:
                not_installed_anywhere = None
            if not_installed_anywhere:
                import neither_this


            @tool
            def run(text):
                if not text:
                    import nor_that
                return text
            """
        ),
    ),
    Good(
        "modules of a folder that the code puts on its path",
        with_tool(
            """\
            import os
            import sys

            from promptflow.core import tool

            sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
            import deep


            @tool
            def run(text):
                return deep.deep(text)
            """,
            lib__deep_py="def deep(text):\n    return text\n",
        ),
    ),
    Good(
        "packages of the folder, with and without __init__",
        with_tool(
            "from promptflow.core import tool\nfrom one.inner import f\nimport two.inner\n\n\n@tool\ndef run(text):\n    return f(two.inner.g(text))\n",
            one____init___py="",
            one__inner_py="from .more import f\n",
            one__more_py="def f(x):\n    return x\n",
            two__inner_py="def g(x):\n    return x\n",
        ),
    ),
    Good(
        "data that is read at the import",
        with_tool(
            """\
            import json
            from pathlib import Path

            from promptflow.core import tool

            TABLE = json.loads((Path(__file__).parent / "table.json").read_text())
            SAME = json.loads(Path("table.json").read_text())


            @tool
            def run(text):
                return TABLE.get(text, SAME)
            """,
            table_json='{"a": 1}',
        ),
    ),
    Good("an async tool", with_tool("from promptflow.core import tool\n\n\n@tool\nasync def run(text: str) -> str:\n    return text\n")),
    Good("a streaming tool", with_tool("from promptflow.core import tool\n\n\n@tool\ndef run(text: str):\n    yield text\n")),
    Good(
        "keys that prompt flow doesn't know, comments, anchors and environment",
        with_tool(
            TOOL,
            "$schema: https://example.com/x.json\nid: x\ndisplay_name: X # a comment\nsomething: else\n"
            "environment: {python_requirements_txt: requirements.txt}\nenvironment_variables: {LEVEL: 3, MODE: fast}\nadditional_includes: []\n"
            + DAG.replace('{text: "${inputs.text}"}', '&i {text: "${inputs.text}"}'),
        ),
    ),
    Good(
        "an environment variable at the import",
        with_tool("import os\n\n" + TOOL + '\nassert os.environ["LEVEL"] == "3"\n', DAG + "environment_variables: {LEVEL: 3}\n"),
    ),
    Good(
        "nothing goes in",
        with_tool(
            "from promptflow.core import tool\n\n\n@tool\ndef run():\n    return 1\n",
            DAG.replace("  text: {type: string, default: hello}\n", "").replace('  inputs: {text: "${inputs.text}"}\n', ""),
        ),
    ),
    Good(
        "literals of every type",
        with_tool(
            "from promptflow.core import tool\n\n\n@tool\ndef run(i: int, d: float, b: bool, l: list, o: dict, s: str, t: object, n=None):\n    return [i, d, b, l, o, s, t]\n",
            DAG.replace(
                '{text: "${inputs.text}"}', "{i: '3', d: 4, b: 'False', l: '[1]', o: '{\"a\": 1}', s: 5, t: '$5 and ${not one', n: ''}"
            ),
        ),
    ),
    Good(
        "an input that is not given is left to the default",
        with_tool(
            "from promptflow.core import tool\n\n\n@tool\ndef run(text: str = 'x', n: int = 1):\n    return text\n",
            DAG.replace('{text: "${inputs.text}"}', "{text: '', n: , gone: ''}"),
        ),
    ),
    Good(
        "one file for two nodes",
        files(
            DAG + '- {name: again, type: python, source: {type: code, path: shout.py}, inputs: {text: "${shout.output}"}}\n', shout_py=TOOL
        ),
    ),
    Good("what no node names may be broken", files(shout_py=TOOL, junk_py="def (:\n", junk_jinja2="{% if %}")),
    Good(
        "a name with spaces, in a folder",
        files(DAG.replace("path: shout.py", "path: my tools/shout it.py")) | {"my tools/shout it.py": TOOL},
    ),
    Good(
        "a part of an output, and an input as an output",
        with_tool(
            "from promptflow.core import tool\n\n\n@tool\ndef run(text: str):\n    return {'a': {'b': [text]}}\n",
            dag(
                outputs='answer: {type: string, reference: "${shout.output.a.b}"}\nsame: {type: string, reference: "${inputs.text}"}\nfixed: {type: string, reference: three}',
                nodes=NODE,
            ),
        ),
    ),
    Good(
        "an image in a prompt",
        files(
            dag(
                inputs="picture: {type: image, default: ''}",
                outputs='answer: {type: string, reference: "${words.output}"}',
                nodes='- {name: words, type: prompt, source: {type: code, path: words.jinja2}, inputs: {picture: "${inputs.picture}"}}\n',
            ),
            words_jinja2="# user:\n![image]({{picture}})\n",
        ),
        load=True,
    ),
    Good(
        "a connection of the tool's own",
        with_tool(
            "from promptflow.connections import CustomConnection\nfrom promptflow.core import tool\n\n\n@tool\ndef run(text: str, secret: CustomConnection):\n    return secret.k\n",
            DAG.replace('{text: "${inputs.text}"}', '{text: "${inputs.text}", secret: own}'),
        ),
        load=True,
    ),
    Good(
        "an empty list of nodes",
        files(dag(outputs='same: {type: string, reference: "${inputs.text}"}', nodes="").replace("nodes:\n", "nodes: []\n")),
    ),
    Good(
        "a flex function",
        {"flow.flex.yaml": "entry: entry:main\n", "entry.py": "def main(text: str = 'a') -> str:\n    return text\n"},
        file="flow.flex.yaml",
        inputs={"text": "a"},
    ),
    Good(
        "a flex class in a package",
        {
            "flow.flex.yaml": "entry: app.entry:Chat\nenvironment: {python_requirements_txt: requirements.txt}\nsample: {inputs: {text: a}}\n",
            "app/__init__.py": "",
            "app/entry.py": "class Chat:\n    def __init__(self, mark: str = '!'):\n        self.mark = mark\n\n    def __call__(self, text: str) -> str:\n        return text + self.mark\n",
        },
        file="flow.flex.yaml",
        load=True,
    ),
    Good(
        "an entry in flow.dag.yaml",
        {"flow.dag.yaml": "entry: main:answer\n", "main.py": "def answer(text: str = 'hi') -> str:\n    return text\n"},
    ),
    Good("nodes in flow.flex.yaml", {"flow.flex.yaml": DAG, "shout.py": TOOL}, file="flow.flex.yaml"),
    Good("a flex function without annotations", flex("def main(text='a'):\n    return {'a': text}\n"), file="flow.flex.yaml"),
    Good(
        "a flex function that returns a TypedDict",
        flex(
            "from typing import TypedDict\n\n\nclass Out(TypedDict):\n    n: int\n\n\ndef main(text: str = 'a') -> Out:\n    return {'n': 1}\n"
        ),
        file="flow.flex.yaml",
    ),
    Good(
        "a flex function that returns a dataclass",
        flex(
            "from dataclasses import dataclass\n\n\n@dataclass\nclass Out:\n    n: int\n\n\ndef main(text: str = 'a') -> Out:\n    return Out(1)\n"
        ),
        file="flow.flex.yaml",
    ),
    Good(
        "a flex function that may return nothing",
        flex("from typing import Optional\n\n\ndef main(text: Optional[str] = None) -> Optional[str]:\n    return text\n"),
        file="flow.flex.yaml",
    ),
    Good("a flex generator", flex("def main(text: str = 'a'):\n    yield 1\n    yield 2\n"), file="flow.flex.yaml"),
    Good(
        "numbers as YAML 1.2 has them",
        with_tool(
            "from promptflow.core import tool\n\n\n@tool\ndef run(text: int, other: int, third: float):\n    assert (text, other, third) == (8, 10, 1000.0)\n    return text\n",
            DAG.replace('{text: "${inputs.text}"}', "{text: 08, other: 010, third: 1e3}"),
        ),
    ),
    Good(
        "a byte order mark and another alphabet",
        {
            "flow.dag.yaml": "\ufeff" + DAG.replace("name: shout", "name: エコー").replace("${shout", "${エコー").replace("\n", "\r\n"),
            "shout.py": TOOL,
        },
    ),
    Good("a prompty", prompty(), file="chat.prompty"),
    Good(
        "a prompty with its own address and key",
        prompty("{type: openai, model: gpt, api_key: k, base_url: 'http://127.0.0.1:9/v1'}"),
        file="chat.prompty",
    ),
    Good("a prompty with nothing in its parameters", prompty(parameters="  parameters: {}\n"), file="chat.prompty"),
    Good(
        "a prompty whose variables are the call's parameters", prompty(template="system:\n{{max_tokens}} {{text}}\n"), file="chat.prompty"
    ),
]

BAD = [
    Bad("no YAML", files("inputs: [\n"), "NotYAML", ("not YAML",), line=2),
    Bad("a key twice", files(DAG + "inputs: {}\n"), "NotYAML", ("duplicate key",)),
    Bad("a list", files("- a\n- b\n"), "Schema", ("a list", "a mapping")),
    Bad("no nodes", files("inputs: {}\noutputs: {}\n"), "Schema", ("nodes",)),
    Bad("nodes that are no list", files(DAG.partition("nodes:")[0] + "nodes: {shout: {}}\n", shout_py=TOOL), "Schema", ("nodes is a mapping", "a list")),
    Bad("an input without a type", files(DAG.replace("{type: string, default: hello}", "{default: hello}"), shout_py=TOOL), "Schema", ("'text' has no type",), line=2),
    Bad("an input of no known type", files(DAG.replace("{type: string, default", "{type: str, default"), shout_py=TOOL), "Schema", ("'str'", "string"), line=2),
    Bad("a node without a name", files(DAG.replace("name: shout\n  type", "type")), "Schema", ("a node",), line=6),
    Bad("a node of no known type", files(DAG.replace("type: python", "type: pythn"), shout_py=TOOL), "Schema", ("'pythn'", "python"), node="shout", line=7),
    Bad("a node without a type", files(DAG.replace("  type: python\n", ""), shout_py=TOOL), "Schema", ("no type",), node="shout"),
    Bad("a node without a source", files(DAG.replace("  source: {type: code, path: shout.py}\n", "")), "SourceMissing", ("no source",), node="shout", line=6),
    Bad("a file that is not there", files(), "SourceMissing", ("'shout.py'", "not in the flow folder"), node="shout", line=8),
    Bad("two nodes of one name", files(DAG + NODE, shout_py=TOOL), "DuplicateNode", ("two nodes named 'shout'", "rename"), node="shout", line=10),
    Bad("a node that there is not", files(DAG.replace("${inputs.text}", "${whisper.output}"), shout_py=TOOL), "UnknownNode", ("'whisper'", "input 'text'"), node="shout", line=9),
    Bad("an input that there is not", files(DAG.replace("${inputs.text}", "${inputs.txt}"), shout_py=TOOL), "UnknownInput", ("'txt'", "the inputs are text"), node="shout", line=9),
    Bad("an output of no node", files(DAG.replace("${shout.output}", "${shot.output}"), shout_py=TOOL), "UnknownNode", ("output 'answer'", "'shot'", "the nodes are shout"), line=4),
    Bad("an output of no input", files(DAG.replace("${shout.output}", "${inputs.txt}"), shout_py=TOOL), "UnknownInput", ("output 'answer'", "'txt'"), line=4),
    Bad("an output of nothing", files(DAG.replace('"${shout.output}"', "''"), shout_py=TOOL), "EmptyOutput", ("'answer'", "no reference"), line=4),
    Bad(
        "nodes in a circle",
        files(DAG.replace("${inputs.text}", "${b.output}") + NODE.replace("shout,", "b,").replace("${inputs.text}", "${shout.output}"), shout_py=TOOL),
        "Cycle",
        ("circle", "shout -> b", "b -> shout"),
        node="shout",
    ),
    Bad("a node that needs itself", files(DAG.replace("${inputs.text}", "${shout.output}"), shout_py=TOOL), "Cycle", ("shout -> shout",), node="shout"),
    Bad("an aggregation as another node's input", files(DAG.replace("${inputs.text}", "${sum.output}") + NODE.replace("shout,", "sum,").replace("type: python", "type: python, aggregation: true"), shout_py=TOOL), "AggregationReference", ("'sum'", "aggregat"), node="shout"),
    Bad("an incomplete condition", files(DAG + "  activate: {when: x}\n", shout_py=TOOL), "Schema", ("when and is",), node="shout", line=10),
    Bad("a condition on no node", files(DAG + '  activate: {when: "${gone.output}", is: 1}\n', shout_py=TOOL), "UnknownNode", ("activate", "'gone'"), node="shout", line=10),
    Bad("no variants", files(DAG.replace("name: shout\n", "name: shout\n  use_variants: true\n"), shout_py=TOOL), "Variant", ("node_variants",), node="shout"),
    Bad(
        "no default variant",
        files(DAG.replace("name: shout\n", "name: shout\n  use_variants: true\n") + "node_variants: {shout: {default_variant_id: b, variants: {a: {node: {}}}}}\n", shout_py=TOOL),
        "Variant",
        ("'b'", "not among"),
        node="shout",
    ),
    Bad("inputs that are no mapping", files(DAG.replace('{text: "${inputs.text}"}', "[a]"), shout_py=TOOL), "Schema", ("inputs is a list",), node="shout", line=9),
    Bad("no Python", with_tool("def run(:\n    pass\n"), "SyntaxError", ("not Python",), node="shout", where="shout.py", line=1),
    Bad("no Python in its module", with_tool("import helpers\n" + TOOL, helpers_py="x = = 1\n"), "SyntaxError", ("not Python",), node="shout", where="helpers.py", line=1),
    Bad("no tool", with_tool("def run(text):\n    return text\n"), "NoTool", ("@tool",), node="shout", where="shout.py"),
    Bad("no tool, but its import", with_tool("from promptflow.core import tool\n\n\ndef run(text):\n    return text\n"), "NoTool", ("@tool",), node="shout", where="shout.py", early=False),
    Bad("two tools", with_tool(TOOL + "\n\n@tool\ndef other(text):\n    return text\n"), "SeveralTools", ("other, run",), node="shout", where="shout.py", line=10),
    Bad("an input too many", files(DAG.replace('{text: "${inputs.text}"}', '{text: a, volume: 3}'), shout_py=TOOL), "UnexpectedInput", ("'volume'", "it takes text"), node="shout", where="shout.py", line=5),
    Bad("an input too few", with_tool(TOOL.replace("text: str", "text: str, volume: int")), "MissingInput", ("'volume'",), node="shout", where="shout.py", line=5),
    Bad("an input that is empty", files(DAG.replace('{text: "${inputs.text}"}', "{text: ''}"), shout_py=TOOL), "MissingInput", ("'text'",), node="shout", where="shout.py", line=5),
    Bad("an input of another type", with_tool(TOOL.replace("text: str", "text: int"), DAG.replace('"${inputs.text}"', "three")), "InputType", ("'three'", "int"), node="shout", where="shout.py", early=False),
    Bad("a missing package", with_tool("import bs4\n" + TOOL), "ModuleMissing", ("No module named 'bs4'", "beautifulsoup4", "requirements"), node="shout", where="shout.py", line=1),
    Bad("a missing package of its module", with_tool("from helpers import f\n" + TOOL, helpers_py="\nimport sklearn.svm\n\nf = 1\n"), "ModuleMissing", ("scikit-learn",), node="shout", where="helpers.py", line=2),
    Bad("a missing package after the path was touched", with_tool("import sys\n\nsys.path.append('lib')\nimport not_there\n" + TOOL), "ModuleMissing", ("'not_there'", "no package is known"), node="shout", where="shout.py", line=4, early=False),
    Bad("a missing name", with_tool("from json import lods\n" + TOOL), "ImportFailed", ("ImportError", "lods"), node="shout", where="shout.py", line=1, early=False),
    Bad("an error at the import", with_tool("from helpers import f\n" + TOOL, helpers_py="def g():\n    return {}['key']\n\n\nf = g()\n"), "ImportFailed", ("KeyError: 'key'",), node="shout", where="helpers.py", line=2, early=False),
    Bad("an end at the import", with_tool(TOOL + "\nraise SystemExit(3)\n"), "ImportFailed", ("SystemExit(3)",), node="shout", where="shout.py", early=False),
    Bad("no template", files(dag(outputs='a: {type: string, reference: "${words.output}"}', nodes='- {name: words, type: prompt, source: {type: code, path: words.jinja2}, inputs: {}}\n'), words_jinja2="a\n{% if x %}\nb\n"), "TemplateSyntax", ("endif",), node="words", where="words.jinja2", line=2),
    Bad("prompt flow's own variable", files(dag(outputs='a: {type: string, reference: "${words.output}"}', nodes='- {name: words, type: prompt, source: {type: code, path: words.jinja2}, inputs: {template: x}}\n'), words_jinja2="{{ template }}\n"), "ReservedName", ("'template'",), node="words", where="words.jinja2"),
    Bad("no such connection", files(dag(outputs='a: {type: string, reference: "${ask.output}"}', nodes=LLM.replace("aoai", "aoia")), ask_jinja2="user:\n{{question}}\n"), "ConnectionMissing", ("'aoia'", "not known in this session", "is 'aoai' meant?"), node="ask", load=True),
    Bad("no connection", files(dag(outputs='a: {type: string, reference: "${ask.output}"}', nodes=LLM.replace("  connection: aoai\n", "")), ask_jinja2="user:\n{{question}}\n"), "ConnectionMissing", ("names no connection",), node="ask", load=True),
    Bad("no such api", files(dag(outputs='a: {type: string, reference: "${ask.output}"}', nodes=LLM.replace("api: chat", "api: chatt")), ask_jinja2="user:\n{{question}}\n"), "UnknownApi", ("'chatt'", "chat"), node="ask", load=True, early=False),
    Bad("a connection of a tool's that there is not", with_tool("from promptflow.connections import CustomConnection\n" + TOOL.replace("text: str", "text: str, secret: CustomConnection"), DAG.replace('{text: "${inputs.text}"}', '{text: a, secret: mine}')), "ConnectionMissing", ("'secret'", "'mine'"), node="shout", where="shout.py", load=True, early=False),
    Bad("no such package tool", files(dag(nodes="- {name: shout, type: python, source: {type: package, tool: my_tools.shout.run}, inputs: {}}\n")), "PackageToolMissing", ("'my_tools.shout.run'", "requirements"), node="shout", early=False),
    Bad("a package tool's input too many", files(dag(nodes="- {name: shout, type: python, source: {type: package, tool: promptflow.tools.serpapi.SerpAPI.search}, inputs: {connection: serp, query: a, volume: 3}}\n")), "UnexpectedInput", ("'volume'",), node="shout", early=False),
    Bad("a definition of an assistant that is not there", with_tool("from promptflow.contracts.types import AssistantDefinition\n" + TOOL.replace("text: str", "text: str, d: AssistantDefinition"), DAG.replace('{text: "${inputs.text}"}', "{text: a, d: gone.yaml}")), "SourceMissing", ("'gone.yaml'",), node="shout", where="shout.py", early=False),
    Bad("a flex flow without an entry", {"flow.flex.yaml": "sample: {a: b}\n"}, "NoEntry", ("entry",), where="flow.flex.yaml", file="flow.flex.yaml"),
    Bad("a flex flow without its module", {"flow.flex.yaml": "entry: entry:main\n"}, "SourceMissing", ("'entry'", "entry.py"), where="flow.flex.yaml", line=1, file="flow.flex.yaml"),
    Bad("a flex flow without its function", {"flow.flex.yaml": "entry: entry:main\n", "entry.py": "def mian(text):\n    return text\n"}, "NoEntry", ("'main'", "it has mian"), where="flow.flex.yaml", file="flow.flex.yaml", early=False),
    Bad("a flex flow with a missing package", {"flow.flex.yaml": "entry: entry:main\n", "entry.py": "import bs4\n\n\ndef main(text):\n    return text\n"}, "ModuleMissing", ("beautifulsoup4",), where="entry.py", line=1, file="flow.flex.yaml"),
    Bad("a flex flow with an unknown key", {"flow.flex.yaml": "entry: entry:main\nnodse: []\n", "entry.py": "def main(text):\n    return text\n"}, "Refused", ("nodse",), where="flow.flex.yaml", file="flow.flex.yaml", early=False),
    Bad("a prompty without a head", {"chat.prompty": "user:\nhi\n"}, "Schema", ("---",), where="chat.prompty", file="chat.prompty", load=True),
    Bad("a prompty whose head is no YAML", {"chat.prompty": "---\na: [\n---\nuser:\nhi\n"}, "NotYAML", ("not YAML",), where="chat.prompty", file="chat.prompty", load=True),
    Bad("a relative import", with_tool("from .helper import shout\n" + TOOL, helper_py="def shout(x):\n    return x\n"), "RelativeImport", ("`from .helper import shout`", "`from helper import shout`"), node="shout", where="shout.py", line=1),
    Bad("a relative import in a module", with_tool("import helper\n" + TOOL, helper_py="from . import other\n", other_py=""), "RelativeImport", ("`from . import other`", "`import other`"), node="shout", where="helper.py", line=1),
    Bad("a relative import in a flex flow", flex("from .other import f\n\n\ndef main(text: str = 'a') -> str:\n    return f(text)\n"), "RelativeImport", ("`from other import f`",), where="entry.py", line=1, file="flow.flex.yaml"),
    Bad("a module that an installed package has no more", with_tool("from jinja2.gone import f\n" + TOOL), "ModuleMissing", ("'jinja2.gone'", "Jinja2 3", "which is installed", "Jinja2<3"), node="shout", where="shout.py", line=1, early=False),
    Bad("a name that an installed package has no more", with_tool("from jinja2 import Gone\n" + TOOL), "ImportFailed", ("'Gone'", "Jinja2 3", "is installed", "Jinja2<3"), node="shout", where="shout.py", line=1, early=False),
    Bad("a file that stayed behind", with_tool("from config import KEY\n" + TOOL, config_example_py="KEY = 1\n"), "ModuleMissing", ("config_example.py", "no config.py", "add that file"), node="shout", where="shout.py", line=1),
    Bad("a file of one's own that stayed behind", with_tool("from settings import KEY\n" + TOOL), "ModuleMissing", ("no package is known", "settings.py"), node="shout", where="shout.py", line=1),
    Bad("a module that nobody knows", with_tool("import frobnicate_7\n" + TOOL), "ModuleMissing", ("no package is known", "frobnicate_7.py"), node="shout", where="shout.py", line=1),
    Bad("a misspelt module", with_tool("import pandsa\n" + TOOL), "ModuleMissing", ("is 'pandas' meant?",), node="shout", where="shout.py", line=1),
    Bad("a module hidden by a file", with_tool("import tqdm.auto\n" + TOOL, tqdm_py=""), "ModuleMissing", ("tqdm.py of the flow folder hides",), node="shout", where="shout.py", line=1, early=False),
    Bad("a module that the folder's package lacks", with_tool("import rag.search\n" + TOOL, rag____init___py=""), "ModuleMissing", ("rag of the flow folder has no search", "rag/search.py"), node="shout", where="shout.py", line=1, early=False),
    Bad("a part of a namespace", with_tool("import azure.search.documents\n" + TOOL), "ModuleMissing", ("add azure-search-documents to the requirements",), node="shout", where="shout.py", line=1, early=False),
    Bad("an annotation that a flex flow may not return", flex("class Out:\n    pass\n\n\ndef main(text: str = 'a') -> Out:\n    return Out()\n"), "BadInterface", ("return annotation", "dataclass, TypedDict or string"), where="entry.py", line=5, file="flow.flex.yaml", early=False),
    Bad("a flex function that returns a dict", flex("def main(text: str = 'a') -> dict:\n    return {}\n"), "BadInterface", ("return annotation", "dict"), where="entry.py", line=1, file="flow.flex.yaml", early=False),
    Bad("a flex function that takes an object", flex("class In:\n    pass\n\n\ndef main(text: In = None) -> str:\n    return ''\n"), "BadInterface", ("input 'text'",), where="entry.py", line=5, file="flow.flex.yaml", early=False),
    Bad("an entry in flow.dag.yaml that is none", {"flow.dag.yaml": "entry: main\n", "main.py": "def answer(text='hi'):\n    return text\n"}, "NoEntry", ("'main'", "flow_entry:main"), line=1),
    Bad("a node that refers to another one, which there is not", files(DAG.replace("${inputs.text}", "${other.output}"), shout_py=TOOL), "UnknownNode", ("'other'", "the flow has no other nodes"), node="shout"),
    Bad("a variable with the name of a parameter", files(dag(outputs='a: {type: string, reference: "${ask.output}"}', nodes=LLM), ask_jinja2="user:\n{{question}} in {{max_tokens}} words\n"), "ReservedName", ("'max_tokens'", "AzureOpenAI.chat"), node="ask", where="ask.jinja2", load=True, early=False),
    Bad("a model's parameter of another type", files(dag(outputs='a: {type: string, reference: "${ask.output}"}', nodes=LLM.replace("0.2", "hot")), ask_jinja2="user:\n{{question}}\n"), "InputType", ("'temperature'", "'hot'"), node="ask", load=True, early=False),
    Bad("a connection that is for no model", files(dag(outputs='a: {type: string, reference: "${ask.output}"}', nodes=LLM.replace("aoai", "serp")), ask_jinja2="user:\n{{question}}\n"), "ConnectionType", ("'serp'", "Serp"), node="ask", load=True, early=False),
    Bad("a prompty with an unknown connection", prompty("{type: azure_openai, connection: nowhere, azure_deployment: gpt}"), "ConnectionMissing", ("'nowhere'",), where="chat.prompty", line=5, file="chat.prompty"),
    Bad("a prompty with a connection of another kind", prompty("{type: azure_openai, connection: serp, azure_deployment: gpt}"), "ConnectionType", ("'serp'", "Serp"), where="chat.prompty", line=5, file="chat.prompty"),
    Bad("a prompty without parameters", prompty(parameters=""), "Schema", ("model.parameters is missing", "parameters: {}"), where="chat.prompty", line=3, file="chat.prompty"),
    Bad("a prompty with empty parameters", prompty(parameters="  parameters:\n"), "Schema", ("model.parameters is empty",), where="chat.prompty", line=6, file="chat.prompty"),
    Bad("a prompty without a model", prompty(model="description: x\n"), "Schema", ("no model",), where="chat.prompty", file="chat.prompty"),
    Bad("a prompty without a configuration", prompty(model="model: {parameters: {}}\n"), "Schema", ("model.configuration is missing",), where="chat.prompty", line=3, file="chat.prompty"),
    Bad("a prompty with an unknown key in its model", prompty(parameters="  parameters: {}\n  nonsense: 1\n"), "Schema", ("model.nonsense",), where="chat.prompty", line=7, file="chat.prompty"),
    Bad("a prompty with a provider that there is not", prompty("{type: cohere, model: x}"), "ConnectionType", ("'cohere'", "azure_openai or openai"), where="chat.prompty", line=5, file="chat.prompty"),
    Bad("a prompty with neither connection nor key", prompty("{type: openai, model: gpt}"), "EnvironmentMissing", ("OPENAI_API_KEY", "name a connection"), where="chat.prompty", line=5, file="chat.prompty"),
    Bad("a prompty whose environment variable is not set", prompty("{type: openai, model: gpt, api_key: '${env:NO_SUCH_KEY}'}"), "EnvironmentMissing", ("NO_SUCH_KEY", "spec.env"), where="chat.prompty", line=5, file="chat.prompty"),
    Bad("a prompty whose template is none", prompty(template="system:\n{% if %}\n"), "TemplateSyntax", ("xpression",), where="chat.prompty", line=10, file="chat.prompty"),
    Bad("a prompty's input without a type", prompty(inputs="{text: {default: hi}}"), "Schema", ("'text' has no type",), where="chat.prompty", line=7, file="chat.prompty"),
    Bad("a prompty's input of no known type", prompty(inputs="{text: {type: str, default: hi}}"), "Schema", ("'str'", "string"), where="chat.prompty", line=7, file="chat.prompty"),
    Bad("a relative import in a flex flow of a package", {"flow.flex.yaml": "entry: app.entry:main\n", "app/__init__.py": "", "app/entry.py": "from .other import f\n\n\ndef main(text: str = 'a') -> str:\n    return f(text)\n", "app/other.py": "def f(x):\n    return x\n"}, "RelativeImport", ("`from other import f`",), where="app/entry.py", line=1, file="flow.flex.yaml"),
]  # fmt: skip
