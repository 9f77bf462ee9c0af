"""Environment variables that the operator sets in its pods for the agent, and those of commands executed in these pods."""

HOME = "FLOWSESSION_HOME"
"""The agent's folder, which outlives a container."""

POD_UID = "FLOWSESSION_POD_UID"

PUBLIC_KEYS = "FLOWSESSION_PUBLIC_KEYS"
"""The operator's public keys, a JSON Web Key Set."""

SECRET_VARIABLES = "FLOWSESSION_SECRET_VARIABLES"  # noqa: S105 - a name
"""Comma-separated names of the variables whose values come from Secrets: requirements must not show them."""

GRACE_SECONDS = "FLOWSESSION_GRACE_SECONDS"
"""The pod's grace period in seconds; an ending agent spends part of it waiting for its last edits to be saved."""

FLOW = "FLOWSESSION_FLOW"
"""The flow folder on a claim that is used in place."""

CLAIMS = "FLOWSESSION_CLAIMS"
"""The folder with a subfolder for each claim that the session mounts, named after the claim."""

RESOLVER = "FLOWSESSION_RESOLVER"
"""`1` in a pod that only reads a source."""

CREDENTIALS = "FLOWSESSION_CREDENTIALS"
"""The folder in which a Secret for reading a source is mounted."""

CONNECTIONS = "FLOWSESSION_CONNECTIONS"
"""Prompt flow's connections: a JSON list of objects with `name`, `secret` (the Secret's name) and `path`, where its keys are mounted."""

TRACING = "FLOWSESSION_TRACING"
"""The endpoint for spans of tests and runs: a JSON object with `endpoint`, `content` (whether spans include inputs and outputs) and
`resource` (the session's attributes). If the endpoint needs headers, also `headers` (the folder where a Secret is mounted) and `secret`
(its name)."""

CALL = "FLOWSESSION_CALL"
"""A word unique to an executed command, with which its client can end it: `flow hang-up WORD SIGNAL`."""
