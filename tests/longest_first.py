"""An order of tests for conftest.py: where files are run side by side, those that take longest begin."""

from collections.abc import Collection
from pathlib import Path

import pytest


def sort(items: list[pytest.Item], folder: Path, longest: Collection[str]) -> None:
    """Move the tests of these files of a folder before its others; those of other folders stay where they are."""
    mine = iter(sorted((item for item in items if item.path.parent == folder), key=lambda item: item.path.name not in longest))
    items[:] = [next(mine) if item.path.parent == folder else item for item in items]
