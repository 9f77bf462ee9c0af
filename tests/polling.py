"""How often tests poll: each poll costs a call, and the end of a long wait may be noticed a little later."""


def pause(waited: float, *, least: float = 0.03, most: float = 0.25) -> float:
    """Return the seconds until the next poll, after `waited` seconds of waiting."""
    return min(most, max(least, waited / 20))
