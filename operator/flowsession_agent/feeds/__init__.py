"""Private package feeds: `{private}` in an index URL becomes a token on the way to the feed, and nowhere else."""
