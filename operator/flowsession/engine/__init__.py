"""The loop: cache, queue, snapshot, executor. It carries what the decisions ask for and knows none of their reasons."""
