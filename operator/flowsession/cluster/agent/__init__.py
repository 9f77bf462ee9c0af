"""The agents in the sessions' pods."""
