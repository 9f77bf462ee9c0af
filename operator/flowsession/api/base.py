"""What all kinds share: the model base, conditions, and the markers of the schema generator."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """A part of a custom resource: snake_case here, camelCase on the wire.

    Unknown fields are ignored when reading: the API server has pruned what this version's schema lacks, and a newer
    operator's status must not break an older one.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form, without absent fields."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")


def rule(cel: str, message: str) -> dict[str, str]:
    """Return a CEL rule with the message for people who break it."""
    return {"rule": cel, "message": message}


def validations(*rules: dict[str, str]) -> dict[str, Any]:
    """Return `json_schema_extra` for a field or model with CEL rules."""
    return {"x-kubernetes-validations": list(rules)}


IMMUTABLE = "self == oldSelf"


def immutable(field: str, message: str) -> dict[str, str]:
    """Return the rule that forbids updates to set, change or remove an optional field of a model."""
    return rule(f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})", message)


_HOST = r"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
_PART = r"[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*"
IMAGE_PATTERN = rf"^({_HOST}/)?{_PART}(/{_PART})*(:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(@sha(256:[0-9a-f]{{64}}|512:[0-9a-f]{{128}}))?$"
"""Pattern of image names by the grammar of github.com/distribution/reference; it matches little else."""

IMAGE_RULE = rule(
    f"self == '' || self.matches(r'{IMAGE_PATTERN}')",
    "baseImage must be the name of an image, such as registry.example.com/team/flow:1, in small letters and without blanks",
)

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class Condition(Model):
    """One observation of the object's state, in the form of the Kubernetes API conventions."""

    type: str = Field(max_length=316, description="Name of the condition, in CamelCase.")
    status: str = Field(description="True, False or Unknown.", json_schema_extra={"enum": ["True", "False", "Unknown"]})
    reason: str = Field(max_length=1024, description="One CamelCase word for programs.")
    message: str = Field(default="", max_length=32768, description="One sentence for people: what was found, and what to do about it.")
    last_transition_time: Timestamp = Field(description="When status last changed.")
    observed_generation: int | None = Field(default=None, description="metadata.generation that the condition is about.")


Conditions = Annotated[
    list[Condition],
    Field(
        description="Observations, each with its reason and a sentence; phase is derived from them.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]
