"""What decisions see and say."""
