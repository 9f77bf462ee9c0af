"""The judgement: from a snapshot of the cluster and a time to a plan. Pure."""
