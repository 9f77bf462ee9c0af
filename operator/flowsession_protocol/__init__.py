"""What operator and agent must agree on, defined once: both import this package, and it imports neither.

Standard library only and Python 3.9+, since agent.pyz carries it into any image that has Python. Imports delay the agent's first response,
so each module imports little. docs/agent-protocol.md is the contract in prose.
"""

PROTOCOL = 1
PORT = 8765
TOKEN_HEADER = "X-Flowsession-Token"  # noqa: S105 - a name
TOKEN_SECONDS = 60
"""Seconds for which a token is valid."""

ASKED_TO_END = 128 + 15
"""Exit code of an agent that ended on SIGTERM with nothing unsaved. Not 0: if all containers of a pod exit with 0, the kubelet reports the
pod as Succeeded and drops the reason for which it ended the pod."""

EXIT_EDITS_UNSAVED = 66
"""Exit code of an agent that ended on request while its last edits were still unsaved."""
