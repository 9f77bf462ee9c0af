"""What a LIST or a watch selects by: labels and fields, equal to what is asked for."""

from typing import Any

Object = dict[str, Any]


def labelled(body: Object, selector: str) -> bool:
    """Whether an object carries the labels of a selector."""
    labels = body["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in (term.split("=") for term in selector.split(",") if term))


def has_fields(body: Object, selector: str) -> bool:
    """Whether an object's fields are those of a selector."""
    for path, wanted in (term.split("=") for term in selector.split(",") if term):
        value: Any = body
        for member in path.split("."):
            value = value[member]
        if value != wanted:
            return False
    return True
