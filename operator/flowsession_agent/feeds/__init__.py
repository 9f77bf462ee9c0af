"""Private package feeds: replaces `{private}` in an index URL by a token on the way to the feed, and nowhere else."""
