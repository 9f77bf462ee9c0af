"""What a session runs on: its compute type and VM size, and their cost."""

from enum import StrEnum

from pydantic import ConfigDict, Field

from flowsession.api.base import Model, ObjectName, Timestamp, rule, validations


class ComputeType(StrEnum):
    """What the session runs on."""

    SERVERLESS = "Serverless"
    INSTANCE = "Instance"


class InstanceRef(Model):
    """A ComputeInstance in the same namespace."""

    name: ObjectName = Field(description="Name of the ComputeInstance.")


class Compute(Model):
    """What the session runs on."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule(
                "!has(self.type) || self.type != 'Instance' || !has(self.vmSize) || self.vmSize == ''",
                "compute.vmSize is for type Serverless: a session on a compute instance has the instance's size; leave vmSize out",
            ),
            rule(
                "(has(self.type) && self.type == 'Instance') == has(self.instanceRef)",
                "compute.type Instance needs compute.instanceRef, and type Serverless has none: set both, or neither",
            ),
        )
    )

    type: ComputeType = Field(
        default=ComputeType.SERVERLESS,
        description="Serverless: a share of a node, for as long as the session needs it. Instance: on a ComputeInstance, together with"
        " other sessions of the same user, with the resources that it reserves. A change restarts the session on the new compute.",
    )
    vm_size: str = Field(
        default="",
        max_length=63,
        pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_]*[A-Za-z0-9])?)?$",
        description="Azure's name of a VM size, such as Standard_D2s_v5, or the name of the VMSize object; kubectl get vmsize lists them."
        " Empty: one is chosen by quota, nodes and price. A change restarts the session on the new compute. With type Serverless only.",
    )
    instance_ref: InstanceRef | None = Field(
        default=None, description="The instance to run on, which must be of the same user. With type Instance only."
    )


class Cost(Model):
    """What the compute costs, in the currency of the VMSizes' prices. The present cost is accrued + perHour * hours since `since`."""

    per_hour: str = Field(description="Per hour at present; 0 without compute, and on a ComputeInstance, which has a cost of its own.")
    accrued: str = Field(description="The cost until `since`.")
    since: Timestamp = Field(description="From when on perHour counts.")
