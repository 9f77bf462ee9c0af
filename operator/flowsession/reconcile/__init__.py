"""Pure decisions: each takes a snapshot of the cluster and a time, and returns a plan."""
