"""VMSize: an Azure VM size mapped to a node pool, and a session's share of its nodes."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from flowsession.api.base import Conditions, Model, rule, validations

Quantity = Annotated[str, Field(min_length=1, max_length=20, pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")]
"""A Kubernetes quantity, not negative: "2", "500m", "8Gi"."""

QuantityMap = Annotated[dict[str, Quantity], Field(max_length=16)]

_NAMES = rule(
    "self.all(k, k in ['cpu', 'memory', 'ephemeral-storage'] || (k.contains('/') && k.size() <= 100))",
    "resources are cpu, memory, ephemeral-storage, and extended ones such as nvidia.com/gpu",
)
_POSITIVE = rule(
    "self.all(k, isQuantity(self[k]) && quantity(self[k]).isGreaterThan(quantity('0')))",
    "every quantity must be greater than zero",
)
_WHOLE = rule(
    "self.all(k, !k.contains('/') || self[k].matches('^[0-9]+$'))",
    "extended resources such as nvidia.com/gpu come in whole numbers: a device is never shared by halves",
)


class UserIsolation(StrEnum):
    """Whose sessions share a node."""

    NONE = "None"
    NODE = "Node"


class Toleration(Model):
    """Lets sessions onto nodes with a taint, as in a pod."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule(
                "!(self.operator == 'Exists' && has(self.value) && self.value != '')",
                "a toleration with operator Exists has no value: drop the value, or use operator Equal",
            ),
            rule(
                "self.operator == 'Exists' || (has(self.key) && self.key != '')",
                "a toleration without a key tolerates every taint and needs operator Exists",
            ),
            rule(
                "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
                "tolerationSeconds needs effect NoExecute: the other effects never end a pod",
            ),
        )
    )

    key: str | None = Field(default=None, max_length=316, description="Key of the taint; absent with operator Exists: every taint.")
    operator: str = Field(
        default="Equal",
        description="Equal: the taint has this value. Exists: any value.",
        json_schema_extra={"enum": ["Equal", "Exists"]},
    )
    value: str | None = Field(default=None, max_length=63, description="Value of the taint.")
    effect: str | None = Field(
        default=None,
        description="NoSchedule, PreferNoSchedule or NoExecute; absent: all of them.",
        json_schema_extra={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
    )
    toleration_seconds: int | None = Field(default=None, ge=0, le=31536000, description="How long a NoExecute taint is tolerated.")


class VMSizeSpec(Model):
    """What nodes of the size have, how to find them, and how many sessions share one."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule(
                "!has(self.requests) || self.requests.all(k, k in self.capacity"
                " && quantity(self.requests[k]).compareTo(quantity(self.capacity[k])) <= 0)",
                "requests can't be more than the capacity, nor of a resource that capacity does not list",
            )
        )
    )

    azure_name: str = Field(
        min_length=1,
        max_length=50,
        pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_]*[A-Za-z0-9])?$",
        description="Azure's name of the size, such as Standard_D2s_v5: what sessions name in spec.compute.vmSize.",
        json_schema_extra=validations(
            rule(
                "!self.lowerAscii().matches('^(basic_|standard_[abc][0-9])')",
                "sizes are VM series D and above, as in Azure: series A, B and C are too small to run sessions",
            )
        ),
    )
    capacity: QuantityMap = Field(
        description="What a VM of this size has, from Azure's table: cpu, memory, its temporary disk as ephemeral-storage, and"
        " extended resources such as nvidia.com/gpu.",
        json_schema_extra=validations(
            rule("'cpu' in self && 'memory' in self", "capacity must give cpu and memory"), _NAMES, _POSITIVE, _WHOLE
        ),
    )
    sessions_per_node: int = Field(
        default=1,
        ge=1,
        le=250,
        description="How many sessions share a node: each requests its share of the node, and may use the whole.",
    )
    requests: QuantityMap | None = Field(
        default=None,
        description="What a session requests, instead of its share; resources not listed keep the share.",
        json_schema_extra=validations(_NAMES, _POSITIVE, _WHOLE),
    )
    node_selector: dict[str, Annotated[str, Field(max_length=63)]] | None = Field(
        default=None, max_length=16, description="Labels that the nodes of this size have; absent: any node."
    )
    tolerations: list[Toleration] | None = Field(
        default=None, max_length=20, description="Taints of these nodes that sessions of this size tolerate."
    )
    price_per_hour: str | None = Field(
        default=None,
        max_length=16,
        pattern=r"^[0-9]{1,7}(\.[0-9]{1,6})?$",
        description='Price of a node per hour, such as "0.096", in the currency that the platform team chose. Absent: unknown;'
        " sizes with a price are chosen first.",
    )
    priority_class_name: str = Field(
        default="",
        max_length=253,
        description="PriorityClass of this size's sessions. A ResourceQuota scoped to it is the quota of the size.",
    )
    user_isolation: UserIsolation = Field(
        default=UserIsolation.NONE,
        description="Node: a node serves one user's sessions only, across namespaces; several sessions of the same user share it."
        " None: the sessions of different users may share a node.",
    )
    auto_select: bool = Field(default=True, description="Whether sessions that name no size may get this one.")


class VMSizeStatus(Model):
    """The nodes and sessions of the size."""

    observed_generation: int | None = Field(default=None, description="metadata.generation that this status is about.")
    nodes: int | None = Field(default=None, description="Number of nodes of this size.")
    sessions: int | None = Field(default=None, description="Number of sessions that have a pod of this size.")
    conditions: Conditions | None = None


NAME_RULE = rule(
    "self.metadata.name == self.spec.azureName.lowerAscii().replace('_', '-')",
    "metadata.name must be azureName in lower case with - for _, such as standard-d2s-v5 for Standard_D2s_v5: so no two objects stand for"
    " one size",
)
