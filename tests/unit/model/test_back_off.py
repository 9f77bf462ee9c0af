"""The pauses between attempts."""

import pytest

from flowsession.model.back_off import back_off


@pytest.mark.parametrize(("failures", "pause"), [(1, 0.1), (2, 0.2), (3, 0.4), (9, 25.6), (10, 30.0), (1_024, 30.0), (5_000, 30.0)])
def test_a_pause_doubles_up_to_the_longest(failures, pause):
    assert back_off(failures, first=0.1, longest=30.0) == pytest.approx(pause)
