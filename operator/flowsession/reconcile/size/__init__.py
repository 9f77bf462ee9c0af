"""VM sizes: what they offer, which one is chosen, and what quotas leave."""
