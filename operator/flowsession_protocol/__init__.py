"""What operator and agent must agree on, once: both sides import it, and it imports nothing of either.

Standard library only and Python 3.9+, since it travels inside agent.pyz into any image that has a Python. The agent's first answer waits
for what it imports, so each module imports little. docs/agent-protocol.md is the contract in words.
"""

PROTOCOL = 1
PORT = 8765
TOKEN_HEADER = "X-Flowsession-Token"  # noqa: S105 - a name
TOKEN_SECONDS = 60
"""Seconds for which a token is valid."""

SECRET_VARIABLES = "FLOWSESSION_SECRET_VARIABLES"  # noqa: S105 - a name
"""The variable of the pod that names those whose values come from Secrets, with commas between: requirements must not show them."""

PUBLIC_KEYS = "FLOWSESSION_PUBLIC_KEYS"
"""The variable of the pod with the keys that the agent knows."""
