"""Converts a pydantic model to the structural schema that a CustomResourceDefinition needs.

The API server refuses references, `type: null`, numeric exclusive bounds, `const` and much else that pydantic emits
(https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema).
"""

from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_KEPT = frozenset(
    {
        "type", "format", "description", "properties", "required", "items", "additionalProperties", "enum", "default", "pattern",
        "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties",
    }
)  # fmt: skip
_RENAMED = {"object": {"maxLength": "maxProperties", "minLength": "minProperties"}}


def structural(model: type[BaseModel], *, defaults: bool = True) -> Schema:
    """Return the structural schema of a model, with references inlined. Raises ValueError for what has no structural form.

    `defaults` False is for statuses: the API server would write the defaults into every object.
    """
    schema = model.model_json_schema(by_alias=True, mode="validation")
    converted = _convert(schema, schema.get("$defs", {}), path=model.__name__, inside=())
    return converted if defaults else _without_defaults(converted)


def with_limits(node: Schema) -> Schema:
    """Add each field's default and limits to its description, because `kubectl explain` does not show them otherwise."""
    for child in node.get("properties", {}).values():
        if limits := _limits(child):
            child["description"] = f"{child.get('description', '')} {limits}".strip()
    for child in (*node.get("properties", {}).values(), node.get("items"), node.get("additionalProperties")):
        if isinstance(child, dict):
            with_limits(child)
    return node


def _limits(node: Schema) -> str:
    """Return sentences such as "Default: 3600. 5 to 86400." or "At most 20 items. Each: 1 to 63 characters."; empty if there are no
    limits."""
    default = node.get("default")
    if isinstance(default, bool):
        default = str(default).lower()
    sentences = [] if default is None or isinstance(default, dict | list) else [f"Default: {'empty' if default == '' else default}."]
    sentences += [f"{span[:1].upper()}{span[1:]}." for span in _spans(node)]
    each, who = _each(node), "Each"
    while each:
        sentences += [f"{who}: {span}." for span in _spans(each)]
        each, who = _each(each), "Each of these"
    return " ".join(sentences)


def _each(node: Schema) -> Schema | None:
    """Return the schema of the elements of a list, or of a map without fixed members."""
    found = node.get("items") or node.get("additionalProperties")
    return found if isinstance(found, dict) and "properties" not in found else None


def _spans(node: Schema) -> list[str]:
    spans = []
    for what, unit in (("imum", ""), ("Length", "characters"), ("Items", "items"), ("Properties", "entries")):
        least, most = node.get(f"min{what}"), node.get(f"max{what}")
        if least is not None and most is not None:
            spans.append(f"{least} to {most} {unit}".strip())
        elif least is not None or most is not None:
            spans.append(f"{'at most' if least is None else 'at least'} {most if least is None else least} {unit}".strip())
    return spans


def _without_defaults(node: Any) -> Any:
    """Return the schema without defaults. A field that is itself called default is kept: it has a type."""
    if isinstance(node, dict):
        return {
            key: _without_defaults(value)
            for key, value in node.items()
            if key != "default" or (isinstance(value, dict) and "type" in value)
        }
    return [_without_defaults(item) for item in node] if isinstance(node, list) else node


def _convert(  # noqa: C901, PLR0912 - one branch for each form that pydantic emits
    node: Schema, definitions: dict[str, Schema], *, path: str, inside: tuple[str, ...]
) -> Schema:
    if "$ref" in node:
        name = node["$ref"].removeprefix("#/$defs/")
        if name in inside:
            raise ValueError(f"{path}: {name} contains itself, and a structural schema can't")
        merged = {**definitions[name], **{k: v for k, v in node.items() if k != "$ref"}}
        merged.update(_joined_validations(definitions[name], node))
        return _convert(merged, definitions, path=path, inside=(*inside, name))
    if "anyOf" in node:
        return _convert(_without_null(node, path), definitions, path=path, inside=inside)
    if "prefixItems" in node or "oneOf" in node or "allOf" in node:
        raise ValueError(f"{path}: tuples and unions have no structural form; use a list, or optional members with a CEL rule")
    out = {key: value for key, value in node.items() if key in _KEPT or key.startswith("x-kubernetes-")}
    if "const" in node:
        out["enum"] = [node["const"]]
    if out.get("default") in (None, [], {}) and "default" in out:
        del out["default"]
    if "exclusiveMinimum" in node or "exclusiveMaximum" in node:
        raise ValueError(f"{path}: use ge and le; exclusive bounds have another form in OpenAPI 3.0")
    for mine, structural_name in _RENAMED.get(str(out.get("type")), {}).items():
        if mine in out:
            out[structural_name] = out.pop(mine)
    if "properties" in out:
        out["properties"] = {k: _convert(v, definitions, path=f"{path}.{k}", inside=inside) for k, v in out["properties"].items()}
        out.pop("additionalProperties", None)
        _default_filled_objects(out, may_be_absent={k for k, v in node["properties"].items() if "anyOf" in v})
    elif isinstance(out.get("additionalProperties"), dict):
        out["additionalProperties"] = _convert(out["additionalProperties"], definitions, path=f"{path}.*", inside=inside)
    elif out.get("additionalProperties") is True:
        del out["additionalProperties"]
        out["x-kubernetes-preserve-unknown-fields"] = True
    if "items" in out:
        out["items"] = _convert(out["items"], definitions, path=f"{path}[]", inside=inside)
    return _ordered(out)


def _without_null(node: Schema, path: str) -> Schema:
    """Return X for `X | None`: a custom resource leaves absent fields out."""
    options = [option for option in node["anyOf"] if option.get("type") != "null"]
    if len(options) != 1:
        raise ValueError(f"{path}: a union of types has no structural form")
    outer = {k: v for k, v in node.items() if k not in ("anyOf", "default")}
    return {**options[0], **outer, **_joined_validations(options[0], outer)}


def _joined_validations(inner: Schema, outer: Schema) -> Schema:
    rules = [*inner.get("x-kubernetes-validations", []), *outer.get("x-kubernetes-validations", [])]
    return {"x-kubernetes-validations": rules} if rules else {}


def _default_filled_objects(schema: Schema, may_be_absent: set[str]) -> None:
    """Give each optional object whose members have defaults `default: {}`, so that the server fills them in and explain shows them.

    Objects that may be absent (`X | None`) get none: their absence means something else than all defaults.
    """
    kept_out = {*schema.get("required", []), *may_be_absent}
    for name, child in schema["properties"].items():
        members = child.get("properties", {})
        if name not in kept_out and any("default" in m for m in members.values()) and not child.get("required"):
            child["default"] = {}


def _ordered(schema: Schema) -> Schema:
    first = ("type", "format", "description", "default")
    keys = [k for k in first if k in schema] + sorted(k for k in schema if k not in first)
    return {k: schema[k] for k in keys}
