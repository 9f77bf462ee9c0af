"""The engine's long-term rules over hours and weeks, on an event loop with simulated time (looptime)."""
