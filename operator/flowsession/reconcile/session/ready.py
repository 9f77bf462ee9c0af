"""Sessions that have all they should have: the condition Ready, the stages of the start and the list of packages."""

from flowsession.api.session import Packages, Phase, Stage
from flowsession.manifests import config_maps, pod_metadata
from flowsession.manifests.config_maps import PACKAGES
from flowsession.manifests.session_pod import settings_of
from flowsession.model import times
from flowsession.model.agent_views import AgentView
from flowsession.model.plan import ListPackages, Probe
from flowsession.model.views import REFUSED_SECONDS, PodView
from flowsession.reconcile import requests
from flowsession.reconcile.environment.image_status import WITHOUT
from flowsession.reconcile.restarts import DIED, cause_of_container_end
from flowsession.reconcile.session import authorship, gitops
from flowsession.reconcile.session.agent import same_container
from flowsession.reconcile.session.draft import Draft, Live

LIST_SECONDS = 5.0
"""Maximum seconds for which Ready waits for the list of packages, so that one write has both."""

SHORTEST_SECONDS = 0.05
"""Minimum seconds for an Event to name a stage that is usually instant; the status has all stages."""


def judge_ready(draft: Draft, live: Live) -> bool:
    """Write Ready, or why the first install failed."""
    pod, agent = live.pod, live.agent
    if agent is None or agent.state is None or agent.delivered is None:
        answers_again(draft, pod, agent)  # apart from that, the status that an earlier operator wrote stands
        return True
    state = agent.state
    if not state.packages_revision:
        draft.not_ready(Phase.FAILED, "InstallFailed", draft.message("PackagesInstalled"))
        return True
    draft.put("packagesRevision", state.packages_revision)
    draft.put("flowRevision", state.flow_revision or None)
    environment = live.environment
    if agent.delivered == (environment.packages_revision, environment.flow_revision):
        authorship.give(draft)
    if not same_container(draft, pod):
        # Rounded up: idleness counts from here, and must not end the session before the time in the status.
        draft.put("readyAt", times.deadline_stamp(draft.now))
        draft.put("containerRestarts", pod.container.restarts if pod.container else 0)
        stages = _stages(draft, pod, install_seconds=state.install.seconds if state.install.tool else None)
        draft.put("stages", [stage.to_wire() for stage in stages])
        _event_of_restart(draft, pod)
        draft.event(warning=False, reason="Running", message=_start_summary(stages, pod))
        gitops.warn(draft)
    if not (draft.was_unreachable and agent.failures):
        _set_running(draft, pod)
    return True


def _event_of_restart(draft: Draft, pod: PodView) -> None:
    """Warn why the container of a session that was ready ended, if it is running again before any status reported its end."""
    container, before = pod.container, draft.was("Ready")
    served = draft.snapshot.status.get("podName") == pod.name and draft.snapshot.status.get("readyAt")
    if served and container and container.restarts and container.ended_reason and before and before.reason not in DIED:
        reason, message = cause_of_container_end(pod)
        draft.event(warning=True, reason=reason, message=message)


def _set_running(draft: Draft, pod: PodView) -> None:
    draft.status["phase"] = Phase.RUNNING.value
    draft.set_condition("Ready", True, "Running", f"running on {pod.node}; open a terminal with: kubectl exec -it {pod.name} -- bash")
    if draft.was_unreachable:
        draft.event(warning=False, reason="Running", message="its agent answers again")


def answers_again(draft: Draft, pod: PodView, agent: AgentView | None) -> None:
    """Set Ready again once an unreachable agent answers, and probe one that is not known yet."""
    if not (draft.was_unreachable and same_container(draft, pod)):
        return
    if agent is None or agent.state is None:
        draft.ask(agent, Probe())
    elif not agent.failures:
        _set_running(draft, pod)


_OF_SETTINGS = ("SettingsChanged", pod_metadata.REASON)


def compare_settings(draft: Draft, live: Live) -> bool:
    """Write whether `env`, `claims` or `podMetadata` have changed since the pod's creation: changes take effect at the next start."""
    pod = live.pod
    changed = bool(pod.settings) and pod.settings != settings_of(draft.snapshot.spec)
    reason = draft.reason("InSync")
    refused = pod_metadata.refusal(draft.snapshot.spec, draft.snapshot.settings.session.pod_metadata)
    if changed and reason in ("InSync", *_OF_SETTINGS) and refused:
        draft.set_condition(
            "InSync", False, pod_metadata.REASON, f"{refused}; until then the session goes on as it is, and can't start again"
        )
    elif changed and reason in ("InSync", *_OF_SETTINGS):
        message = f"spec.env, spec.claims or spec.podMetadata have changed; take them up by the annotation {requests.REQUESTS['reset']}"
        draft.set_condition("InSync", False, "SettingsChanged", message)
    elif not changed and reason in _OF_SETTINGS:
        draft.set_condition("InSync", True, "InSync", "packages and flow folder are those of the environment")
    return True


def list_packages(draft: Draft, live: Live) -> bool:
    """Keep the list of packages in a ConfigMap, one per revision and image, shared by all sessions that have both."""
    pod, environment, agent = live.pod, live.environment, live.agent
    revision = draft.status.get("packagesRevision")
    if not revision or draft.status.get("phase") != Phase.RUNNING.value:
        return True
    image = draft.status.get("imageDigest") or pod.image
    name = config_maps.name_of(PACKAGES, draft.snapshot.spec.environment_ref.name, draft.snapshot.environment_uid, revision, image)
    if (draft.status.get("packages") or {}).get("configMapName") == name:
        return True
    if name in draft.snapshot.known_config_maps:
        count, promptflow = draft.snapshot.known_config_maps[name], draft.snapshot.known_promptflow.get(name)
        draft.put("packages", Packages(count=count, config_map_name=name, promptflow=promptflow).to_wire())
    elif agent is not None and agent.packages is not None and name not in draft.snapshot.refused_config_maps:
        data = {"packages.txt": agent.packages.table, "packages.json": agent.packages.document}
        annotations = {config_maps.PROMPTFLOW_ANNOTATION: agent.packages.promptflow}
        draft.create(config_maps.manifest(PACKAGES, name, draft.snapshot.where, data, annotations=annotations))
        draft.put("packages", Packages(count=agent.packages.count, config_map_name=name, promptflow=agent.packages.promptflow).to_wire())
        if not agent.packages.promptflow and environment.image.origin is None:
            message = f"spec.baseImage {environment.image.name} has no prompt flow; build it from the runtime image to run flows in it"
            draft.event(warning=True, reason=WITHOUT, message=message)
    elif name in draft.snapshot.refused_config_maps:
        draft.look_again(draft.now + REFUSED_SECONDS)
    else:
        draft.ask(agent, ListPackages())
        if agent is not None and not draft.was_ready and not agent.failures:
            draft.hold(agent.asked_at + LIST_SECONDS)
    return True


def _stages(draft: Draft, pod: PodView, *, install_seconds: float | None) -> list[Stage]:
    """Return the stages of the start, from this operator's timestamps or, where one is missing, from the API's whole seconds.

    Each stage begins where the previous one ends. The last one, Ready, covers the whole start.
    """
    restarted, now = _was_restarted(pod), draft.now
    seen = {} if restarted else draft.snapshot.pod_timestamps  # they are those of the previous container
    since = pod.container.running_since if restarted and pod.container else None
    created = min(now, since or draft.began(pod))

    def end(after: float, step: str, default: float) -> float:
        return min(now, max(after, seen.get(step, default)))

    scheduled = end(created, "Scheduled", pod.scheduled_at or created)
    running = end(scheduled, "Running", (pod.container.running_since if pod.container else None) or scheduled)
    answered = end(running, "AgentReady", now - (install_seconds or 0.0))
    installed = end(answered, "Installed", now)
    ends = [("Scheduled", scheduled), ("ImagePulled", running), ("AgentReady", answered)]
    ends.append(("FlowDelivered", max(answered, installed - (install_seconds or 0.0))))
    if install_seconds is not None:
        ends.append(("PackagesInstalled", installed))
    stages, before = [], created
    for name, at in [*ends, ("PackagesListed", now)]:
        stages.append(_stage(name, before, at, since=created))
        before = at
    return [*stages, _stage("Ready", created, now, since=created)]


def _stage(name: str, start: float, end: float, *, since: float) -> Stage:
    """Return a stage. Its begin and end are rounded to milliseconds since the start began, so that the stages add up to the whole."""
    seconds = round(end - since, 3) - round(start - since, 3)
    return Stage(name=name, started_at=times.stamp(start), seconds=round(seconds, 3))


def _is_shown(stage: Stage) -> bool:
    return stage.seconds is not None and (stage.seconds >= SHORTEST_SECONDS or stage.name not in ("FlowDelivered", "PackagesListed"))


def _was_restarted(pod: PodView) -> bool:
    """Return whether the pod had an earlier container. If so, the start is that of the present one."""
    return pod.container is not None and pod.container.restarts > 0


def _start_summary(stages: list[Stage], pod: PodView) -> str:
    steps = ", ".join(f"{stage.name} {stage.seconds:.1f} s" for stage in stages[:-1] if _is_shown(stage))
    began_with = "its container was restarted" if _was_restarted(pod) else "its pod was created"
    return f"ready {stages[-1].seconds:.1f} s after {began_with}, on {pod.node} ({steps})"
