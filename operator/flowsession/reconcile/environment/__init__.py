"""Decisions about a FlowEnvironment."""
