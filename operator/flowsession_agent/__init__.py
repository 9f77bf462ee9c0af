"""The agent: PID 1 of a session's pod. It receives the flow folder, installs the requirements, and reports when the session is idle.

Standard library only and Python 3.9+, so that it runs in any image with a Python. The time to its first response is part of every
session's start, so modules on that path import little and late. docs/agent-protocol.md is the contract.
"""

VERSION = "0.1.0"
