"""How often the tests look at what they wait for: each look costs somebody a call, and what takes long may be found a little later."""


def pause(waited: float, *, least: float = 0.02, most: float = 0.1) -> float:
    """Seconds until the next look, after so many of waiting."""
    return min(most, max(least, waited / 20))
