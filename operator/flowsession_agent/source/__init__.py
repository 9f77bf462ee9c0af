"""Read an environment's source, in a separate pod: the operator neither clones nor mounts other people's content."""
