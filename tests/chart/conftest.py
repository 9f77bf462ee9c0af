"""Helm, and the chart as Helm renders it."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster import binaries

CHART = Path(__file__).resolve().parents[2] / "charts" / "flowsession"

Manifest = dict[str, Any]
Helm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def helm() -> Helm:
    binaries.build(binaries.HELM)
    program = binaries.HELM.binary("helm")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def render(helm: Helm, tmp_path: Path) -> Callable[..., list[Manifest]]:
    def template(values: Manifest | None = None, *, release: str = "flowsession", options: tuple[str, ...] = ()) -> list[Manifest]:
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(values or {}))
        result = helm("template", release, str(CHART), "-n", "flowsession-system", "-f", str(file), *options)
        assert result.returncode == 0, result.stderr
        return [document for document in yaml.safe_load_all(result.stdout) if document]

    return template
