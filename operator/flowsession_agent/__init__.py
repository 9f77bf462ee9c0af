"""The agent: PID 1 of a session's pod. It takes the flow folder and the requirements, installs, and tells when the session is idle.

Standard library only and Python 3.9+, so that it runs in any image with a Python. How long it takes to answer first is part of every
session's start, so modules on that path import little and late; docs/agent-protocol.md is the contract.
"""

VERSION = "0.1.0"
