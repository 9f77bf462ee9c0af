"""Tells the agent what the session shall have, follows the install, and says what came of it."""

from dataclasses import dataclass

from flowsession.api.session import Install, OnChange, Phase
from flowsession.decide import requests
from flowsession.decide.draft import Draft
from flowsession.decide.plan import Follow, Tell
from flowsession.decide.resolution import Resolved
from flowsession.decide.start import began, current_pod, time_out
from flowsession.decide.views import AgentView, InstallView, PodView

UNREACHABLE_AFTER = 20.0
"""Seconds of unanswered calls after which people are told; a young agent needs some tenths of a second."""


LONGEST_PAUSE = 60.0
"""Seconds between two calls of an agent that does not answer, at most."""

OUT_OF_MEMORY = 137
"""Exit code of what was killed by signal 9."""

FOLLOW_PAUSE = 0.05
"""Seconds between two long polls of one agent at least, however fast it answers."""

QUIET_PAUSE = 1.0
"""The same after an answer that brought nothing new."""


@dataclass(frozen=True)
class Target:
    """The revisions that the session shall have."""

    packages: str
    flow: str


def target(draft: Draft, environment: Resolved) -> Target:
    """What the session shall have now: all that the environment asks for, but with `onChange: Wait` its packages only when asked."""
    wanted = Target(environment.packages_revision, environment.flow_revision)
    has = draft.snapshot.status.get("packagesRevision")
    waits = draft.snapshot.spec.on_change == OnChange.WAIT and draft.was_ready and not requests.pending(draft, "install")
    agent = draft.snapshot.agent
    told_all = agent is not None and agent.told is not None and agent.told[0] == wanted.packages
    return Target(has, wanted.flow) if waits and has and not told_all else wanted


def agent_of(draft: Draft, pod: PodView) -> AgentView | None:
    """What is known of the agent in this very container: a restarted one is another agent."""
    agent = draft.snapshot.agent
    return agent if agent and pod.container and agent.restarts == pod.container.restarts else None


def settled(draft: Draft, pod: PodView) -> bool:
    """Whether the status shows that this container already has all it shall have: then nobody needs to be asked anything."""
    environment, status = draft.snapshot.environment, draft.snapshot.status
    if not isinstance(environment, Resolved) or not draft.was_ready or not same_container(draft, pod):
        return False
    has = Target(status.get("packagesRevision") or "", status.get("flowRevision") or "")
    return (has == target(draft, environment) and not requests.pending(draft, "install")) or pod.image != environment.base_image


def same_container(draft: Draft, pod: PodView) -> bool:
    """Whether this very container was ready before, by the status: told by its restart count, since clocks of nodes differ."""
    status = draft.snapshot.status
    restarts = pod.container.restarts if pod.container else 0
    return bool(status.get("readyAt")) and status.get("podName") == pod.name and status.get("containerRestarts") == restarts


def tell_the_agent(draft: Draft) -> bool:
    """Sees to it that the agent knows what the session shall have."""
    pod, environment = current_pod(draft), draft.snapshot.environment
    assert pod is not None and isinstance(environment, Resolved), "the stages before saw to it"
    agent = agent_of(draft, pod)
    wanted = target(draft, environment)
    request = requests.pending(draft, "install")
    image_changed = pod.image != environment.base_image
    if image_changed:
        draft.judge(
            "InSync", False, "ImageChanged", f"the environment's image is now {environment.base_image}; re-create the session to take it up"
        )
    elif wanted.packages != environment.packages_revision:
        said = f"the environment's requirements have changed; install them by the annotation {requests.REQUESTS['install']}"
        draft.judge("InSync", False, "RequirementsChanged", said)
    if image_changed and draft.was_ready and same_container(draft, pod):
        if request:
            requests.refuse(draft, "install", f"the environment's image has changed too; set the annotation {requests.REQUESTS['reset']}")
        return True
    if settled(draft, pod):
        return True
    if agent and agent.state and agent.told == (wanted.packages, wanted.flow) and request in ("", agent.told_request):
        if agent.state.install.state != "Running":
            requests.done(draft, "install")
        return True
    if (agent is None or agent.told is None) and not request and _ran_out_of_memory(draft, pod, wanted):
        return True
    if agent and agent.refused and agent.told == (wanted.packages, wanted.flow):
        draft.not_ready(Phase.FAILED, "AgentRefused", f"the session's agent refused its environment: {agent.refused}")
        return False
    _ask(draft, agent, Tell({**environment.wire, "packagesRevision": wanted.packages}, request))
    serving = draft.was_ready and same_container(draft, pod)
    if not serving:
        _wait_for_agent(draft, pod, agent)
    return serving


def follow_the_install(draft: Draft) -> bool:
    """Says how far the install is. A session that was ready goes on serving with what it had."""
    pod, environment = current_pod(draft), draft.snapshot.environment
    assert pod is not None and isinstance(environment, Resolved), "the stages before saw to it"
    agent = agent_of(draft, pod)
    if agent is None or agent.state is None or agent.told is None:
        return True
    state = agent.state
    install, wanted = state.install, target(draft, environment)
    if install.state == "Running":
        _follow(draft, agent, since=state.version)
        count = environment.requirements_count
        where = environment.requirements_path or "spec.requirementsText"
        draft.judge("PackagesInstalled", False, "Installing", f"installing {count} requirements of {where}")
        draft.judge("InSync", False, "RequirementsChanged", "the install of the environment's requirements is under way")
        draft.put("install", Install(revision=wanted.packages).to_wire())
        if agent.failures and draft.now - agent.failing_since >= UNREACHABLE_AFTER and not draft.was_ready:
            _wait_for_agent(draft, pod, agent)
        elif not draft.was_ready:
            draft.not_ready(Phase.INSTALLING, "Starting", f"installing {count} requirements of {where}")
            draft.only_progress(since=began(draft, pod))
        return draft.was_ready
    if install.state in ("Failed", "TimedOut"):
        reason = "InstallTimeout" if install.state == "TimedOut" else "InstallFailed"
        draft.judge("PackagesInstalled", False, reason, install.message or "the installer gave no reason")
        draft.judge("InSync", False, "RequirementsChanged", "the environment's requirements could not be installed")
    elif state.packages_revision:
        _installed(draft, environment, install)
        in_sync = (state.packages_revision, state.flow_revision) == (wanted.packages, wanted.flow)
        if in_sync and wanted.packages == environment.packages_revision and pod.image == environment.base_image:
            draft.judge("InSync", True, "InSync", "packages and flow folder are those of the environment")
    draft.put("install", _summary(install))
    return True


def _follow(draft: Draft, agent: AgentView, *, since: int) -> None:
    if agent.calling:
        return
    due = agent.asked_at + (pause_after(agent) if agent.failures else QUIET_PAUSE if agent.quiet else FOLLOW_PAUSE)
    if draft.now < due:
        draft.look_again(due)
    else:
        draft.call = Follow(since=since)


def askable_at(agent: AgentView | None) -> float:
    """When a serving agent may be asked again, in seconds since 1970: at once (0) unless it did not answer."""
    return agent.asked_at + pause_after(agent) if agent and agent.failures else 0.0


def pause_after(agent: AgentView) -> float:
    """Seconds until a serving agent that did not answer is asked again: 1, 2, 4 ... 60."""
    return min(LONGEST_PAUSE, 2.0 ** min(agent.failures - 1, 10))


def _ask(draft: Draft, agent: AgentView | None, call: Tell) -> None:
    if agent is None:
        draft.call = call
    elif not agent.calling or agent.following:
        pause = min(5.0, 0.02 * 2.0 ** min(agent.failures, 10)) if agent.failures else 0.0
        if draft.now >= agent.asked_at + pause:
            draft.call = call
        else:
            draft.look_again(agent.asked_at + pause)


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
        draft.only_progress(since=began(draft, pod))
        if agent and agent.failures:
            draft.look_again(agent.failing_since + UNREACHABLE_AFTER)
    time_out(draft, pod, "its agent answers")


def _ran_out_of_memory(draft: Draft, pod: PodView, wanted: Target) -> bool:
    """Holds a session whose container was killed for memory before it was ready: the same install would only end the same way."""
    container = pod.container
    assert container is not None
    if container.restarts == 0 or container.ended_reason != "OOMKilled":
        return False
    status = draft.snapshot.status
    # An install without a tool was under way when the container died; the exit code is what this function itself wrote down then.
    install = status.get("install")
    if install and (install.get("revision") != wanted.packages or install.get("tool")):
        return False
    if not install and status.get("readyAt"):
        return False
    limit = pod.memory_limit or draft.snapshot.settings.session.limits.get("memory", "none")
    message = (
        f"the container was killed for memory (limit {limit}) while the requirements were being installed; need less,"
        " such as wheels instead of source packages, or raise the limit, then change the requirements or re-create the session"
    )
    draft.put("install", Install(revision=wanted.packages, exit_code=OUT_OF_MEMORY).to_wire())
    draft.judge("PackagesInstalled", False, "InstallFailed", message)
    draft.not_ready(Phase.FAILED, "OutOfMemory", message)
    return True


def _installed(draft: Draft, environment: Resolved, install: InstallView) -> None:
    if environment.requirements_count == 0:
        draft.judge("PackagesInstalled", True, "NoRequirements", "the image's own packages; the environment asks for no others")
    elif install.warnings:
        draft.judge(
            "PackagesInstalled", True, "InstalledWithWarnings", f"{_outcome(install)}; {install.tool} warned: {install.warnings[0]}"
        )
    else:
        draft.judge("PackagesInstalled", True, "Installed", _outcome(install))


def _outcome(install: InstallView) -> str:
    if install.changed == 0:
        return "the image had everything that the requirements ask for"
    return f"{install.changed} packages installed by {install.tool} in {install.seconds:.1f} s"


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
