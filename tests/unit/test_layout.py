"""The house rules that a machine can check."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import flowsession_protocol
from flowsession.cluster.agent import client, transport
from flowsession.manifests import session_pod
from flowsession_agent.server import wire
from flowsession_protocol import variables

CHECKOUT = Path(__file__).parents[2]
MODULES = sorted(
    path
    for package in ("flowsession", "flowsession_agent", "flowsession_cache", "flowsession_cli", "flowsession_protocol")
    for path in (CHECKOUT / "operator" / package).rglob("*.py")
)
PURE = {"api", "flow", "images", "manifests", "model", "reconcile", "requirements"}
EACH = pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(CHECKOUT / "operator")))


@EACH
def test_a_module_fits_into_one_reading(module):
    """Longer is a smell: ask which of its subjects belongs elsewhere, don't cut it by length."""
    assert len(module.read_text().splitlines()) <= 500


@EACH
def test_its_first_line_says_what_it_is_for(module):
    words = ast.get_docstring(ast.parse(module.read_text()))
    assert words, "no docstring"
    assert len(words.splitlines()[0]) > 15


@pytest.mark.parametrize("module", [path for path in MODULES if "flowsession_agent" in path.parts], ids=lambda path: path.name)
def test_the_agents_threads_are_started_where_their_numbers_are_kept(module):
    """All go through `Children.thread`, otherwise the agent takes its own thread for a user's command.

    Exceptions: gate runs only during installs, which count as work; run_batch is its own process; traces runs in that or in a flow test's.
    """
    if module.name not in ("children.py", "gate.py", "run_batch.py", "traces.py"):
        assert "threading.Thread(" not in module.read_text()


@EACH
def test_no_state_at_module_level(module):
    """Names bound when a module is imported are constants, functions and classes. Loggers are allowed, and metrics in their module."""
    for node in ast.parse(module.read_text()).body:
        names = [target.id for target in node.targets if isinstance(target, ast.Name)] if isinstance(node, ast.Assign) else []
        for name in names:
            assert re.fullmatch(r"_?[A-Z][A-Za-z_]*|_?[A-Z_]+|log|__version__", name) or module.name == "metrics.py", name


@pytest.mark.parametrize("module", [path for path in MODULES if PURE & set(path.parts)], ids=lambda path: path.name)
def test_decisions_ask_no_clock_and_no_chance(module):
    imported = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert not imported & {"asyncio", "kopf", "kubernetes", "aiohttp", "time", "random", "os", "socket"}
    assert "now()" not in module.read_text()


LAUNCHERS = sorted(path for path in (CHECKOUT / "operator" / "flowsession_agent" / "launchers").iterdir() if path.is_file())


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda path: path.name)
def test_a_launcher_of_the_image_starts_something_that_is_there(launcher):
    """Launchers have no suffix, so neither mypy nor ruff reads them."""
    wanted = [node for node in ast.parse(launcher.read_text()).body if isinstance(node, ast.ImportFrom)]
    assert wanted
    for node in wanted:
        assert all(callable(getattr(importlib.import_module(str(node.module)), alias.name)) for alias in node.names)


PROTOCOL = (CHECKOUT / "docs" / "agent-protocol.md").read_text()


def test_the_protocols_document_names_what_the_operator_uses():
    assert str(flowsession_protocol.PORT) in PROTOCOL
    for word in (
        *(value for name, value in vars(variables).items() if name.isupper()),
        flowsession_protocol.TOKEN_HEADER,
        session_pod.AGENT_IN_IMAGE,
        session_pod.SESSION_HOME,
        session_pod.FLOW_FOLDER,
    ):
        assert word in PROTOCOL, word
    for path in ("/v1/state", "PUT /v1/environment", "/v1/retire", "GET /v1/packages"):
        assert path in PROTOCOL, path
    assert "16 MiB" in PROTOCOL, "what the agent takes; docs/agent-protocol.md has the operator's own limits too"
    assert wire.BODY_LIMIT == 16 * 1024 * 1024
    assert f"{transport.LARGEST_STATE // 1024} KiB" in PROTOCOL
    assert f"{client.LARGEST_LIST // 1024**2} MiB of a list" in PROTOCOL
