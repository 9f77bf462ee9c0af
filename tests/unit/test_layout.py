"""The house rules that a machine can check."""

import ast
import re
from pathlib import Path

import pytest

from flowsession.cluster import agents, agenttransport
from flowsession.decide import pod
from flowsession_agent import wire

CHECKOUT = Path(__file__).parents[2]
MODULES = sorted(
    path
    for package in ("flowsession", "flowsession_agent", "flowsession_cache")
    for path in (CHECKOUT / "operator" / package).rglob("*.py")
)
EACH = pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(CHECKOUT / "operator")))


LONG = {
    "flowsession_agent/environment.py": 500,
    "flowsession_agent/agent.py": 500,
    "flowsession_agent/processes.py": 500,
    "decide/serve.py": 500,
    "decide/start.py": 500,
    "engine/loop.py": 500,
    "decide/idle.py": 500,
    "decide/includes.py": 500,
    "decide/install.py": 500,
    "api/policies.py": 500,
    "api/session.py": 500,
    "decide/resolution.py": 500,
    "engine/cache.py": 500,
    "engine/executor.py": 500,
    "engine/objects.py": 500,
    "engine/snapshot.py": 500,
    "install/failures.py": 500,
    "edits/session.py": 500,
    "edits/scan.py": 500,
    "install/pipeline.py": 500,
}
"""Modules of one subject that need more room than others."""


@EACH
def test_a_module_fits_on_a_few_screens(module):
    assert len(module.read_text().splitlines()) <= LONG.get(f"{module.parent.name}/{module.name}", 250)


@EACH
def test_its_first_line_says_what_it_is_for(module):
    words = ast.get_docstring(ast.parse(module.read_text()))
    assert words, "no docstring"
    assert len(words.splitlines()[0]) > 15


@pytest.mark.parametrize("module", [path for path in MODULES if "flowsession_agent" in path.parts], ids=lambda path: path.name)
def test_the_agents_threads_are_started_where_their_numbers_are_kept(module):
    """`Children.thread`: else the agent takes its own thread for somebody's command. The gate lives during installs, which are work."""
    if module.name not in ("children.py", "gate.py"):
        assert "threading.Thread(" not in module.read_text()


@EACH
def test_no_state_at_module_level(module):
    """Names that are bound when a module is imported are constants, functions and classes; loggers, and metrics in their module."""
    for node in ast.parse(module.read_text()).body:
        names = [target.id for target in node.targets if isinstance(target, ast.Name)] if isinstance(node, ast.Assign) else []
        for name in names:
            assert re.fullmatch(r"_?[A-Z][A-Za-z_]*|_?[A-Z_]+|log|__version__", name) or module.name == "metrics.py", name


@pytest.mark.parametrize("module", [path for path in MODULES if "decide" in path.parts], ids=lambda path: path.name)
def test_decisions_ask_no_clock_and_no_chance(module):
    imported = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert not imported & {"asyncio", "kopf", "kubernetes", "aiohttp", "time", "random", "os", "socket"}
    assert "now()" not in module.read_text()


PROTOCOL = (CHECKOUT / "docs" / "agent-protocol.md").read_text()


def test_the_protocols_document_names_what_the_operator_uses():
    assert str(pod.AGENT_PORT) in PROTOCOL
    for word in (
        "FLOWSESSION_HOME",
        "FLOWSESSION_POD_UID",
        "FLOWSESSION_PUBLIC_KEYS",
        "X-Flowsession-Token",
        pod.AGENT_IN_IMAGE,
        pod.SESSION_HOME,
        pod.FLOW_FOLDER,
    ):
        assert word in PROTOCOL, word
    for path in ("/v1/state", "PUT /v1/environment", "/v1/retire", "GET /v1/packages"):
        assert path in PROTOCOL, path
    assert "16 MiB" in PROTOCOL, "what the agent takes; docs/agent-protocol.md has the operator's own limits too"
    assert wire.BODY_LIMIT == 16 * 1024 * 1024
    assert f"{agenttransport.LARGEST_STATE // 1024} KiB" in PROTOCOL
    assert f"{agents.LARGEST_LIST // 1024**2} MiB of a list" in PROTOCOL
