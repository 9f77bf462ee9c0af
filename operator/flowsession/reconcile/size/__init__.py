"""VM sizes: what they offer, which is chosen, and what quota leaves."""
