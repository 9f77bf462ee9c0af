"""Identities: which ServiceAccount a pod should have, and which one it has."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flowsession.api import GROUP
from flowsession.api.identity import Identity, IdentityType
from flowsession.model import times
from flowsession.model.draft import Draft
from flowsession.model.views import Account, PodIdentity

ASSIGNABLE_LABEL = f"{GROUP}/assignable"
USER_ANNOTATION = f"{GROUP}/user"
CLIENT_ID_ANNOTATION = "azure.workload.identity/client-id"
WORKLOAD_IDENTITY_LABEL = "azure.workload.identity/use"
"""Label of pods into which Azure's webhook mounts a token of the ServiceAccount, for Azure only
(https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html)."""
POD_ANNOTATION = f"{GROUP}/identity"
DEFAULT = "default"
"""Name of the ServiceAccount of pods that specify no other."""
LOOK_SECONDS = 15.0
"""Maximum seconds between two reads of the namespace's ServiceAccounts while one is missing; they are not watched."""

FIRST_LOOK_SECONDS = 2.0
"""Minimum seconds between such reads: the missing one may be about to be created or labeled."""

TOGETHER_SECONDS = 4.0
"""Seconds for which a missing one is not reported: by then, objects applied together exist, and two reads were made."""

PENDING = "IdentityPending"
"""Reason of conditions during TOGETHER_SECONDS."""


@dataclass(frozen=True)
class IdentityUnavailable:
    """Why an identity is unavailable, and what to do about it."""

    reason: str
    message: str


_LACKING = frozenset({PENDING, "IdentityNotFound", "IdentityNotAssignable"})


def asked(wanted: Identity) -> str:
    """Return the identity that a spec asks for, as one string; empty by default. A pod with another one in its annotation is replaced."""
    if wanted.type is IdentityType.USER:
        return ""
    return f"Managed/{wanted.service_account_name or ''}/{wanted.client_id or ''}"


def choose(wanted: Identity, user: str, namespace: str, accounts: Iterable[Account]) -> PodIdentity | IdentityUnavailable:
    """Return the ServiceAccount that a pod of this user should run as, from the namespace's accounts."""
    known = sorted(accounts, key=lambda account: account.name)
    if wanted.type is IdentityType.USER:
        found = next((account for account in known if account.user == user), None)
        if found is None:
            default = next((account.version for account in known if account.name == DEFAULT), "")
            return PodIdentity(asked(wanted), version=default)
    else:
        fitting = [account for account in known if _is_meant(wanted, account)]
        found = next((account for account in fitting if account.assignable), None)
        if found is None:
            return _lacking(wanted, namespace, fitting)
    return PodIdentity(asked(wanted), found.name, found.client_id, found.version)


def found(
    draft: Draft, wanted: Identity, user: str, namespace: str, accounts: tuple[Account, ...] | None
) -> PodIdentity | IdentityUnavailable | None:
    """Return the same for a draft, or None if the accounts must be read first. While one is missing, schedule another read."""
    if accounts is None:
        draft.wants_accounts = True
        return None
    chosen = choose(wanted, user, namespace, accounts)
    if not isinstance(chosen, IdentityUnavailable):
        return chosen
    waited = draft.now - _lacking_since(draft)
    draft.look_again(draft.now + min(LOOK_SECONDS, max(FIRST_LOOK_SECONDS, waited)))
    if waited < TOGETHER_SECONDS:
        return IdentityUnavailable(PENDING, f"it is looked for again in a moment: {chosen.message}")
    return chosen


def _lacking_since(draft: Draft) -> float:
    """Return the time since which the status reports a missing identity, or now if it does not."""
    for condition in (draft.was("ComputeAllocated"), draft.was("Ready")):
        if condition is not None and condition.status == "False" and condition.reason in _LACKING:
            return times.parse(condition.last_transition_time) or draft.now
    return draft.now


def with_identity(manifest: Mapping[str, Any], identity: PodIdentity) -> dict[str, Any]:
    """Return the pod with this identity. Its token is not mounted: the workload identity webhook mounts another one, for Azure only."""
    meta, spec = dict(manifest["metadata"]), dict(manifest["spec"])
    noted = {key: value for key, value in asdict(identity).items() if value}
    if noted:
        meta["annotations"] = {**meta["annotations"], POD_ANNOTATION: json.dumps(noted, sort_keys=True)}
    if identity.account:
        meta["labels"] = {**meta["labels"], WORKLOAD_IDENTITY_LABEL: "true"}
        spec["serviceAccountName"] = identity.account
    return {**manifest, "metadata": meta, "spec": spec}


def of_pod(annotations: Mapping[str, str]) -> PodIdentity:
    """Return the identity in a pod's annotations, or the default if it can't be read."""
    if POD_ANNOTATION not in annotations:
        return PodIdentity()
    try:
        noted = json.loads(annotations[POD_ANNOTATION])
        return PodIdentity(**{key: str(noted.get(key, "")) for key in PodIdentity.__dataclass_fields__})
    except (ValueError, AttributeError, RecursionError):
        return PodIdentity()


def read(meta: Mapping[str, Any]) -> Account:
    """Return the view of a ServiceAccount with this metadata."""
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    return Account(
        meta["name"],
        meta.get("resourceVersion", ""),
        labels.get(ASSIGNABLE_LABEL) == "true",
        annotations.get(USER_ANNOTATION, ""),
        annotations.get(CLIENT_ID_ANNOTATION, ""),
    )


def _is_meant(wanted: Identity, account: Account) -> bool:
    if wanted.service_account_name:
        return account.name == wanted.service_account_name
    return not wanted.client_id or account.client_id == wanted.client_id


def _lacking(wanted: Identity, namespace: str, fitting: list[Account]) -> IdentityUnavailable:
    where, label = f"namespace {namespace!r}", f'{ASSIGNABLE_LABEL}: "true"'
    name, client_id = wanted.service_account_name, wanted.client_id
    if fitting and (name or client_id):
        message = f"ServiceAccount {fitting[0].name!r} in {where}" + (f", with client ID {client_id}," if client_id else "")
        return IdentityUnavailable("IdentityNotAssignable", f"{message} may not be assigned to sessions: have it labelled {label}")
    if name:
        message = f"there is no ServiceAccount {name!r} in {where}: name one that is labelled {label}, or have it created"
    elif client_id:
        message = (
            f"no ServiceAccount in {where} is annotated {CLIENT_ID_ANNOTATION}: {client_id}; have one annotated so and labelled {label}"
        )
    else:
        message = f"no ServiceAccount in {where} may be assigned to sessions: have one labelled {label}"
    return IdentityUnavailable("IdentityNotFound", message)
