"""Plain YAML values as ruamel.yaml's YAML(), and therefore prompt flow, reads them: YAML 1.2, or 1.1 if the document says so.

libyaml finds the scalars, because the operator has one thread and ruamel.yaml's own parser takes twenty times as long. This module decides
what a plain scalar means, which keys are equal and what a merge key may hold, by ruamel.yaml's rules (0.18 and 0.19). A differential test
compares this module with ruamel.yaml.
"""

import re
from collections.abc import Hashable, Mapping
from typing import Any

import yaml

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_TAG = "tag:yaml.org,2002:"
_FLOAT = (
    r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|SIGN\.[0-9_]+(?:[eE][-+][0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_BOOL = "true|True|TRUE|false|False|FALSE"
_KINDS = {
    "bool": (_BOOL, "tTfF"),
    "float": (_FLOAT.replace("SIGN", "[-+]?"), "-+0123456789."),
    "int": (r"[-+]?(?:0b[01_]+|0o?[0-7_]+|[0-9_]+|0x[0-9a-fA-F_]+)", "-+0123456789"),
}
_OLD_KINDS = {
    "bool": (f"{_BOOL}|y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    "float": (_FLOAT.replace("SIGN", "") + r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*", "-+0123456789."),
    "int": (r"[-+]?(?:0b[01_]+|0?[0-7_]+|[1-9][0-9_]*|0x[0-9a-fA-F_]+|[1-9][0-9_]*(?::[0-5]?[0-9])+)", "-+0123456789"),
}
_TRUE = ("yes", "y", "true", "on")
_BASES = {"0b": 2, "0x": 16, "0o": 8}


class MapKey(dict[Any, Any]):
    """A mapping used as a key of another one, as in `text: {{name}}` without quotes."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self))


class Loader(_Base):  # type: ignore[misc]
    """A safe loader: it creates only plain values, and ignores tags that it doesn't know."""

    octal_by_zero = False
    """Whether 010 is 8 and 1:30 is 90, as in YAML 1.1."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._flat: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Add to the mapping, once, what its merge key names. Raises ConstructorError if the mapping has a key twice."""
        if id(node) in self._flat:
            return
        self._flat.add(id(node))
        own: dict[Hashable, tuple[yaml.Node, yaml.Node]] = {}
        merged: yaml.Node | None = None
        for key_node, value_node in node.value:
            merge = key_node.tag == f"{_TAG}merge"
            key = "<<" if merge else self.key(key_node)
            if merged is not None if merge else key in own:
                message = f"the key {str(getattr(key_node, 'value', key))[:80]!r} is there twice"
                raise yaml.constructor.ConstructorError(None, None, message, key_node.start_mark)
            if merge:
                merged = value_node
            else:
                own[key] = (key_node, value_node)
        if merged is not None:
            brought: dict[Hashable, tuple[yaml.Node, yaml.Node]] = {}
            for source in merged.value if isinstance(merged, yaml.SequenceNode) else [merged]:
                if not isinstance(source, yaml.MappingNode):
                    message = f"a merge key (<<) must name mappings, but names a {_kind(source)}"
                    raise yaml.constructor.ConstructorError(None, None, message, merged.start_mark)
                self.flatten_mapping(source)
                brought = {**{self.key(pair[0]): pair for pair in source.value}, **brought}
            node.value = list({**brought, **own}.values())

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping. Keys are compared by value: 1 and '1' are two keys, 1 and 0x1 are the same one."""
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(None, None, f"expected a mapping, but found a {_kind(node)}", node.start_mark)
        self.flatten_mapping(node)
        return {self.key(key_node): self.construct_object(value_node, deep=deep) for key_node, value_node in node.value}

    def key(self, node: yaml.Node) -> Hashable:
        """Return a key's value. Lists and mappings may be keys."""
        if node.tag == f"{_TAG}value":
            return "="
        return _hashable(self.construct_object(node, deep=True))

    def plain_bool(self, node: yaml.ScalarNode) -> bool:
        """Return true or false, for any of YAML 1.1's words: in YAML 1.2 too, a tag may ask for a boolean."""
        text = self.construct_scalar(node).lower()
        if text not in (*_TRUE, "no", "n", "false", "off"):
            raise ValueError(f"{text!r} is neither true nor false")
        return text in _TRUE

    def plain_int(self, node: yaml.ScalarNode) -> int:
        """Return a whole number: in YAML 1.2, 010 is 10 and 0o10 is 8."""
        text = self.construct_scalar(node).replace("_", "")
        sign, text = (-1 if text.startswith("-") else 1), text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
        base = _BASES.get(text[:2])
        if base is not None:
            return sign * int(text[2:], base)
        if self.octal_by_zero and len(text) > 1 and text.startswith("0"):
            return sign * int(text, 8)
        if self.octal_by_zero and ":" in text:
            return int(sign * _sexagesimal(text))
        return sign * int(text)

    def plain_float(self, node: yaml.ScalarNode) -> float:
        """Return a number with a point or an exponent."""
        text = self.construct_scalar(node).replace("_", "").lower()
        sign, text = (-1.0 if text.startswith("-") else 1.0), text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
        if text in (".inf", ".nan"):
            return sign * float(text[1:])
        return sign * (_sexagesimal(text) if self.octal_by_zero and ":" in text else float(text))

    def untagged(self, node: yaml.Node) -> object:
        """Return the value below an unknown tag. ruamel.yaml keeps such tags, and prompt flow ignores them."""
        if isinstance(node, yaml.ScalarNode):
            return self.construct_scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return self.construct_sequence(node, deep=True)
        return self.construct_mapping(node, deep=True)


class Loader11(Loader):
    """For documents that begin with `%YAML 1.1`."""

    octal_by_zero = True


class Dumper(yaml.SafeDumper):
    """Writes values so that they read back the same: a text that looks like a number gets quotes."""


def _teach(to: Any, *, replaced: tuple[str, ...], kinds: Mapping[str, tuple[str, str]]) -> None:
    to.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in {f"{_TAG}{kind}" for kind in replaced}]
        for first, resolvers in to.yaml_implicit_resolvers.items()
    }
    for kind, (pattern, first) in kinds.items():
        to.add_implicit_resolver(f"{_TAG}{kind}", re.compile(f"^(?:{pattern})$"), list(first))


def _hashable(value: object) -> Hashable:
    if isinstance(value, dict):
        return MapKey(value)
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    if not isinstance(value, Hashable):
        raise ValueError(f"a {type(value).__name__} can't be a key")
    return value


def _kind(node: yaml.Node) -> str:
    return "list" if isinstance(node, yaml.SequenceNode) else "scalar" if isinstance(node, yaml.ScalarNode) else "mapping"


def _sexagesimal(text: str) -> float:
    value = 0.0
    for part in text.split(":"):
        value = 60 * value + float(part)
    return value


_teach(Loader, replaced=("bool", "float", "int"), kinds=_KINDS)
_teach(Loader11, replaced=("bool", "float", "int"), kinds=_OLD_KINDS)
_teach(Dumper, replaced=(), kinds=_KINDS)
Dumper.add_representer(MapKey, lambda dumper, key: dumper.represent_dict(dict(key)))
Loader.add_constructor(f"{_TAG}bool", Loader.plain_bool)
Loader.add_constructor(f"{_TAG}int", Loader.plain_int)
Loader.add_constructor(f"{_TAG}float", Loader.plain_float)
Loader.add_constructor(None, Loader.untagged)
