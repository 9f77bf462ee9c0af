"""The long rules of the engine, hours and weeks of them, on an event loop whose time is made up (looptime)."""
