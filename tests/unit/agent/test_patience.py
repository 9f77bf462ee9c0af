"""When a flow's test is ended because the flow waits too long."""

import pytest

from flowsession_agent.session.patience import Patience

LINE = "12:00:0{} execution WARNING [ask in line 0] stderr> RateLimitError #{}, Retry-After={}, Back off {} seconds for retry.\n"


@pytest.mark.parametrize(("pause", "retry_too_late"), [("7.0", False), ("599.0", False), ("601.0", True), ("3600.0", True)])
def test_a_pause_that_lasts_longer_than_the_test_may_ends_it(pause: str, retry_too_late: bool) -> None:
    now = [0.0]
    patience = Patience(lambda: False, seconds=600, clock=lambda: now[0])
    patience.look(LINE.format(1, 0, pause, pause))
    assert patience.retry_too_late is retry_too_late
    now[0] += 590
    patience.look(LINE.format(1, 0, pause, pause))
    assert patience.retry_too_late is retry_too_late, "the same line is of the same pause"


def test_a_pause_that_begins_late_ends_it() -> None:
    now = [0.0]
    patience = Patience(lambda: False, seconds=600, clock=lambda: now[0])
    patience.look(LINE.format(1, 0, "30", "30.0"))
    now[0] += 580
    patience.look(LINE.format(1, 0, "30", "30.0") + LINE.format(2, 1, "30", "30.0"))
    assert patience.retry_too_late


def test_a_caller_that_is_gone_ends_it() -> None:
    assert Patience(lambda: True, seconds=600)()
    assert not Patience(lambda: False, seconds=600)()
