"""Delivers the environment to the agent, follows the install, and writes its result."""

from flowsession.api.session import Install, Phase
from flowsession.model import words
from flowsession.model.agent_views import AgentView, InstallView
from flowsession.model.back_off import back_off
from flowsession.model.call_limits import LONGEST_PAUSE, limits_allow_at, pause_after_failures
from flowsession.model.plan import Deliver, Follow, Probe
from flowsession.model.resolved import Resolved
from flowsession.model.views import PodView
from flowsession.reconcile import requests
from flowsession.reconcile.session import authorship, edits, feed_token
from flowsession.reconcile.session.agent import (
    NOT_INSTALLED,
    Target,
    out_of_sync,
    same_container,
    settled,
    takes_another_pod,
    target,
    was_installing,
)
from flowsession.reconcile.session.draft import Draft, Live
from flowsession.reconcile.session.identity import to_install
from flowsession.reconcile.session.start import time_out
from flowsession_protocol.messages import Order

UNREACHABLE_AFTER = 20.0
"""Seconds of unanswered calls after which the status reports AgentUnreachable. A new agent needs a few tenths of a second."""

FIRST_PAUSE = 0.01
"""Back-off after the first unanswered call, in seconds; it doubles. A pod is Running a little before its agent listens."""

LONGEST_FIRST_PAUSE = 5.0
"""Maximum of this back-off in seconds, until the status reports AgentUnreachable."""

OUT_OF_MEMORY = 137
"""Exit code after signal 9."""

FEED_REASONS = ("FeedCredentialsMissing", "FeedRefused")
"""The agent's codes for failures at a private feed."""

FOLLOW_PAUSE = 0.05
"""Minimum seconds between two long polls of one agent."""

PREDECESSOR_PAUSE = 0.25
"""Seconds between two checks whether the edits of a session deleted just before are saved: this session gets them."""

QUIET_PAUSE = 1.0
"""Back-off after the first empty long poll that returned at once, in seconds; it doubles."""

LONGEST_QUIET_PAUSE = 30.0
"""Maximum of this back-off in seconds: the length of a long poll."""


def deliver(draft: Draft, live: Live) -> bool:
    """Deliver the environment to the agent, unless it has all that it should have."""
    pod, environment, agent = live.pod, live.environment, live.agent
    wanted = target(draft, environment)
    request = requests.pending(draft, "install")
    if stale := takes_another_pod(pod, environment):
        draft.set_condition("InSync", False, stale.reason, f"{stale.message}; take it up by the annotation {requests.REQUESTS['reset']}")
    elif wanted.packages != environment.packages_revision:
        draft.set_condition("InSync", False, "RequirementsChanged", out_of_sync(draft, environment))
    if stale and draft.was_ready and same_container(draft, pod):
        if request:
            requests.refuse(draft, "install", f"{stale.message}; set the annotation {requests.REQUESTS['reset']}")
        return True
    if settled(draft, pod):
        return True
    if agent and agent.refused and agent.delivered == (wanted.packages, wanted.flow) and request in ("", agent.delivered_request):
        requests.done(draft, "install")
        draft.not_ready(Phase.FAILED, "AgentRefused", f"the session's agent refused its environment: {agent.refused}")
        return False
    if agent and agent.state and agent.delivered == (wanted.packages, wanted.flow) and request in ("", agent.delivered_request):
        if agent.state.install.state != "Running":
            requests.done(draft, "install")
        return True
    if (agent is None or agent.delivered is None) and not request and _ran_out_of_memory(draft, pod, wanted):
        return True
    serving = draft.was_ready and same_container(draft, pod)
    _deliver(draft, agent, wanted, environment, request, serving=serving)
    if not serving:
        _wait_for_agent(draft, pod, agent)
    return serving


def _deliver(draft: Draft, agent: AgentView | None, wanted: Target, environment: Resolved, request: str, *, serving: bool) -> None:
    """Call the agent. The first flow folder is delivered with earlier edits, once those are known."""
    unknown = wanted.packages != environment.packages_revision and was_installing(draft) and not (agent and agent.state)
    earlier = [] if serving or environment.files is None else edits.wanted(draft)
    if earlier is None and draft.snapshot.predecessor:
        draft.look_again(draft.now + PREDECESSOR_PAUSE)
    elif earlier is None:
        draft.look_for_edits(draft.incarnation)
    else:
        body: Order = {**environment.wire, "packagesRevision": wanted.packages}
        if draft.snapshot.settings.edits_address:
            body["editsAddress"] = draft.snapshot.settings.edits_address
        for saved in earlier:
            body["savedEdits"] = saved
        _ask(draft, agent, Probe() if unknown else Deliver(body, request, environment.feed_secret, _feed_problem(draft, environment)))


def _feed_problem(draft: Draft, environment: Resolved) -> str:
    pod = draft.pod
    return feed_token.problem(draft.snapshot, pod, environment) if pod is not None and environment.feed_secret else ""


def withhold(draft: Draft, live: Live, message: str) -> bool:
    """Withhold the environment's present content. The session keeps what it has, or waits if this container has nothing yet."""
    pod, agent, before = live.pod, live.agent, draft.was("InSync")
    serving = draft.was_ready and same_container(draft, pod)
    draft.set_condition("InSync", False, authorship.REASON, message)
    if requests.pending(draft, "install"):
        requests.refuse(draft, "install", f"{message}; it has changed since that was last asked for")
    elif serving and (before is None or before.message != message):
        draft.event(warning=True, reason=authorship.REASON, message=f"{message}; until then the session goes on with what it has")
    if serving or (agent is not None and agent.delivered is not None):
        return True
    draft.not_ready(Phase.PENDING, authorship.REASON, message)
    return False


def follow_the_install(draft: Draft, live: Live) -> bool:
    """Write the progress or result of the install. A session that was ready stays ready with what it has."""
    pod, environment, agent = live.pod, live.environment, live.agent
    if agent is None or agent.state is None or agent.delivered is None:
        return True
    state = agent.state
    install, wanted = state.install, target(draft, environment)
    if install.state == "Running":
        follow(draft, agent, Follow(since=state.version))
        count = environment.requirements_count
        where = environment.requirements_path or "spec.requirementsText"
        installing = f"installing {words.counted(count, 'requirement')} of {where}"
        draft.set_condition("PackagesInstalled", False, "Installing", installing)
        draft.set_condition("InSync", False, "RequirementsChanged", "the install of the environment's requirements is under way")
        draft.put("install", Install(revision=wanted.packages).to_wire())
        if agent.failures and draft.now - agent.failing_since >= UNREACHABLE_AFTER and not draft.was_ready:
            _wait_for_agent(draft, pod, agent)
        elif not draft.was_ready:
            draft.not_ready(Phase.INSTALLING, "Starting", installing)
            draft.only_progress(since=draft.began(pod))
        return draft.was_ready
    if install.state in ("Failed", "TimedOut"):
        _not_installed(draft, pod, install)
        draft.set_condition("InSync", False, "RequirementsChanged", NOT_INSTALLED)
    elif state.packages_revision:
        other = authorship.withheld(draft)
        nothing = not install.tool if other else environment.requirements_count == 0
        _installed(draft, install, nothing=nothing)
        _event_of_install_in_place(draft, pod, state.packages_revision)
        in_sync = (state.packages_revision, state.flow_revision) == (wanted.packages, wanted.flow)
        if in_sync and not other and wanted.packages == environment.packages_revision and not takes_another_pod(pod, environment):
            draft.set_condition("InSync", True, "InSync", "packages and flow folder are those of the environment")
    draft.put("install", _summary(install))
    return True


def _not_installed(draft: Draft, pod: PodView, install: InstallView) -> None:
    reason, message = "InstallFailed", install.message or "the installer gave no reason"
    if install.code in FEED_REASONS:  # it may work the next time, with the environment unchanged
        reason, message = install.code, f"{message} Then try again by the annotation {requests.REQUESTS['install']}"
    elif hint := to_install(draft, pod, message):
        message = message.removesuffix(".") + hint
    if install.state == "TimedOut":
        reason = "InstallTimeout"
    draft.set_condition("PackagesInstalled", False, reason, message)


def follow(draft: Draft, agent: AgentView, call: Follow) -> None:
    """Long-poll the agent, less and less often if it keeps returning at once without news."""
    if agent.calling or draft.call is not None:
        return
    pause = pause_after_failures(agent) if agent.failures else _quiet_pause(agent.empty_polls) if agent.empty_polls else FOLLOW_PAUSE
    due = max(agent.asked_at + pause, limits_allow_at(agent))
    if draft.now < due:
        draft.look_again(due)
    else:
        draft.call = call


def _quiet_pause(polls: int) -> float:
    return back_off(polls, first=QUIET_PAUSE, longest=LONGEST_QUIET_PAUSE)


def _ask(draft: Draft, agent: AgentView | None, call: Probe | Deliver) -> None:
    if agent is None:
        draft.call = call
    elif not agent.calling or agent.following:
        due = max(agent.asked_at + _silent_pause(agent), limits_allow_at(agent))
        if draft.now >= due:
            draft.call = call
        else:
            draft.look_again(due)


def _silent_pause(agent: AgentView) -> float:
    """Return the seconds until an agent that has not answered since it started is called again.

    After UNREACHABLE_AFTER, the pause is half of the time for which the agent has been silent: hundreds of such sessions cost nearly
    nothing, and a recovery is noticed after a delay in proportion to the silence.
    """
    if not agent.failures:
        return 0.0
    silent = agent.asked_at - agent.failing_since
    if silent >= UNREACHABLE_AFTER:
        return min(LONGEST_PAUSE, silent / 2)
    return back_off(agent.failures, first=FIRST_PAUSE, longest=LONGEST_FIRST_PAUSE)


def _wait_for_agent(draft: Draft, pod: PodView, agent: AgentView | None) -> None:
    if agent and agent.failures and draft.now - agent.failing_since >= UNREACHABLE_AFTER:
        draft.not_ready(
            Phase.FAILED,
            "AgentUnreachable",
            f"the agent in pod {pod.name} does not answer on port 8765 ({agent.error}); see kubectl logs {pod.name}, and whether a"
            " NetworkPolicy keeps the operator out",
        )
    else:
        draft.not_ready(Phase.STARTING, "Starting", f"waiting for the agent in pod {pod.name}")
        draft.only_progress(since=draft.began(pod))
        if agent and agent.failures:
            draft.look_again(agent.failing_since + UNREACHABLE_AFTER)
    time_out(draft, pod, "its agent answers")


def _ran_out_of_memory(draft: Draft, pod: PodView, wanted: Target) -> bool:
    """Return whether the container was killed for memory before it was ready, and hold such a session: a new try would end the same way."""
    container = pod.container
    assert container is not None
    if container.restarts == 0 or container.ended_reason != "OOMKilled":
        return False
    status = draft.snapshot.status
    # An install without a tool was running when the container died; its exit code was written below.
    install = status.get("install")
    if install and (install.get("revision") != wanted.packages or install.get("tool")):
        return False
    if not install and status.get("readyAt"):
        return False
    limit = pod.memory_limit or draft.snapshot.settings.session.limits.get("memory", "none")
    message = (
        f"the container was killed for memory (limit {limit}) while the requirements were being installed; need less,"
        " such as wheels instead of source packages, or raise the limit, then change the requirements, or try again by the annotation"
        f" {requests.REQUESTS['install']}"
    )
    draft.put("install", Install(revision=wanted.packages, exit_code=OUT_OF_MEMORY).to_wire())
    draft.set_condition("PackagesInstalled", False, "InstallFailed", message)
    draft.not_ready(Phase.FAILED, "OutOfMemory", message)
    return True


def _installed(draft: Draft, install: InstallView, *, nothing: bool) -> None:
    if nothing:
        draft.set_condition("PackagesInstalled", True, "NoRequirements", "the image's own packages; the environment asks for no others")
    elif install.warnings:
        draft.set_condition(
            "PackagesInstalled", True, "InstalledWithWarnings", f"{_outcome(install)}; {install.tool} warned: {install.warnings[0]}"
        )
    else:
        draft.set_condition("PackagesInstalled", True, "Installed", _outcome(install))


def _event_of_install_in_place(draft: Draft, pod: PodView, revision: str) -> None:
    """Write an Event for new packages in a ready session; starts and failures have their own Events."""
    before = draft.snapshot.status.get("packagesRevision")
    if draft.was_ready and same_container(draft, pod) and before and before != revision:
        draft.event(warning=False, reason="Installed", message=f"in the running session: {draft.message('PackagesInstalled')}")


def _outcome(install: InstallView) -> str:
    if install.changed == 0:
        return "the image had everything that the requirements ask for"
    return f"{words.counted(install.changed, 'package')} installed by {install.tool} in {install.seconds:.1f} s"


def _summary(install: InstallView) -> dict[str, object] | None:
    if not install.tool:
        return None
    return Install(
        tool=install.tool,
        revision=install.packages_revision,
        exit_code=install.exit_code,
        seconds=round(install.seconds, 2),
        changed=install.changed,
        stdout_tail=install.stdout_tail,
        stderr_tail=install.stderr_tail,
        warnings=list(install.warnings) or None,
    ).to_wire()
