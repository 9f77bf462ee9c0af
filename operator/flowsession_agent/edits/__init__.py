"""Edits of the session's flow folder: finds them, hands them over as an archive, and restores them."""
