"""How long the scheduler takes for one pod on 500 nodes in eight pools, with and without what keeps users apart and draws them together.

`PYTHONPATH=operator:tools:tests python bench/placement.py`; no cluster is needed, some minutes. Prints a Markdown table. Read the ratios.
"""

import argparse
import time
from dataclasses import dataclass

from scale import bed as beds
from scale import workload
from scale.bed import Bed
from scale.checker import Facts, check
from scale.sizes import SIZES
from scale.standin import StandIn
from scale.workload import NAMESPACES, USERS


@dataclass(frozen=True)
class Row:
    """The number of pods present, and the measurement for new ones."""

    terms: str
    present: int
    new: int
    scheduler_ms: float
    wall_ms: float
    packing: float
    unplaced: int


def measured(bed: Bed, terms: str, maker: StandIn, *, present: int, new: int) -> Row:
    """Place `present` sessions, then time `new` more that the scheduler gets all at once."""
    size_of_user = len(NAMESPACES)
    there = workload.sessions(range(present // size_of_user))
    maker.place(there)
    more = workload.sessions(range(USERS, USERS + new // size_of_user))
    before = bed.scheduled()
    with bed.scheduler_held():
        pods = [maker.pod_of(session) for session in more]
        bed.create("/api/v1/namespaces/{namespace}/pods", *pods)
        began = time.monotonic()
    bed.until_scheduled(seconds=600)
    wall = time.monotonic() - began
    thought = bed.scheduled().since(before)
    report = check(Facts(bed.nodes(), bed.pods(), there + more, [size.vm_size() for size in SIZES]))
    wrong = [str(v) for v in report.violations if v.rule != "Unplaced" and (maker.apart or v.rule != "Isolation")]
    assert not wrong, wrong[:5]
    bed.remove("/api/v1/pods")
    bed.until_empty()
    return Row(terms, len(there), len(more), thought, 1000 * wall / len(more), report.packing, report.by_rule.get("Unplaced", 0))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--present", type=int, default=1000, help="sessions that are there already (a multiple of 10)")
    parser.add_argument("--new", type=int, default=200, help="sessions that are timed (a multiple of 10)")
    options = parser.parse_args()
    with beds.made() as (bed, _):
        bed.add_pools(SIZES)
        bed.add_namespaces(NAMESPACES)
        bed.create("/apis/scheduling.k8s.io/v1/priorityclasses", *(size.priority_class() for size in SIZES))
        measured(bed, "warm-up", StandIn(bed), present=0, new=options.new)
        rows = [
            measured(bed, terms, StandIn(bed, apart=apart, together=together), present=present, new=options.new)
            for terms, apart, together in (("none", False, False), ("apart", True, False), ("apart and together", True, True))
            for present in (0, options.present)
        ]
    print("| terms of the pods | there already | scheduler, ms per pod | in all, ms per pod | packing | without a node |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {row.terms} | {row.present} | {row.scheduler_ms:.2f} | {row.wall_ms:.1f} | {row.packing:.3f} | {row.unplaced} |")


if __name__ == "__main__":
    main()
