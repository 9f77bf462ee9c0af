"""A hook for conftest.py: before a part of the tests starts, it checks for the programs of tools/localcluster/debian.py."""

from pathlib import Path

import pytest

from localcluster import debian

_PARTS = {"agent", "e2e", "apiserver"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Exit with one sentence, before anything runs, if a program that a part of the tests starts is missing."""
    root = Path(__file__).parent
    parts = {item.path.relative_to(root).parts[0] for item in items if item.path.is_relative_to(root)}
    for part in sorted(parts & _PARTS):
        if lacking := debian.lacking(debian.TESTS):
            pytest.exit(f"tests/{part}: {lacking}", returncode=2)
