"""Decisions about a ComputeSession."""
