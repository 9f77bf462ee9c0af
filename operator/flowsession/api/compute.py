"""What a session runs on: its compute type and VM size."""

from enum import StrEnum

from pydantic import Field

from flowsession.api.base import Model


class ComputeType(StrEnum):
    """What the session runs on."""

    SERVERLESS = "Serverless"


class Compute(Model):
    """What the session runs on."""

    type: ComputeType = Field(
        default=ComputeType.SERVERLESS, description="Serverless: a share of a node, for as long as the session needs it."
    )
    vm_size: str = Field(
        default="",
        max_length=63,
        pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_]*[A-Za-z0-9])?)?$",
        description="Azure's name of a VM size, such as Standard_D2s_v5, or the name of the VMSize object; kubectl get vmsize lists them."
        " Empty: one is chosen by quota, nodes and price. A change restarts the session on the new compute.",
    )
