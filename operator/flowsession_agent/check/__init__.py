"""Checks the session's flow without running it: by reading its files at once, then by importing its tools in a process of its own."""
