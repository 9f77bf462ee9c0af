"""The sample of mutants: randomly drawn places, then one of Cosmic Ray's changes for each."""

import random
from collections import defaultdict
from pathlib import Path

from cosmic_ray.commands.init import init
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import WorkItem

from mutants.annotations import annotations, inside

MUTATED = ("flow", "requirements", "images", "model", "manifests", "reconcile", "engine")
"""Folders of `operator/flowsession` that make decisions or carry them out."""


def draw(tree: Path, session: Path, size: int, seed: int) -> list[WorkItem]:
    """Return a sample of all mutants of the tree, the same for the same seed and sources."""
    modules = sorted(path for folder in MUTATED for path in (tree / "operator" / "flowsession" / folder).rglob("*.py"))
    with use_db(str(session), WorkDB.Mode.create) as database:
        if not database.num_work_items:
            init(modules, database, {})
        every = list(database.work_items)
    unseen = {path: annotations(path.read_text()) for path in modules}
    places = defaultdict(list)
    for item in every:
        mutation = item.mutations[0]
        if not inside((mutation.start_pos, mutation.end_pos), unseen[mutation.module_path]):
            places[str(mutation.module_path), mutation.start_pos, mutation.end_pos].append(item)
    chance = random.Random(seed)  # noqa: S311 - a sample, no secret
    print(f"{len(every)} mutants at {len(places)} places of {len(modules)} modules")
    chosen = chance.sample(sorted(places), min(size, len(places)))
    return [chance.choice(sorted(places[place], key=_name)) for place in chosen]


def _name(item: WorkItem) -> tuple[str, int]:
    return item.mutations[0].operator_name, item.mutations[0].occurrence
