"""What `make mutants` changes, and which tests it runs on a change."""

from mutants.annotations import annotations, inside
from mutants.order import Baseline

MODULE = "operator/flowsession/flow/yaml.py"
BESIDE, BESIDE_TOO = "tests/unit/flow/test_yaml.py::test_fast", "tests/unit/flow/test_yaml.py::test_slower"
ELSEWHERE = "tests/unit/reconcile/test_chain.py::test_all"
DAYS = "tests/unit/longrun/test_lives.py::test_days"
SECONDS = {BESIDE: 0.1, BESIDE_TOO: 0.4, ELSEWHERE: 0.01, DAYS: 9.0}


def baseline(*tests: str) -> Baseline:
    return Baseline({MODULE: {7: frozenset(tests), 9: frozenset([""]), 0: frozenset([*tests, ELSEWHERE, ""])}}, SECONDS)


def test_tests_beside_the_module_are_asked_first_then_the_fastest_and_days_last():
    asked = baseline(DAYS, ELSEWHERE, BESIDE_TOO, BESIDE).rounds(MODULE, 7, most_seconds=20)
    assert asked == [[BESIDE, BESIDE_TOO], [ELSEWHERE], [DAYS]]


def test_what_runs_at_import_is_asked_of_all_tests_of_the_module():
    assert baseline(BESIDE).rounds(MODULE, 9, most_seconds=20) == [[BESIDE], [ELSEWHERE]]


def test_a_mutant_is_given_so_many_seconds_and_one_test_at_least():
    assert baseline(BESIDE, BESIDE_TOO, DAYS).rounds(MODULE, 7, most_seconds=0.2) == [[BESIDE], [DAYS]]


def test_a_module_of_types_alone_is_asked_of_all_tests():
    only_types = Baseline({MODULE: {9: frozenset([""]), 0: frozenset([""])}}, SECONDS)
    assert only_types.rounds(MODULE, 9, most_seconds=20) == [[BESIDE, BESIDE_TOO], [ELSEWHERE], [DAYS]]


def test_a_line_that_no_test_touches_has_none():
    assert Baseline({MODULE: {9: frozenset([""])}}, SECONDS).rounds(MODULE, 7, most_seconds=20) == []
    assert Baseline({}, SECONDS).rounds(MODULE, 7, most_seconds=20) == []


def test_types_are_left_alone_and_nothing_else():
    source = "def f(a: int | None = 3 | 4) -> str | None:\n    b: int | None = 1 | 2\n    return b | a\n"

    def is_type(line: int, text: str) -> bool:
        column = source.splitlines()[line - 1].index(text)
        return inside(((line, column), (line, column + len(text))), annotations(source))

    assert [is_type(1, "int | None"), is_type(1, "str | None"), is_type(2, "int | None")] == [True] * 3
    assert [is_type(1, "3 | 4"), is_type(2, "1 | 2"), is_type(3, "b | a")] == [False] * 3
