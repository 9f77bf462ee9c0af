"""How callers reach the agent: doors, tokens, calls."""
