"""The environment with which a flow's process starts."""

import os
from pathlib import Path
from typing import Any

import pytest

from flowsession_agent.session import flow_env
from flowsession_agent.settings import Home


def test_two_tests_that_start_at_once_write_the_settings_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, replace = Home(str(tmp_path)), os.replace

    def after_another_test(source: Any, target: Any) -> None:
        monkeypatch.setattr(os, "replace", replace)
        flow_env.environ({}, home=home, scripts="/bin")
        replace(source, target)

    monkeypatch.setattr(os, "replace", after_another_test)
    promptflow = Path(flow_env.environ({}, home=home, scripts="/bin")["PF_HOME_DIRECTORY"])
    assert {file.name: file.read_text() for file in promptflow.iterdir()} == flow_env.SETTINGS
