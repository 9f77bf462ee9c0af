"""No regular expression of the product takes more than linear time, whatever text it meets: Python's `re` backtracks.

Every pattern is found in the source: compiled ones, those in calls of `re`, and those in tables. Each is tried on texts made from it:
beginnings of what it matches, repeated, and runs of each of its characters after each of these beginnings.
"""

import ast
import itertools
import math
import re
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest

OPERATOR = Path(__file__).parents[2] / "operator"
MODULES = sorted(OPERATOR.rglob("*.py"))
CALLS = ("compile", "search", "match", "fullmatch", "split", "findall", "finditer", "sub", "subn")
WHOLE = ("match", "fullmatch")
LENGTHS = (18, 1_000, 4_000, 16_000)
QUICK = 0.008
"""Processor seconds up to which growth is not checked: nobody would notice."""

MOST_GROWTH = 8.0
"""Limit of the growth between lengths that differ by a factor of 4: linear time grows by 4, quadratic by 16."""

ROUNDS = 12
"""Most times that a text is tried again before its growth counts."""

ANCHORED = {"flowsession/flow/yaml_values.py"}
"""Modules whose tables hold parts of patterns that must match the whole text."""

MOST_WAYS, MOST_STARTS = 100, 40
REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT, getattr(codes, "POSSESSIVE_REPEAT", None))
ATOMIC = getattr(codes, "ATOMIC_GROUP", object())
OTHERS = "a0 \n/:@-.'\"<>=({"


@dataclass(frozen=True)
class Pattern:
    """A pattern, its place, and how it is used."""

    place: str
    text: str
    flags: int
    methods: tuple[str, ...]


def names_of_flags(node: ast.expr | None) -> int:
    names = {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)} if node else set()
    return sum(int(getattr(re, name)) for name in names if isinstance(getattr(re, name, None), re.RegexFlag))


def text_of(node: ast.expr) -> str | None:
    """Return a string as written, with the text `name` for each value of an f-string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "name" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = (text_of(node.left), text_of(node.right))
        return None if None in parts else "".join(map(str, parts))
    return None


def used(trees: dict[Path, ast.Module]) -> dict[str, set[str]]:
    """Return the methods that are called on each name."""
    found: dict[str, set[str]] = {}
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLS:
                owner = node.func.value
                name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
                found.setdefault(name, set()).add(node.func.attr)
    return found


def patterns() -> Iterator[Pattern]:
    trees = {path: ast.parse(path.read_text()) for path in MODULES}
    methods = used(trees)
    for path, tree in trees.items():
        if not any(isinstance(node, ast.Import) and any(one.name == "re" for one in node.names) for node in ast.walk(tree)):
            continue
        place = str(path.relative_to(OPERATOR))
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if hasattr(node, "body") and isinstance(node.body, list) and node.body and isinstance(node.body[0], ast.Expr)
        }
        seen, names = set(docstrings), dict[int, str]()
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                names[id(node.value)] = node.targets[0].id
        for node in ast.walk(tree):
            called = node.func if isinstance(node, ast.Call) else None
            if not (isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "re"):
                continue
            text = text_of(node.args[0]) if called.attr in CALLS and node.args else None
            if text is None:
                continue
            seen |= {id(one) for one in ast.walk(node.args[0])}
            flags = names_of_flags(next((key.value for key in node.keywords if key.arg == "flags"), None))
            flags |= sum(names_of_flags(argument) for argument in node.args[1:])
            yield Pattern(
                f"{place}:{node.lineno}",
                text,
                flags,
                tuple(sorted(methods.get(names.get(id(node), ""), {"search"}) if called.attr == "compile" else {called.attr})),
            )
        for node in ast.walk(tree):  # tables of patterns, and parts of them
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in seen
                and re.search(r"[*+?\]\)\\][*+]|\.[*+]|\{\d", node.value)
            ):
                yield Pattern(f"{place}:{node.lineno}", node.value, 0, ("fullmatch" if place in ANCHORED else "search",))


def compiled(pattern: Pattern) -> "re.Pattern[str] | None":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return re.compile(pattern.text, pattern.flags)
        except re.error:
            return None


def member(node: Any) -> list[str]:
    """Return a few characters that a node for a single character matches, for example of a set."""
    op, value = node
    if op is codes.LITERAL:
        return [chr(value)]
    if op is codes.ANY:
        return ["a", " "]
    text = {codes.NOT_LITERAL: lambda: f"[^{re.escape(chr(value))}]"}.get(op, lambda: "")()
    if op is codes.IN:
        single = [chr(part[1]) for part in value if part[0] is codes.LITERAL]
        ranges = [chr(part[1][0]) for part in value if part[0] is codes.RANGE]
        classes = {
            codes.CATEGORY_DIGIT: "0",
            codes.CATEGORY_SPACE: " \n",
            codes.CATEGORY_WORD: "a_",
            codes.CATEGORY_NOT_SPACE: "a:",
            codes.CATEGORY_NOT_DIGIT: "a",
            codes.CATEGORY_NOT_WORD: " -",
        }
        known = [sign for part in value if part[0] is codes.CATEGORY for sign in classes[part[1]]]
        if value and value[0][0] is codes.NEGATE:
            return [
                sign
                for sign in OTHERS
                if sign not in single
                and sign not in known
                and not any(low <= ord(sign) <= high for part in value if part[0] is codes.RANGE for low, high in [part[1]])
            ][:4] or ["\u20ac"]
        return (single + ranges + known)[:5]
    return [sign for sign in OTHERS if re.match(text, sign)][:3] if text else []


def sequences(nodes: list[Any]) -> Iterator[list[Any]]:
    """Yield the paths through a pattern's alternatives, each as nodes without alternatives."""
    for at, (op, value) in enumerate(nodes):
        inner = value[-1] if op is codes.SUBPATTERN else value if op is ATOMIC else None
        ways = value[1] if op is codes.BRANCH else [inner] if inner is not None else None
        if ways is not None:
            for way in ways:
                yield from sequences([*nodes[:at], *way, *nodes[at + 1 :]])
            return
    yield nodes


def shortest(nodes: list[Any]) -> str:
    """Return a short text that a sequence matches."""
    return "".join(beginning(node) for node in nodes)


def beginning(node: Any) -> str:
    """Return a short text that one node matches. A repeated part appears its minimum number of times, but at least once."""
    op, value = node
    if op in REPEATS:
        return shortest(next(sequences(list(value[2])))) * max(value[0], 1)
    return (member(node) or [""])[0]


def signs(nodes: Any) -> set[str]:
    """Return characters that a pattern mentions."""
    found: set[str] = set()
    for op, value in nodes:
        if op in (codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN):
            found.update(member((op, value)))
        elif isinstance(value, tuple | list):
            for inner in value if op is not codes.BRANCH else value[1]:
                if isinstance(inner, parser.SubPattern):
                    found |= signs(inner)
    return found


def texts(tree: Any) -> Iterator[tuple[str, str]]:
    """Yield pairs of a beginning and what to repeat after it."""
    starts: dict[str, None] = {"": None}
    for nodes in itertools.islice(sequences(list(tree)), MOST_WAYS):
        starts.update(dict.fromkeys(shortest(nodes[:length]) for length in range(1, len(nodes) + 1)))
    chosen = sorted(starts, key=len) if len(starts) <= MOST_STARTS else [*starts][:: len(starts) // MOST_STARTS + 1]
    alphabet = sorted(signs(tree) | {"a", " ", "\n"})[:14]
    for start in starts:
        if start:
            yield "", start
    for start in chosen:
        yield "", f"{start}\n"
        for sign in alphabet:
            yield start, sign
            yield "", start + sign
    yield from (("", one + other) for one in alphabet for other in alphabet if one < other)


def spent(call: Any, text: str) -> float:
    began = time.process_time()
    call(text)
    return time.process_time() - began


def least(call: Any, text: str, quarter: str) -> tuple[float, float]:
    """Return the least processor time of each text in at least three rounds, and in up to `ROUNDS` while growth seems not to be linear.

    The texts take turns, so that a machine that is slower for a while, as when a neighbour has the core's other thread, is so for both.
    """
    now = before = math.inf
    for number in range(1, ROUNDS + 1):
        now, before = min(now, spent(call, text)), min(before, spent(call, quarter))
        if number >= 3 and now <= MOST_GROWTH * before:
            break
    return now, before


def slow(pattern: Pattern) -> str:
    """Describe a text on which the pattern takes more than linear time. Empty if none was found."""
    made = compiled(pattern)
    if made is None:
        return ""
    calls = {name: getattr(made, name) for name in pattern.methods if name in WHOLE}
    if set(pattern.methods) - set(WHOLE):
        calls["findall"] = made.findall
    for start, unit in dict.fromkeys(texts(parser.parse(pattern.text, pattern.flags))):
        for end in ("", "\0"):
            for name, call in calls.items():
                before = 0.0
                for length in LENGTHS:
                    text = start + unit * (length // len(unit)) + end
                    now = spent(call, text)
                    if now >= QUICK and (length == LENGTHS[0] or (before and now > MOST_GROWTH * before)):
                        quarter = start + unit * (length // 4 // len(unit)) + end
                        now, before = least(call, text, quarter)
                        if now > MOST_GROWTH * before:
                            what = f"{name} of {length:,} characters, {start!r} + {unit!r} over and over + {end!r}"
                            return f"{what}: {now:.3f} s, a quarter of them {before:.4f} s"
                    before = now
    return ""


ALL = sorted(set(patterns()), key=lambda one: one.place)


def test_the_tree_s_patterns_are_found():
    places = {pattern.place.partition(":")[0] for pattern in ALL}
    assert len(ALL) > 80
    assert {"flowsession_agent/install/failures.py", "flowsession_agent/feeds/links.py", "flowsession_agent/source/failures.py"} <= places


@pytest.mark.parametrize("pattern", ALL, ids=lambda one: one.place)
def test_takes_linear_time(pattern):
    assert slow(pattern) == ""


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (r"^\s*(?:Error|error).{0,200}$", re.MULTILINE),
        (r"<(a|base)\b((?:[^>\"']|\"[^\"]*\"|'[^']*')*)>", re.IGNORECASE),
        (r"(\S+):(\d+):\d+$", re.MULTILINE),
        (r"requirement name[^\n]*\(from versions: ([^)]*)\)", 0),
        (r"ResolutionImpossible|Cannot install .* conflicting dependencies", 0),
        (r"Could not open requirements file: .*?: '([^']+)'|failed to read from file `([^`]+)`", 0),
        (r"(a+)+b", 0),
        (r"\s+\(from", 0),
    ],
)
def test_what_takes_more_is_seen(text, flags):
    assert slow(Pattern("here", text, flags, ("search",)))
