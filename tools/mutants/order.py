"""The tests to run for a mutant, and their order."""

from dataclasses import dataclass
from fnmatch import fnmatch

SLOW = (
    "tests/unit/longrun/test_*.py",
    "tests/unit/test_properties.py",
    "tests/unit/reconcile/size/test_size_properties.py",
    "tests/unit/test_processor_time.py",
    "tests/unit/flow/test_archive_costs.py",
)
"""Simulated days, properties and the largest inputs. They run, if at all, only for mutants that survive the other tests."""


@dataclass(frozen=True)
class Baseline:
    """What the unmutated tests touched: files of the copy -> line -> tests. Line 0 has those that touch any line of the file. Lines
    that run at import are touched by the test with the empty name."""

    tests: dict[str, dict[int, frozenset[str]]]
    seconds: dict[str, float]

    def of_line(self, module: str, line: int) -> frozenset[str]:
        """Return the tests that may detect a change of the line. For a line that runs at import these are all tests of the module."""
        touched = self.tests.get(module, {})
        if not self.at_import(module, line):
            return touched.get(line, frozenset())
        return touched.get(0, frozenset()) - {""} or frozenset(self.seconds)  # only constants and types, which any test may use

    def at_import(self, module: str, line: int) -> bool:
        """Return whether the line runs when the module is imported, perhaps not only then."""
        return "" in self.tests.get(module, {}).get(line, frozenset())

    def rounds(self, module: str, line: int, most_seconds: float) -> list[list[str]]:
        """Return those tests in rounds: those in the module's own test folder, other quick ones, slow ones. Fastest first."""
        folder = module.replace("operator/flowsession/", "tests/unit/").rpartition("/")[0] + "/"
        ordered = sorted(self.of_line(module, line), key=lambda test: self.seconds.get(test, 0.0))
        slow = [test for test in ordered if any(fnmatch(test.partition("::")[0], pattern) for pattern in SLOW)]
        quick = self._within([test for test in ordered if test not in set(slow)], most_seconds)
        beside = [test for test in quick if test.rpartition("/")[0] + "/" == folder]
        return [tests for tests in (beside, [test for test in quick if test not in set(beside)], self._within(slow, most_seconds)) if tests]

    def _within(self, tests: list[str], most_seconds: float) -> list[str]:
        spent = 0.0
        taken: list[str] = []
        for test in tests:
            spent += self.seconds.get(test, 0.0)
            if taken and spent > most_seconds:
                break
            taken.append(test)
        return taken
