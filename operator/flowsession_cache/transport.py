"""Whether an answer came all the way as its address promised."""

import aiohttp


def lost_tls(url: str, response: aiohttp.ClientResponse) -> bool:
    """Whether a request for an https:// address was redirected over one without TLS, where anybody could have sent it anywhere."""
    return url.startswith("https:") and any(step.url.scheme != "https" for step in (*response.history, response))
