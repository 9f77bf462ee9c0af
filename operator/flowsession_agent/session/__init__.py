"""What happens in the session: its folder, its processes, what it does."""
