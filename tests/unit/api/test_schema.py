"""The converter from pydantic's schema to the structural one: one test for each thing that the API server refuses."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from flowsession.api.base import rule, validations
from flowsession.api.schema import structural


class Inner(BaseModel):
    size: int = Field(default=3, description="Its size.")


def member(annotation: Any, default: Any = ...) -> dict[str, Any]:
    """Return the structural schema of one member of a model."""
    model = type("Sample", (BaseModel,), {"__annotations__": {"member": annotation}} | ({} if default is ... else {"member": default}))
    return structural(model)["properties"]["member"]


@pytest.mark.parametrize(
    ("annotation", "default", "expected"),
    [
        pytest.param(str, ..., {"type": "string"}, id="titles are dropped"),
        pytest.param(str | None, None, {"type": "string"}, id="optional: no null, no default, not nullable"),
        pytest.param(
            Inner | None,
            None,
            {"type": "object", "properties": {"size": {"type": "integer", "description": "Its size.", "default": 3}}},
            id="references are inlined",
        ),
        pytest.param(Literal["a"], ..., {"type": "string", "enum": ["a"]}, id="const becomes an enum of one"),
        pytest.param(
            dict[str, str], ..., {"type": "object", "additionalProperties": {"type": "string"}}, id="a map keeps its values' type"
        ),
        pytest.param(
            dict[str, Any], ..., {"type": "object", "x-kubernetes-preserve-unknown-fields": True}, id="a map of anything is preserved"
        ),
        pytest.param(
            Annotated[dict[str, str], Field(max_length=2)],
            ...,
            {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 2},
            id="a map's length is maxProperties",
        ),
        pytest.param(list[int], [], {"type": "array", "items": {"type": "integer"}}, id="empty defaults are dropped"),
        pytest.param(int, 7, {"type": "integer", "default": 7}, id="scalar defaults stay"),
        pytest.param(bool, False, {"type": "boolean", "default": False}, id="false is a default"),
        pytest.param(Annotated[int, Field(ge=1, le=9)], ..., {"type": "integer", "minimum": 1, "maximum": 9}, id="bounds"),
        pytest.param(
            Annotated[str, Field(examples=["x"], deprecated=True)], ..., {"type": "string"}, id="examples, deprecated are dropped"
        ),
        pytest.param(
            Annotated[str, Field(json_schema_extra={"format": "date-time"})], ..., {"type": "string", "format": "date-time"}, id="format"
        ),
    ],
)
def test_what_a_member_becomes(annotation, default, expected):
    found = member(annotation, default)
    found.pop("default" if expected.get("type") == "object" and "default" not in expected else "", None)
    assert found == expected


@pytest.mark.parametrize(
    "annotation",
    [int | str, tuple[int, str], Inner | int, Annotated[int, Field(gt=0)], Annotated[float, Field(lt=1)]],
    ids=["union", "tuple", "union with a model", "exclusive minimum", "exclusive maximum"],
)
def test_what_has_no_structural_form_is_refused_with_its_place(annotation):
    with pytest.raises(ValueError, match=r"Sample\.member: "):
        member(annotation)


class Tree(BaseModel):
    children: list["Tree"] = []


def test_recursion_is_refused():
    with pytest.raises(ValueError, match="Tree contains itself"):
        structural(Tree)


def test_optional_is_not_required_and_required_is():
    model = type("Sample", (BaseModel,), {"__annotations__": {"a": str, "b": str | None}, "b": None})
    assert structural(model)["required"] == ["a"]


def test_additional_properties_are_dropped_where_there_are_properties():
    class Closed(BaseModel, extra="forbid"):
        a: str

    assert "additionalProperties" not in structural(Closed)


def test_an_object_whose_members_have_defaults_gets_an_empty_one():
    """Only then does the server fill them in, and `kubectl explain` show them."""
    assert member(Inner, Inner())["default"] == {}


def test_an_object_that_may_be_absent_stays_absent():
    """A run without `resources` takes those of its run.yml."""
    assert "default" not in member(Inner | None, None)


def test_an_object_with_required_members_gets_no_default():
    class Needs(BaseModel):
        name: str
        size: int = 3

    assert "default" not in member(Needs | None, None)


def test_rules_of_a_model_and_of_the_field_that_holds_it_are_joined():
    class Ruled(BaseModel):
        model_config = {"json_schema_extra": validations(rule("has(self.a)", "say a"))}
        a: str | None = None

    found = member(Annotated[Ruled | None, Field(json_schema_extra=validations(rule("self == oldSelf", "leave it")))], None)
    assert [one["message"] for one in found["x-kubernetes-validations"]] == ["say a", "leave it"]


def test_a_status_has_no_defaults_but_may_have_a_field_of_that_name():
    class Status(BaseModel):
        default: str = "x"
        inner: Inner = Inner()

    found = structural(Status, defaults=False)
    assert found["properties"]["default"] == {"type": "string"}
    assert "default" not in found["properties"]["inner"]
    assert "default" not in found["properties"]["inner"]["properties"]["size"]
