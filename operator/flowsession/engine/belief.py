"""Checks an agent's answer: only revisions that were ordered are accepted, since they become parts of object names and statuses."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flowsession.cluster.agent.transport import AgentError
from flowsession.model.agent_views import AgentState, AgentView
from flowsession.model.plan import AgentCall, Deliver

_UNDER_WAY_OR_FAILED = frozenset({"Running", "Failed", "TimedOut"})


def accepted_state(state: AgentState, call: AgentCall, view: AgentView, status: Mapping[str, Any]) -> AgentState:
    """Return the state, with the status' revisions in place of those that were never ordered, by this operator or, according to the
    status, by an earlier one. Raises AgentError if nothing usable is left."""
    orders = [view.delivered or ("", "")]
    if isinstance(call, Deliver):
        orders.append((call.body["packagesRevision"], call.body["flowRevision"]))
    if view.state is not None:
        orders.append((view.state.packages_revision, view.state.flow_revision))
    has = (status.get("packagesRevision") or "", status.get("flowRevision") or "")
    packages = {"", has[0], (status.get("install") or {}).get("revision"), *(order[0] for order in orders)}
    flows = {"", has[1], *(order[1] for order in orders)}
    found = replace(
        state,
        packages_revision=state.packages_revision if state.packages_revision in packages else has[0],
        flow_revision=state.flow_revision if state.flow_revision in flows else has[1],
        install=state.install if state.install.packages_revision in packages else replace(state.install, packages_revision=""),
    )
    if state.packages_revision and not found.packages_revision and state.install.state not in _UNDER_WAY_OR_FAILED:
        raise AgentError("it claims to have installed packages that were not ordered")
    return found
