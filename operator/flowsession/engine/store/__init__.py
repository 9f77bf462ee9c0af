"""The cache of the cluster: a store for each kind, with indexes."""
