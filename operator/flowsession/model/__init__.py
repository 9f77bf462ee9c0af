"""The input and output of decisions."""
