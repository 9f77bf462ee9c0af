"""How the agent runs its own modules in the session's Python: as `-c` programs, so that a zip serves as well as a folder."""

from __future__ import annotations

import os

SOURCES = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # the folder, or the zip, that holds the package


def program(*modules: str, package: str = "flowsession_agent") -> str:
    """A program that runs `main()` of the package's modules; neither the package's folder nor the working one stays on sys.path."""
    calls = "; ".join(f"{module}.main()" for module in modules)
    return (
        f"import sys; sys.path[:] = [{SOURCES!r}] + [path for path in sys.path if path]\n"
        f"from {package} import {', '.join(modules)}; sys.path.remove({SOURCES!r}); {calls}"
    )


REPORT = program("report", package="flowsession_agent.install")
SMOKE = program("smoke", package="flowsession_agent.install")
SATISFIED = program("satisfied", package="flowsession_agent.install")
RUN_FLOW = program("run_flow", package="flowsession_agent.session")
RUN_SPARE = program("run_spare", "run_flow", package="flowsession_agent.session")
RUN_BATCH = program("run_batch", package="flowsession_agent.session")
FILL = program("fill", package="flowsession_agent.connections")
STATIC = program("static", package="flowsession_agent.check")
IMPORTS = program("imports", package="flowsession_agent.check")
