"""One bed for all tests of this folder. Tests add the pools that they need."""

from collections.abc import Iterator

import pytest

from scale import bed as beds
from scale.agents import Switchboard
from scale.bed import Bed


@pytest.fixture(scope="module")
def _made() -> Iterator[tuple[Bed, Switchboard]]:
    with beds.made() as made:
        yield made


@pytest.fixture(scope="module")
def bed(_made: tuple[Bed, Switchboard]) -> Bed:
    """Return a control plane with scheduler and kwok, without nodes."""
    return _made[0]


@pytest.fixture(scope="module")
def switchboard(_made: tuple[Bed, Switchboard]) -> Switchboard:
    """Return the agents of the bed's pods."""
    return _made[1]
