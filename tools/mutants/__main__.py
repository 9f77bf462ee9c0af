"""python -m mutants: makes a sample of mutants and tells which of them the unit tests let live."""

import argparse
import difflib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import cosmic_ray.plugins
from cosmic_ray.mutating import mutate_code
from cosmic_ray.work_item import MutationSpec

from mutants import baseline, judge, sample
from mutants.order import Baseline

CHECKOUT = Path(__file__).parents[2]


def main() -> None:
    """Everything that it writes is below `.venv/mutants`; the report is printed, and kept there."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=300, help="how many mutants (300)")
    parser.add_argument("--seed", type=int, default=1, help="which sample (1); the same one for the same seed and sources")
    parser.add_argument(
        "--seconds", type=float, default=20, help="how many seconds of quick tests, and of slow ones, a mutant is given (20)"
    )
    parser.add_argument("--skip", type=int, default=0, help="go on after this many mutants of the sample")
    parser.add_argument(
        "--slow", action="store_true", help="ask made-up days, properties and the largest inputs too about what the others let live"
    )
    arguments = parser.parse_args()
    place = CHECKOUT / ".venv" / "mutants"
    tree = place / "checkout"
    before = baseline.run(tree, place / "baseline", baseline.copy(CHECKOUT, tree), arguments.slow)
    judge.preload()
    counts: Counter[str] = Counter()
    fastest = sorted(before.seconds, key=before.seconds.__getitem__)[:50]
    if not judge.passes(tree, fastest, 5, place / "last-run.log"):
        raise SystemExit(f"mutants: tests fail without any mutation; see {place / 'last-run.log'}")
    drawn = sample.draw(tree, place / "baseline" / "session.sqlite", arguments.sample, arguments.seed)
    with (place / "report.txt").open("a" if arguments.skip else "w") as report:
        for number, item in enumerate(drawn, 1):
            if number <= arguments.skip:
                continue
            outcome, text = _try(item.mutations[0], before, tree, arguments.seconds)
            counts[outcome.partition(" ")[0]] += 1
            tell(f"{number} {outcome}: {text}", report)
        tell(f"{counts.total()} mutants: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()), report)


def tell(text: str, report: TextIO) -> None:
    """On the terminal and in the report."""
    for out in (sys.stdout, report):
        print(text, file=out, flush=True)


def _try(mutation: MutationSpec, before: Baseline, tree: Path, most_seconds: float) -> tuple[str, str]:
    name, line = str(mutation.module_path.relative_to(tree)), mutation.start_pos[0]
    what = f"{name}:{line} {mutation.operator_name.removeprefix('core/')}"
    rounds = before.rounds(name, line, most_seconds)
    began, tests = time.monotonic(), 0
    with _mutated(mutation) as difference:
        for chosen in rounds:
            tests += len(chosen)
            passed = judge.passes(tree, chosen, sum(before.seconds[test] for test in chosen), tree.parent / "last-run.log")
            if passed is None:
                return "timeout", f"{what}\n{difference}"
            if not passed:
                return f"killed ({time.monotonic() - began:.0f} s)", what
    return ("survived" if tests else "untested"), f"{what}, {tests} tests, {time.monotonic() - began:.0f} s\n{difference}"


@contextmanager
def _mutated(mutation: MutationSpec) -> Iterator[str]:
    """The module with its change, which comes as a diff of a line of context; as it was afterwards, its time too."""
    path, original = mutation.module_path, mutation.module_path.read_text()
    stat = path.stat()
    operator = cosmic_ray.plugins.get_operator(mutation.operator_name)(**mutation.operator_args)
    changed = mutate_code(original, operator, mutation.occurrence)
    path.write_text(changed)
    try:
        lines = difflib.unified_diff(original.splitlines(), changed.splitlines(), lineterm="", n=1)
        yield "\n".join(f"    {line}" for line in list(lines)[2:])
    finally:
        path.write_text(original)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


if __name__ == "__main__":
    main()
