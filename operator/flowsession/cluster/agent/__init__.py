"""Calls to the agents in the sessions' pods."""
