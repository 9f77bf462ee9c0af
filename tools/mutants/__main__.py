"""python -m mutants: makes a sample of mutants and tells which of them the unit tests let live."""

import argparse
import difflib
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TextIO

import cosmic_ray.plugins
import pytest
from cosmic_ray.mutating import mutate_code
from cosmic_ray.work_item import MutationSpec, WorkItem

from mutants import baseline, sample
from mutants.judge import Judge, Mutant
from mutants.order import Baseline

CHECKOUT = Path(__file__).parents[2]
A_MODULE = "operator/flowsession/model/times.py"


def main() -> None:
    """Run the mutants and print the report. It is also stored below `.venv/mutants`, like everything else that this writes."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=300, help="how many mutants (300)")
    parser.add_argument("--seed", type=int, default=1, help="which sample (1); the same one for the same seed and sources")
    parser.add_argument(
        "--seconds", type=float, default=20, help="how many seconds of quick tests, and of slow ones, a mutant is given (20)"
    )
    parser.add_argument(
        "--slow", action="store_true", help="ask made-up days, properties and the largest inputs too about what the others let live"
    )
    arguments = parser.parse_args()
    place = CHECKOUT / ".venv" / "mutants"
    tree = place / "checkout"
    before = baseline.run(tree, place / "baseline", baseline.copy(CHECKOUT, tree), arguments.slow)
    drawn = sample.draw(tree, place / "baseline" / "session.sqlite", arguments.sample, arguments.seed)
    os.chdir(tree)
    work = partial(_each, drawn, before, arguments.seconds, place / "report.txt")
    sys.exit(
        pytest.main(
            [*baseline.tests(tree, arguments.slow), "-q", "-p", "no:cacheprovider"], plugins=[Judge(tree, place / "last-run.log", work)]
        )
    )


def _each(drawn: Sequence[WorkItem], before: Baseline, most_seconds: float, report: Path, judge: Judge) -> None:
    fastest = sorted(before.seconds, key=before.seconds.__getitem__)[:50]
    text = (judge.tree / A_MODULE).read_text()
    for at_import in (False, True):
        if not judge.passes(Mutant(judge.tree / A_MODULE, text, text, at_import), fastest, 5):
            raise SystemExit(f"mutants: tests fail without any mutation; see {judge.log}")
    counts: Counter[str] = Counter()
    with report.open("w") as file:
        for number, item in enumerate(drawn, 1):
            outcome, text = _try(item.mutations[0], before, judge, most_seconds)
            counts[outcome] += 1
            _tell(f"{number} {outcome}: {text}", file)
        _tell(f"{counts.total()} mutants: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()), file)


def _tell(text: str, report: TextIO) -> None:
    for out in (sys.stdout, report):
        print(text, file=out, flush=True)


def _try(mutation: MutationSpec, before: Baseline, judge: Judge, most_seconds: float) -> tuple[str, str]:
    name, line = str(mutation.module_path.relative_to(judge.tree)), mutation.start_pos[0]
    original = mutation.module_path.read_text()
    operator = cosmic_ray.plugins.get_operator(mutation.operator_name)(**mutation.operator_args)
    mutant = Mutant(mutation.module_path, original, mutate_code(original, operator, mutation.occurrence), before.at_import(name, line))
    tests, began = 0, time.monotonic()
    lines = difflib.unified_diff(original.splitlines(), mutant.mutated.splitlines(), lineterm="", n=2)
    what = "\n".join([f"{name}:{line} {mutation.operator_name.removeprefix('core/')}", *(f"    {line}" for line in list(lines)[2:])])
    try:
        compile(mutant.mutated, name, "exec")
    except SyntaxError:
        return "killed", what.partition("\n")[0]
    for chosen in before.rounds(name, line, most_seconds):
        tests += len(chosen)
        passed = judge.passes(mutant, chosen, sum(before.seconds.get(test, 0.0) for test in chosen))
        if not passed:
            return ("timeout", what) if passed is None else ("killed", what.partition("\n")[0])
    return ("survived" if tests else "untested"), f"{what}\n    ({tests} tests, {time.monotonic() - began:.0f} s)"


if __name__ == "__main__":
    main()
