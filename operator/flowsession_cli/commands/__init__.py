"""The commands, in modules by subject."""
