"""Decisions about a ComputeInstance."""
