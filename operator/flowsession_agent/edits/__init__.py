"""What the session changed in its flow folder: found, handed over as an archive, and taken back."""
