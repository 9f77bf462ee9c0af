"""What the session shall have, what its container is known to have, and when its agent may be asked."""

from dataclasses import dataclass, replace

from flowsession.api.session import OnChange
from flowsession.manifests.session_pod import claim_of
from flowsession.model import pod_images as pods
from flowsession.model.agent_views import AgentView
from flowsession.model.conditions import Verdict
from flowsession.model.idle_times import AHEAD_SECONDS
from flowsession.model.patience import rested_at
from flowsession.model.plan import AgentCall
from flowsession.model.resolved import Resolved
from flowsession.model.views import PodView
from flowsession.reconcile import requests
from flowsession.reconcile.session.draft import Draft
from flowsession.reconcile.session.start import current_pod

LONGEST_PAUSE = 60.0
"""Seconds between two calls of an agent that does not answer, at most."""

NOT_INSTALLED = (
    f"the environment's requirements could not be installed; correct them, or try again by the annotation {requests.REQUESTS['install']}"
)


@dataclass(frozen=True)
class Target:
    """The revisions that the session shall have."""

    packages: str
    flow: str


def target(draft: Draft, environment: Resolved) -> Target:
    """What the session shall have now: all that the environment asks for, but with `onChange: Wait` its packages only when asked."""
    wanted = Target(environment.packages_revision, environment.flow_revision)
    pod = current_pod(draft)
    if draft.snapshot.spec.on_change != OnChange.WAIT or requests.pending(draft, "install") or not pod:
        return wanted
    agent = agent_of(draft, pod)
    state = agent.state if agent else None
    has = (state.packages_revision if state else "") or draft.snapshot.status.get("packagesRevision")
    told = agent is not None and agent.told is not None and agent.told[0] == wanted.packages
    begun = state is not None and state.install.state == "Running" and state.install.packages_revision == wanted.packages
    waits = draft.was_ready and same_container(draft, pod) and not told and not begun
    return Target(has, wanted.flow) if waits and has else wanted


def agent_of(draft: Draft, pod: PodView) -> AgentView | None:
    """What is known of the agent in this very container: a restarted one is another agent."""
    agent = draft.snapshot.agent
    return agent if agent and pod.container and agent.restarts == pod.container.restarts else None


def lately_of(draft: Draft, pod: PodView) -> AgentView | None:
    """The same for those who go by how old its words are: what it said in the future, by a clock that was set back since, is not known."""
    agent, latest = agent_of(draft, pod), draft.now + AHEAD_SECONDS
    if agent is None or max(agent.asked_at, agent.state_at, agent.edits_at) <= latest:
        return agent
    return replace(
        agent,
        asked_at=agent.asked_at if agent.asked_at <= latest else 0.0,
        state=agent.state if agent.state_at <= latest else None,
        edits_at=agent.edits_at if agent.edits_at <= latest else 0.0,
    )


def settled(draft: Draft, pod: PodView) -> bool:
    """Whether the status shows that this container already has all it shall have: then nobody needs to be asked anything."""
    environment, status = draft.snapshot.environment, draft.snapshot.status
    if not isinstance(environment, Resolved) or not draft.was_ready or not same_container(draft, pod) or was_installing(draft):
        return False
    has = Target(status.get("packagesRevision") or "", status.get("flowRevision") or "")
    return (has == target(draft, environment) and not requests.pending(draft, "install")) or takes_another_pod(pod, environment) is not None


def was_installing(draft: Draft) -> bool:
    """Whether an install was under way by the status."""
    return draft.reason_before("PackagesInstalled") == "Installing"


def same_container(draft: Draft, pod: PodView) -> bool:
    """Whether this very container was ready before, by the status: told by its restart count, since clocks of nodes differ."""
    status = draft.snapshot.status
    restarts = pod.container.restarts if pod.container else 0
    return bool(status.get("readyAt")) and status.get("podName") == pod.name and status.get("containerRestarts") == restarts


def out_of_sync(draft: Draft, environment: Resolved) -> str:
    """Why packages that wait for a request are not those of the environment."""
    tried = (draft.snapshot.status.get("install") or {}).get("revision") == environment.packages_revision
    before = draft.was("PackagesInstalled")
    if tried and before is not None and before.status == "False":
        return NOT_INSTALLED
    return f"the environment's requirements have changed; install them by the annotation {requests.REQUESTS['install']}"


def ask(draft: Draft, agent: AgentView | None, call: AgentCall, *, not_before: float = 0.0, interrupts: bool = False) -> bool:
    """Has the agent called unless a call is under way or planned, whose answer brings this session up again; whether it is called now.

    It is so at `not_before`, in seconds since 1970, at the earliest. A call that `interrupts` does not wait for a long poll's answer.
    """
    if draft.call is not None or (agent and agent.calling and not (interrupts and agent.following)):
        return False
    due = max(askable_at(agent), not_before)
    if draft.now < due:
        draft.look_again(due)
        return False
    draft.call = call
    return True


def askable_at(agent: AgentView | None) -> float:
    """When a serving agent may be asked again, in seconds since 1970: at once unless it did not answer, or was asked a lot."""
    if agent is None:
        return 0.0
    return max(rested_at(agent), agent.asked_at + pause_after(agent) if agent.failures else 0.0)


def pause_after(agent: AgentView) -> float:
    """Seconds until a serving agent that did not answer is asked again: 1, 2, 4 ... 60."""
    return min(LONGEST_PAUSE, 2.0 ** min(agent.failures - 1, 10))


def takes_another_pod(pod: PodView, environment: Resolved) -> Verdict | None:
    """What of the environment a running pod can't take up."""
    if pods.changed(pod, environment.image):
        return Verdict(False, "ImageChanged", f"the {environment.image.whose} image is now {environment.image.reference}")
    if pod.claim != claim_of(environment.claim):
        now = f"the PersistentVolumeClaim {environment.claim.name!r}" if environment.claim else "no PersistentVolumeClaim any more"
        return Verdict(False, "FlowChanged", f"the environment's flow folder is now {now}, or another folder of it")
    return None
