"""The environment variables of the pods that the operator makes and the agent reads, and of commands that are executed in them."""

HOME = "FLOWSESSION_HOME"
"""The agent's folder, which outlives a container."""

POD_UID = "FLOWSESSION_POD_UID"

PUBLIC_KEYS = "FLOWSESSION_PUBLIC_KEYS"
"""The keys that the agent knows."""

SECRET_VARIABLES = "FLOWSESSION_SECRET_VARIABLES"  # noqa: S105 - a name
"""Names the variables whose values come from Secrets, with commas between: requirements must not show them."""

GRACE_SECONDS = "FLOWSESSION_GRACE_SECONDS"
"""How long an agent that was asked to end has for its last edits."""

FLOW = "FLOWSESSION_FLOW"
"""The flow folder on a claim that is used in place."""

CLAIMS = "FLOWSESSION_CLAIMS"
"""The folder with one folder for each claim that the session mounts, by its name."""

RESOLVER = "FLOWSESSION_RESOLVER"
"""`1` in a pod that only reads a source."""

CREDENTIALS = "FLOWSESSION_CREDENTIALS"
"""The folder in which a Secret for reading a source is mounted."""

CONNECTIONS = "FLOWSESSION_CONNECTIONS"
"""Prompt flow's connections: a JSON list of objects with `name`, `secret` (the Secret's name) and `path`, where its keys are mounted."""

TRACING = "FLOWSESSION_TRACING"
"""Where spans of tests and runs go: a JSON object with `endpoint`, `content` (whether inputs and outputs are in them), `resource` (the
attributes of the session), and where the endpoint needs headers `headers`, the folder where a Secret is mounted, and `secret`, its name."""

CALL = "FLOWSESSION_CALL"
"""A word that no other executed command has, by which its client can have it ended: `flow hang-up WORD SIGNAL`."""
