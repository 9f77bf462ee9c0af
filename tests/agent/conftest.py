"""Fixtures of the agent's tests."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import longest_first

from . import support
from .editing import PUSHED
from .support import Agent, Operator

_LONGEST = ("test_runs.py", "test_run_oracle.py", "test_traces.py", "test_model_calls.py", "test_install.py", "test_guest_runs.py")
"""Test files that take minutes."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    longest_first.sort(items, Path(__file__).parent, _LONGEST)


def pytest_configure() -> None:
    """Let ^C reach what the tests start, as in a terminal. A shell makes background processes, and so their children, ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


StartAgent = Callable[..., Agent]


@pytest.fixture(scope="session")
def operator() -> Operator:
    return Operator()


@pytest.fixture(params=support.pythons(), ids=lambda path: Path(path).parents[1].name)
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(tmp_path: Path, operator: Operator) -> Iterator[StartAgent]:
    """Starts agents that end with the test."""
    agents: list[Agent] = []

    def begin(**arguments: Any) -> Agent:
        as_pid1 = arguments.pop("pid1", False)
        launch = support.start_as_pid1 if as_pid1 else support.start
        agents.append(launch(arguments.pop("folder", tmp_path), **{"operator": operator, **arguments}))
        return agents[-1]

    yield begin
    for agent in agents:
        agent.close()


@pytest.fixture
def agent(start: StartAgent, python: str) -> Agent:
    """An agent run by the oldest and by the newest Python."""
    return start(python=python)


@pytest.fixture
def session(agent: Agent) -> Agent:
    """A session to which PUSHED was pushed."""
    assert agent.put("p1", "f1", files=PUSHED)[0] == 200
    return agent


@pytest.fixture(scope="session")
def plain_base() -> str:
    """An image's Python with pip and uv."""
    return support.base("plain")


@pytest.fixture(scope="session")
def flow_base() -> str:
    """An image's Python with prompt flow, pip and uv."""
    return support.base("promptflow", "promptflow==1.18.5")
