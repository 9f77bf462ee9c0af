"""An order of tests for conftest.py: where files run in parallel, the slowest begin."""

from collections.abc import Collection
from pathlib import Path

import pytest


def sort(items: list[pytest.Item], folder: Path, longest: Collection[str]) -> None:
    """Move the tests of these files of a folder before the folder's others. Tests of other folders keep their places."""
    mine = iter(sorted((item for item in items if item.path.parent == folder), key=lambda item: item.path.name not in longest))
    items[:] = [next(mine) if item.path.parent == folder else item for item in items]
