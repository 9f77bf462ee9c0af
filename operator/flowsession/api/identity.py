"""The identity of a session: the ServiceAccount that pulls its image, reads its feeds and opens its connections."""

from enum import StrEnum

from pydantic import ConfigDict, Field

from flowsession.api.base import Model, ObjectName, rule, validations


class IdentityType(StrEnum):
    """Whose identity it is, in the terms of prompt flow's run.yml."""

    USER = "User"
    MANAGED = "Managed"


class Identity(Model):
    """As whom a session acts."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule(
                "!has(self.type) || self.type == 'Managed' || (!has(self.serviceAccountName) && !has(self.clientID))",
                "identity.serviceAccountName and identity.clientID are for type Managed; type User goes by the user's name",
            ),
            rule(
                "!(has(self.serviceAccountName) && has(self.clientID))",
                "name the identity by serviceAccountName or by clientID, not by both",
            ),
        )
    )

    type: IdentityType = Field(
        default=IdentityType.USER,
        description="User: the ServiceAccount annotated flowsession.dev/user with this user's name; without one, no credentials."
        " Managed: a ServiceAccount labelled flowsession.dev/assignable=true that the requester may impersonate: the named one, or the one"
        " with that client ID, or the first one of the namespace.",
    )
    service_account_name: ObjectName | None = Field(
        default=None,
        description="Name of the ServiceAccount. With type Managed only.",
        json_schema_extra={"x-reference": "serviceaccounts"},
    )
    client_id: str | None = Field(
        default=None,
        alias="clientID",
        max_length=64,
        pattern=r"^[0-9A-Za-z-]+$",
        description="Client ID of an Azure identity: the ServiceAccount annotated azure.workload.identity/client-id with it."
        " With type Managed only.",
    )


class IdentityInUse(Model):
    """The ServiceAccount that a pod runs as."""

    service_account_name: str = Field(description="Its name.")
    client_id: str | None = Field(default=None, alias="clientID", description="The client ID that it was annotated with.")
