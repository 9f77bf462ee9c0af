"""What operator and agent must agree on, once: both sides import it, and it imports nothing of either.

Standard library only and Python 3.9+, since it travels inside agent.pyz into any image that has a Python. The agent's first answer waits
for what it imports, so each module imports little. docs/agent-protocol.md is the contract in words.
"""

PROTOCOL = 1
PORT = 8765
TOKEN_HEADER = "X-Flowsession-Token"  # noqa: S105 - a name
TOKEN_SECONDS = 60
"""Seconds for which a token is valid."""

ASKED_TO_END = 128 + 15
"""Exit code of an agent that has ended on SIGTERM with nothing unsaved. Never 0: of a pod whose containers all end with 0 a kubelet says
Succeeded, and drops why it has ended the pod."""

EDITS_NOT_TAKEN = 66
"""Exit code of an agent that was asked to end and whose last edits nobody has saved."""
