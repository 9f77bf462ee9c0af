"""What `why` answers for each failure of the corpus `failures.yaml`, and that the code really writes the messages in the corpus."""

import ast
import re
import time
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from flowsession_cli import app, cluster
from flowsession_cli.errors import CliError
from unit.cli.fakes import KINDS, FakeCluster

NOW = 1_800_000_000.0
CASES = yaml.load(Path(__file__).with_name("failures.yaml").read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
OPERATOR = Path(cluster.__file__).parents[1]
WORDS = ("flowsession", "flowsession_agent")
SHORTEST = 7
"""Minimum length of a text of several words that identifies a message."""

OTHERS = ("The input for batch run is incorrect", "InvalidFlowError", "admission webhook", "reading ", "installing ")
"""Beginnings of messages that are passed on from prompt flow or a cluster's own policies, or that are too short to be recognized."""


@pytest.fixture
def why(monkeypatch):
    """Return a function that asks about a case, at the case's time, and returns exit status and answer."""
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()

    def ask(case):
        fake = FakeCluster()
        for thing in case["objects"]:
            fake.things[KINDS[thing["kind"]], thing["metadata"]["name"]] = thing
        fake.told.extend(case.get("events", ()))
        fake.logs.update(dict.fromkeys(("chat-01234-1",), case.get("log", "")))
        monkeypatch.setattr("flowsession_cli.cluster.Cluster", lambda **_: fake)
        done = CliRunner().invoke(app.cli, ["why", case["ask"]])
        if isinstance(done.exception, CliError):
            return done.exception.code, f"{done.exception}\n"
        assert isinstance(done.exception, SystemExit | None), done.exception
        return done.exit_code, "".join(f"{line.rstrip()}\n" for line in done.output.splitlines())

    yield ask
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_each_failure_has_its_answer(why, case):
    assert why(case) == (case["exit"], case["answer"])


def test_the_corpus_is_large_and_has_what_is_well_too():
    assert sum(case["exit"] for case in CASES) >= 80
    assert sum(not case["exit"] for case in CASES) >= 5
    assert len({case["case"] for case in CASES}) == len(CASES)


def test_the_commands_that_it_names_are_there():
    context = click.Context(app.cli)
    source = "".join((OPERATOR / "flowsession_cli" / name).read_text() for name in ("ways.py", "explain.py", "failures.py"))
    for command, *more in re.findall(r"kubectl flow ([a-z-]+)(?: ([a-z-]+))?", source + "".join(case["answer"] for case in CASES)):
        found = app.cli.get_command(context, command)
        assert found is not None, command
        if isinstance(found, click.Group) and more[0]:
            assert found.get_command(context, more[0]) is not None, (command, more)


def test_its_words_are_written_by_operator_and_agent():
    """A message that our code no longer writes fails here: put in the current one, and check the answer."""
    texts = {text for package in WORDS for path in (OPERATOR / package).rglob("*.py") for text in _texts(path)}
    pattern = re.compile("|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True)))
    reasons = {name for package in WORDS for path in (OPERATOR / package).rglob("*.py") for name in _names(path)}
    reasons |= {"SecretNotFound", "ConfigMapNotFound"}  # composed with a kind
    for case in CASES:
        for found in _said(case):
            assert found["reason"] in reasons, (case["case"], found["reason"])
            assert pattern.search(found["message"]) or found["message"].startswith(OTHERS), (case["case"], found["message"])


def _said(case):
    for thing in case["objects"]:
        yield from thing.get("status", {}).get("conditions", ())
    yield from (event for event in case.get("events", ()) if event["source"]["component"] == "flowsession")


def _texts(path):
    """Yield the constant parts of a module's messages that are long enough to identify a message."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value.strip()
            if len(text) >= SHORTEST and " " in text and "\n" not in text:
                yield text


def _names(path):
    """Return everything in a module that may be a reason."""
    return re.findall(r'"([A-Z]\w+)"', path.read_text())
