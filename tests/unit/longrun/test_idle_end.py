"""The idle rule over its whole length: warned once, ended on time, never earlier, and not asked in between."""

import pytest

from unit.longrun.clocks import elapsed
from unit.longrun.run import at

pytestmark = [pytest.mark.looptime(start=0), pytest.mark.asyncio(loop_scope="function")]

TIMEOUTS = pytest.mark.parametrize("timeout", [60, 3600, 86_400])


@TIMEOUTS
async def test_an_unused_session_ends_when_its_timeout_has_passed_and_never_earlier(run, timeout):
    session = await run.session(timeout=timeout)
    ready, shown = elapsed(), session.at("expiresAt")
    ended = await session.ended(within=timeout + 10)
    assert ended >= ready + timeout
    assert shown <= ended <= shown + 1.0
