"""What is added to prompt flow's messages about failed lines, and what is reported of lines in progress."""

from pathlib import Path
from typing import Any

import pytest

from flowsession_agent.session.run_log import CRASHED, OUT_OF_MEMORY, RunLog


def result(*lines: int) -> dict[str, Any]:
    """Return the result of a run in which these lines failed with the same message."""
    words = "Process crashed while executing line 1,"
    errors = [{"line": line, "message": words} for line in lines]
    return {"message": f"{len(lines)} of 9 lines failed; the first is line {lines[0]}: {words}", "errors": errors}


@pytest.mark.parametrize(("short", "cause"), [(False, CRASHED), (True, f"the session {OUT_OF_MEMORY}")])
def test_lines_that_failed_with_the_same_words_have_the_cause_told_once(tmp_path: Path, short: bool, cause: str) -> None:
    found = result(1, 4, 5)
    RunLog(str(tmp_path)).explain(found, short_of_memory=short)
    told = f"{cause} (Process crashed while executing line 1,)"
    assert found["message"] == f"3 of 9 lines failed; the first is line 1: {told}"
    assert {error["message"] for error in found["errors"]} == {told}


@pytest.mark.parametrize(
    ("began", "ended", "told"),
    [
        ([0, 1, 2], [0, 2], "line 1 was under way"),
        ([0, 1, 11], [1], "lines 0, 11 were under way"),
        (range(8), [], "lines 0, 1, 2, 3, 4, ... were under way"),
        ([0], [0], ""),
    ],
)
def test_lines_under_way_are_told(tmp_path: Path, began: list[int], ended: list[int], told: str) -> None:
    line = "2026-11-29 20:00:03 +0000   21049 execution.bulk     INFO     Process name(F-2:1)-Process id(21315)-Line number({}) {}.\n"
    log = [line.format(number, "start execution") for number in began]
    log += [line.format(number, "failed" if number else "completed") for number in ended]
    (tmp_path / "logs.txt").write_text("".join(log))
    assert RunLog(str(tmp_path)).last_words() == told
