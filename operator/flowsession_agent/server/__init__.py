"""How callers reach the agent: listeners, tokens, calls."""
