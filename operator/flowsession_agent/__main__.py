"""Decide what this process is: the agent (no arguments, in a pod), or the command `flow`."""

from __future__ import annotations

import os
import sys

from flowsession_protocol import variables


def main() -> int:
    """Run the agent or the command and return the exit code."""
    if len(sys.argv) == 1 and os.environ.get(variables.POD_UID):
        from flowsession_agent.server.main import serve

        return serve()
    from flowsession_agent.cli import main as command

    return command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
