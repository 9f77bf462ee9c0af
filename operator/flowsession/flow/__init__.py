"""What a flow folder is, and what its files say. Pure."""
