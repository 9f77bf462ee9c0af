"""Which files of a flow folder rule out a process that was forked ahead."""

from pathlib import Path

import pytest

from flowsession_agent.session import fork_ahead


def test_modules_and_folders_count_and_data_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("email.py", "queue.pyc", "fast.cpython-311-x86_64-linux-gnu.so", "array.jsonl", "calendar.csv", "openai.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "requests").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fork_ahead.machinery, "all_suffixes", lambda: [".py", ".pyc", ".cpython-311-x86_64-linux-gnu.so"])
    assert fork_ahead.own_modules() == {"email", "queue", "fast", "requests"}
