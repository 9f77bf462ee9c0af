"""What an image reference means. Pure."""
