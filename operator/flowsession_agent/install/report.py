"""Report what is installed, in which layer, and what the layer broke. Runs in the session's Python, not in the agent's.

Standard output is one JSON object: `packages` as in the protocol, `problems` of the layer as sentences, and `shadowed`, the modules of the
image that the layer hides.
"""

from __future__ import annotations

import json
import os
import re
import sys

from flowsession_protocol.limits import REQUIRING
from flowsession_protocol.requirements import normalise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.metadata import Distribution
    from typing import Any, Callable

    from flowsession_protocol.messages import Package

NAME = re.compile(r"[A-Za-z0-9._-]+")
FROM_IMAGE = "from-image.json"
"""File in a layer's folder: names and versions of the distributions that were copied from the image, so that they import together."""


class Found:
    """One distribution, read once."""

    def __init__(self, distribution: Distribution, *, layer: str, from_image: dict[str, str]) -> None:
        metadata = distribution.metadata
        self.name: str = metadata["Name"] or "?"
        self.version: str = metadata["Version"] or "?"
        self.requires: list[str] = metadata.get_all("Requires-Dist") or []
        in_layer = bool(layer) and str(distribution.locate_file("")).startswith(layer)
        self.in_layer = in_layer and from_image.get(normalise(self.name)) != self.version


def main() -> None:
    """Run `report LAYER NAMES`: the layer's folder or empty, and a JSON list of the distributions that the requirements name."""
    layer, wanted = sys.argv[1], set(json.loads(sys.argv[2]))
    seen, image = scan(layer)
    evaluator = load_evaluator()
    needed_by: dict[str, list[str]] = {}
    for found in seen.values():
        for requirement in found.requires:
            if applies(requirement, evaluator):
                needed_by.setdefault(name_of(requirement), []).append(found.name)
    packages = []
    for name, found in sorted(seen.items()):
        requiring = sorted(set(needed_by.get(name, [])))[:REQUIRING]
        package: Package = {"name": found.name, "version": found.version, "layer": "image", "requiredBy": requiring}
        if found.in_layer:
            package["layer"] = "requirements" if name in wanted else "dependency"
        if found.in_layer and name in image:
            package["replaces"] = image[name].version
        packages.append(package)
    problems = check(seen, image, evaluator) if layer and evaluator else []
    json.dump({"packages": packages, "problems": problems, "shadowed": shadowed(layer)}, sys.stdout)


def scan(layer: str) -> tuple[dict[str, Found], dict[str, Found]]:
    """Return the distributions that Python sees, and those that it would see without the layer. The first on the path wins."""
    from importlib.metadata import distributions

    seen: dict[str, Found] = {}
    image: dict[str, Found] = {}
    from_image = brought(layer)
    for distribution in distributions():
        try:
            found = Found(distribution, layer=layer, from_image=from_image)
        except Exception:  # noqa: S112 - one broken distribution of the image must not hide all others
            continue
        name = normalise(found.name)
        seen.setdefault(name, found)
        if not found.in_layer:
            image.setdefault(name, found)
    return seen, image


def brought(layer: str) -> dict[str, str]:
    """Return names and versions of the distributions in the layer that were copied from the image."""
    if not layer:
        return {}
    try:
        with open(os.path.join(layer, FROM_IMAGE), encoding="utf-8") as file:
            return {normalise(name): str(version) for name, version in json.load(file).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def check(seen: dict[str, Found], image: dict[str, Found], evaluator: Callable[[str], Any]) -> list[str]:
    """Return what `pip check` reports only with the layer: problems of distributions in it, or of those that depend on one in it."""
    changed = {name for name, found in seen.items() if found.in_layer}
    problems = []
    for found in seen.values():
        for text in found.requires:
            name = name_of(text)
            if not (found.in_layer or name in changed) or not applies(text, evaluator):
                continue
            try:
                requirement = evaluator(text)
            except ValueError:
                continue
            if _fits(requirement, seen.get(name)) or (not found.in_layer and not _fits(requirement, image.get(name))):
                continue
            has = f"but {seen[name].name} {seen[name].version} is installed" if name in seen else "which is not installed"
            problems.append(f"{found.name} {found.version} requires {requirement.name}{requirement.specifier}, {has}")
    return problems


def _fits(requirement: Any, found: Found | None) -> bool:
    return found is not None and requirement.specifier.contains(found.version, prereleases=True)


def applies(text: str, evaluator: Callable[[str], Any] | None) -> bool:
    """Return whether the requirement's marker holds here, without extras."""
    _, semicolon, marker = text.partition(";")
    if not semicolon:
        return True
    if "extra" in marker or evaluator is None:
        return "extra" not in marker
    try:
        return bool(evaluator(text).marker.evaluate({"extra": ""}))
    except (ValueError, AttributeError):
        return False


def load_evaluator() -> Callable[[str], Any] | None:
    """Return `packaging`'s Requirement from wherever this Python has it, or None."""
    for module in ("packaging.requirements", "pip._vendor.packaging.requirements", "setuptools._vendor.packaging.requirements"):
        try:
            requirement: Callable[[str], Any] = __import__(module, fromlist=["Requirement"]).Requirement
        except Exception:  # noqa: S112 - a broken packaging in the session is no reason not to look for another
            continue
        return requirement
    return None


def shadowed(layer: str) -> list[str]:
    """Return the importable names that both the layer and the image have. The image's own code now imports these from the layer."""
    if not layer:
        return []
    mine: set[str] = set()
    image: set[str] = set()
    for folder in sys.path:
        if os.path.isdir(folder):
            names = {name.partition(".")[0] for name in os.listdir(folder) if not name.endswith(("-info", ".pth")) and name[0] not in "_."}
            (mine if folder.startswith(layer) else image).update(names)
    return sorted(mine & image)


def name_of(requirement: str) -> str:
    """Return the normalized name that a requirement begins with."""
    match = NAME.match(requirement)
    return normalise(match.group()) if match else ""
