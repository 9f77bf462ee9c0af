"""Decisions about FlowRuns."""
