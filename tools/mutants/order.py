"""Which tests a mutant is shown to, and in which order."""

from dataclasses import dataclass
from fnmatch import fnmatch

SLOW = (
    "tests/unit/longrun/test_*.py",
    "tests/unit/test_properties.py",
    "tests/unit/reconcile/size/test_size_properties.py",
    "tests/unit/test_processor_time.py",
    "tests/unit/flow/test_archive_costs.py",
)
"""Made-up days, properties and the largest inputs: they judge, if they are asked at all, only what the others let live."""


@dataclass(frozen=True)
class Baseline:
    """What the unmutated tests touched: files of the copy -> line -> tests; under line 0 those that touch any line of the file.
    What runs at import is touched by the test without a name."""

    tests: dict[str, dict[int, frozenset[str]]]
    seconds: dict[str, float]

    def of_line(self, module: str, line: int) -> frozenset[str]:
        """The tests that may notice a change of the line: what runs at import may be noticed by any test of the module."""
        touched = self.tests.get(module, {})
        if not self.at_import(module, line):
            return touched.get(line, frozenset())
        return touched.get(0, frozenset()) - {""} or frozenset(self.seconds)  # nothing but constants and types: anybody may use them

    def at_import(self, module: str, line: int) -> bool:
        """Whether the line runs when the module is imported, if perhaps not only then."""
        return "" in self.tests.get(module, {}).get(line, frozenset())

    def rounds(self, module: str, line: int, most_seconds: float) -> list[list[str]]:
        """Those tests in the order in which they are asked: first the ones beside the module, fastest first, the slow ones last."""
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
