"""The session itself: its flow folder, its processes, its tests and runs."""
