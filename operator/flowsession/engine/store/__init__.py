"""What is known of the cluster: a store for each kind, with indexes beside."""
