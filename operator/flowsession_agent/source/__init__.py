"""Reads what an environment's source holds, in a pod of its own: the operator neither clones nor mounts what others wrote."""
