"""The loop: cache, queue, snapshots, executor. It carries out what decisions ask for and knows none of their reasons."""
