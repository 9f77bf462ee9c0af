"""Checks the session's flow without running it: first by reading its files, then by importing its tools in a separate process."""
