"""Programs for `python -c` that run the agent's own modules in the session's Python, from a folder or a zip."""

from __future__ import annotations

import os

SOURCES = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # the folder or zip that holds the package


def program(module: str, package: str = "flowsession_agent") -> str:
    """Return a program that runs `main()` of a module of `package`. Neither SOURCES nor the working directory stays on its sys.path."""
    return (
        f"import sys; sys.path[:] = [{SOURCES!r}] + [path for path in sys.path if path]\n"
        f"from {package} import {module}; sys.path.remove({SOURCES!r}); {module}.main()"
    )


REPORT = program("report", package="flowsession_agent.install")
SMOKE = program("smoke", package="flowsession_agent.install")
SATISFIED = program("satisfied", package="flowsession_agent.install")
RUN_FLOW = program("run_flow", package="flowsession_agent.session")
RUN_FORKS = program("run_forks", package="flowsession_agent.session") + ".main()"
RUN_BATCH = program("run_batch", package="flowsession_agent.session")
FILL = program("fill", package="flowsession_agent.connections")
STATIC = program("static", package="flowsession_agent.check")
IMPORTS = program("imports", package="flowsession_agent.check")
