"""Patches a mutant's functions into the imported ones, since importing again takes longer than most tests."""

import gc
from collections.abc import Iterator
from types import CodeType, FunctionType

CLASS_BODIES_LACK = 0x1
"""CO_OPTIMIZED: set for functions, not for modules and class bodies."""


def changed_functions(original: str, mutated: str, path: str) -> dict[tuple[str, int], CodeType] | None:
    """Return new code by name and first line, or None if the change affects what runs at import."""
    old, new = compile(original, path, "exec"), compile(mutated, path, "exec")
    return dict(_differences(old, new)) if _own(old) == _own(new) else None


def _differences(old: CodeType, new: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    for before, after in zip(_inner(old), _inner(new), strict=True):
        if before.co_flags & CLASS_BODIES_LACK:
            if before != after:
                yield (before.co_qualname, before.co_firstlineno), after
        else:
            yield from _differences(before, after)


def _inner(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _own(code: CodeType) -> tuple[object, ...]:
    """Return what runs at import: the code of the module and of its classes' bodies."""
    constants = [repr(constant) for constant in code.co_consts if not isinstance(constant, CodeType)]
    inner = _inner(code)
    bodies = [_own(body) for body in inner if not body.co_flags & CLASS_BODIES_LACK]
    return code.co_code, code.co_names, tuple(constants), len(inner), tuple(bodies)


def put(functions: dict[tuple[str, int], CodeType], path: str) -> int:
    """Give this process's functions their new code, and return how many were found."""
    found = 0
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and thing.__code__.co_filename == path:
            code = functions.get((thing.__code__.co_qualname, thing.__code__.co_firstlineno))
            if code is not None:
                thing.__code__ = code
                found += 1
    return found
