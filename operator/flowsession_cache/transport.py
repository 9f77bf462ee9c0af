"""Checks that a response kept to the TLS of the requested address."""

import aiohttp


def lost_tls(url: str, response: aiohttp.ClientResponse) -> bool:
    """Return whether a request for an https:// address was redirected over one without TLS, where anybody could have sent it elsewhere."""
    return url.startswith("https:") and any(step.url.scheme != "https" for step in (*response.history, response))
