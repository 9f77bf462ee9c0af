"""FlowRun: finds a session, has its agent run the flow over the data, follows the run, and keeps the outputs.

The status names the pod before its agent is called. Whatever is killed in between, the run begins in that pod or not at all, since an agent
begins each run only once.
"""

from collections.abc import Mapping

from flowsession.api.run import FINAL, FlowRunSpec, RunPhase
from flowsession.api.session import Phase
from flowsession.flow.run_yaml import RunYaml
from flowsession.manifests import run_outputs, run_session
from flowsession.model import times
from flowsession.model.plan import ENDING_SECONDS, BeginRun, CancelRun, Delete, FetchOutputs, FollowRun, Plan
from flowsession.model.run_views import RunAnswer, RunFailure, RunView
from flowsession.model.views import REFUSED_SECONDS
from flowsession.reconcile.restarts import ENDED, cause_of_absence, cause_of_end
from flowsession.reconcile.run import guest
from flowsession.reconcile.run.draft import RunDraft
from flowsession.reconcile.run.snapshot import Place, Rival, RunSnapshot
from flowsession.reconcile.size.choice import canonical
from flowsession_protocol.messages import CANCELED, RUN_END_SECONDS

COUNT_SECONDS = 10.0
"""Minimum seconds between two status writes if only the counts have changed."""
AGAIN_SECONDS = 5.0
"""Seconds until an agent that refuses the run for now is asked again."""
LONGEST_PAUSE = 30.0
SILENT_FAILURES = 3
"""Unanswered calls in a row after which the status reports them."""
POLL_SHARE, LONGEST_POLL_PAUSE = 0.05, 2.0
"""Pause between two polls: a share of the run's duration so far, and its maximum in seconds. Short runs are followed closely, long ones
cheaply."""
AHEAD_SHOWN = 3
PATIENCE_SECONDS = 60.0
"""Seconds after its creation for which a run waits for a missing earlier run: manifests of one folder are applied in any order."""
MISSING = ("DataNotFound", "RunNotFound")
"""Refusals of orders that were not sent, since a ConfigMap that belongs to them, or its key, is missing."""
WITHOUT_COMPUTE = (Phase.SUSPENDED.value, Phase.SUSPENDING.value)
NOT_YET = ("Retired", "RunInProgress")
"""Refusals after which the agent may begin the run later."""


def decide(snapshot: RunSnapshot, now: float) -> Plan:
    """Return the run's plan. It depends only on snapshot and time."""
    if snapshot.deleting:
        return Plan()
    if snapshot.status.get("phase") in FINAL:
        return _leave(snapshot, now)
    if snapshot.namespace_ending:
        return Plan(look_again_at=now + ENDING_SECONDS)
    draft = RunDraft(snapshot, now)
    if not draft.status.get("podName"):
        _queue(draft)
    else:
        _follow(draft)
    draft.may_wait("lines", "progress", until=snapshot.written_at + COUNT_SECONDS)
    return draft.plan()


def _leave(snapshot: RunSnapshot, now: float) -> Plan:
    """Delete a finished run after spec.ttlSecondsAfterFinished."""
    seconds = snapshot.spec.ttl_seconds_after_finished
    ended = times.parse(snapshot.status.get("completedAt"))
    if seconds is None or ended is None:
        return Plan()
    if now < ended + seconds:
        return Plan(look_again_at=ended + seconds)
    why = "Finished", f"it was over {seconds} s ago (spec.ttlSecondsAfterFinished)"
    return Plan(deletes=(Delete("FlowRun", snapshot.namespace, snapshot.name, snapshot.uid, why=why),))


def _queue(draft: RunDraft) -> None:
    """Find a session for the run, and queue the run there."""
    snapshot, spec = draft.snapshot, draft.snapshot.spec
    if not _may_run(draft):
        return
    claims = run_outputs.claims(spec, _settings(snapshot)[0], snapshot.earlier)
    if spec.session_ref is None:
        fit = [place for place in snapshot.sessions if place.phase not in WITHOUT_COMPUTE and _fits(place, spec, claims)]
    else:
        fit = list(snapshot.sessions)
    ready = [place for place in fit if place.pod]
    place = min(ready, key=lambda place: len(_ahead(snapshot, place))) if ready else next(iter(fit), None)
    if place is None:
        _without_session(draft, claims)
    else:
        _take_turn(draft, place, claims)


def _take_turn(draft: RunDraft, place: Place, claims: Mapping[str, bool]) -> None:
    """Place the run in the session, unless the session can't take it or other runs are ahead."""
    snapshot, spec = draft.snapshot, draft.snapshot.spec
    if message := _unfit(place, spec, claims):
        draft.end(RunPhase.FAILED, "SessionFailed", message)
        return
    if not place.pod:
        message = f"session {place.session!r} is {place.phase}: the run begins when it is Ready; if it is suspended, resume it"
        draft.goes_on(RunPhase.QUEUED, "SessionNotReady", message)
        return
    if guest.is_one(snapshot, place) and not _guest_may_run(draft, place):
        return
    if ahead := _ahead(snapshot, place):
        names = ", ".join(ahead[:AHEAD_SHOWN]) + (", ..." if len(ahead) > AHEAD_SHOWN else "")
        draft.goes_on(RunPhase.QUEUED, "RunsAhead", f"place {len(ahead)} in the queue of session {place.session!r}, after {names}")
        return
    draft.put("sessionName", place.session)
    draft.put("podName", place.pod)
    draft.goes_on(RunPhase.PREPARING, "Preparing", f"session {place.session!r} is told to begin")
    draft.look_again(draft.now)


def _may_run(draft: RunDraft) -> bool:
    """Return whether the run may begin when its turn comes. Otherwise the draft records why not."""
    snapshot, spec = draft.snapshot, draft.snapshot.spec
    if spec.cancel:
        draft.end(RunPhase.CANCELED, "Canceled", "canceled before it began")
        return False
    if snapshot.problem:
        draft.end(RunPhase.FAILED, "RunYamlInvalid", snapshot.problem)
        return False
    draft.warn(_warnings(snapshot))
    return spec.builds_on is None or _earlier_is_over(draft, spec.builds_on)


def _warnings(snapshot: RunSnapshot) -> list[str]:
    """Return warnings about settings without effect."""
    spec = snapshot.spec
    void = [name for name, value in (("resources", spec.resources), ("identity", spec.identity)) if value is not None]
    if spec.session_ref is None or not void:
        return list(snapshot.yaml.warnings)
    message = (
        f"{' and '.join(void)} {'have' if len(void) > 1 else 'has'} no effect: the run goes to session {spec.session_ref.name!r} as it is"
    )
    return [*snapshot.yaml.warnings, f"{message}; leave out sessionRef, or runtime in run.yml, for a session that is as the run asks"]


def _earlier_is_over(draft: RunDraft, name: str) -> bool:
    """Return whether the run on which this one builds is over and has kept outputs. Otherwise the draft records the problem."""
    snapshot, earlier = draft.snapshot, draft.snapshot.earlier
    if earlier is not None and snapshot.name in (name, *earlier.waits_for):
        circle = " -> ".join((snapshot.name, name, *earlier.waits_for))
        draft.end(RunPhase.FAILED, "RunUnfinished", f"the runs wait for one another: {circle}; name a run that is over")
    elif earlier is None:
        field = "run" if snapshot.spec.run else "resumeFrom"
        message = f"spec.{field} names {name!r}, and there is no such run in this namespace: correct the name, or create it first"
        if draft.now < snapshot.created_at + PATIENCE_SECONDS:
            draft.goes_on(RunPhase.QUEUED, "RunNotFound", message)
            draft.look_again(snapshot.created_at + PATIENCE_SECONDS)
        else:
            draft.end(RunPhase.FAILED, "RunNotFound", message)
    elif earlier.user != snapshot.spec.user:
        message = f"run {name!r} is one of {earlier.user}, and only their own runs may build on it: name one of {snapshot.spec.user}"
        draft.end(RunPhase.FAILED, "RunNotFound", message)
    elif snapshot.spec.resume_from and earlier.environment != snapshot.spec.environment_ref.name:
        message = f"run {name!r} is of environment {earlier.environment!r}, and only another run of that one can go on where it ended"
        draft.end(RunPhase.FAILED, "RunNotFound", message)
    elif snapshot.spec.resume_from and earlier.spec is None:
        draft.end(RunPhase.FAILED, "RunNotFound", f"the run from which {name!r} was resumed is gone, and its settings with it")
    elif earlier.phase not in FINAL:
        draft.goes_on(RunPhase.QUEUED, "RunUnfinished", f"waits for run {name!r}, whose outputs are its data, and which is not over yet")
    elif not earlier.config_maps and earlier.claim is None:
        message = f"run {name!r} is {earlier.phase} and has kept no outputs, which are the data of this one: name a run that has"
        draft.end(RunPhase.FAILED, "RunUnfinished", message)
    else:
        return True
    return False


def _ahead(snapshot: RunSnapshot, place: Place) -> list[str]:
    """Return the names of the runs ahead of this one in a session's queue."""
    mine = (snapshot.created_at, snapshot.uid)
    return [
        rival.name
        for rival in snapshot.rivals
        if (rival.session == place.session if rival.placed else rival.order < mine and _may_take(rival, place))
    ]


def _may_take(rival: Rival, place: Place) -> bool:
    return rival.session == place.session or (not rival.session and rival.environment == place.environment)


def _settings(snapshot: RunSnapshot) -> tuple[FlowRunSpec, RunYaml]:
    """Return the run's own settings, or those of the run that it resumes."""
    earlier = snapshot.earlier
    if snapshot.spec.resume_from and earlier is not None and earlier.spec is not None:
        return earlier.spec, earlier.yaml
    return snapshot.spec, snapshot.yaml


def _mounts(place: Place, claims: Mapping[str, bool]) -> bool:
    """Return whether a session mounts the claims that the run needs, writable where the run writes."""
    return all(name in place.claims and (place.claims[name] or not writes) for name, writes in claims.items())


def _fits(place: Place, spec: FlowRunSpec, claims: Mapping[str, bool]) -> bool:
    """Return whether a session matches the run's resources, identity and claims."""
    instance = spec.resources.compute if spec.resources else None
    size = run_session.size_of(spec)
    return (
        (instance is None or place.instance == instance)
        and (not size or (not place.instance and canonical(size) == place.size))
        and (spec.identity is None or place.identity == spec.identity)
        and _mounts(place, claims)
    )


def _without_session(draft: RunDraft, claims: Mapping[str, bool]) -> None:
    """Create a session for the run, since none fits, or wait for the session that the run names."""
    snapshot, spec = draft.snapshot, draft.snapshot.spec
    name = run_session.name_of(snapshot.name, snapshot.uid)
    if spec.session_ref is not None:
        message = f"there is no session {spec.session_ref.name!r}: create it, or leave sessionRef out in a new run, which makes one"
        draft.goes_on(RunPhase.QUEUED, "SessionMissing", message)
    elif snapshot.refusal:
        message = f"session {name!r} can't be made for the run: {snapshot.refusal}; tried again every minute, or create a session yourself"
        draft.goes_on(RunPhase.QUEUED, "SessionRefused", message)
        draft.look_again(draft.now + REFUSED_SECONDS)
    else:
        draft.create(run_session.manifest(snapshot.namespace, snapshot.name, snapshot.uid, spec, claims))
        draft.goes_on(RunPhase.QUEUED, "SessionNotReady", f"session {name!r} is made for the run, which begins when it is Ready")


def _unfit(place: Place, spec: FlowRunSpec, claims: Mapping[str, bool]) -> str:
    """Return why the session can't run it; empty if it can."""
    if place.user != spec.user:
        return f"session {place.session!r} belongs to {place.user}, and a run goes on in a session of its own user: name one of {spec.user}"
    if not _mounts(place, claims):
        names = ", ".join(sorted(claims))
        return (
            f"session {place.session!r} does not mount all that the run needs ({names}), or can't write there: add it to spec.claims of"
            " the session and reset it, or leave sessionRef out"
        )
    return ""


def _guest_may_run(draft: RunDraft, place: Place) -> bool:
    """Return whether a session of another environment can take the run. Otherwise the draft records why not, or what the run waits for."""
    if waits := guest.waits(draft.snapshot):
        draft.goes_on(RunPhase.QUEUED, *waits)
    elif refused := guest.refusal(draft.snapshot, place):
        draft.end(RunPhase.FAILED, *refused)
    else:
        return True
    return False


def _follow(draft: RunDraft) -> None:
    """Begin the run in its pod, follow it there, and end it."""
    snapshot, view = draft.snapshot, draft.snapshot.view
    pod, answer = snapshot.pod, view.answer
    name = str(draft.status["podName"])
    kept = answer is not None and answer.over and (view.archive or view.lost_outputs or snapshot.spec.outputs_claim)
    if pod is None and answer is None and view.refused in NOT_YET:
        _return(draft)
    elif (pod is None or pod.phase in ENDED) and not kept:
        _without_pod(draft, cause_of_end(pod)[1] if pod else cause_of_absence(name, ())[1])
    elif pod is not None and _is_lost(view) and not view.again_asked:
        _resume(draft, pod.name)
    elif answer is not None and (answer.state == "Lost" or view.refused == "NoRun"):
        _lost(draft, _restarted(draft, again=_was_resumed(draft)))
    elif view.refused and answer is None:
        _refused(draft)
    elif answer is not None and kept:
        _finish(draft, answer)
    else:
        _go_on(draft, answer, name)


def _without_pod(draft: RunDraft, cause: str) -> None:
    """Handle the loss of the pod. With outputs on a claim the run continues from them in the next pod, once; otherwise it fails."""
    session = draft.status.get("sessionName")
    place = next((place for place in draft.snapshot.sessions if place.session == session), None)
    if place is None:
        cause = f"session {session!r} was deleted"
    elif place.phase in WITHOUT_COMPUTE:
        cause = f"session {session!r} was suspended"
    if draft.snapshot.spec.outputs_claim is None or _was_resumed(draft):
        _lost(draft, cause)
        return
    if draft.snapshot.view.answer is not None:
        draft.count(draft.snapshot.view.answer)
    message = f"{cause}; it goes on in the next pod with the lines that were not done"
    draft.set_condition("Resumed", True, "PodLost", message)
    draft.event(warning=True, reason="Resumed", message=message)
    draft.put("resumes", 1)
    _return(draft)


def _resume(draft: RunDraft, pod: str) -> None:
    """Have the restarted container's agent continue with the remaining lines, once. The status records this before the agent is called."""
    if draft.snapshot.view.answer is not None:
        draft.count(draft.snapshot.view.answer)
    message = f"{_restarted(draft)}; it goes on there with the lines that were not done"
    draft.goes_on(RunPhase.RUNNING, "Resumed", message)
    draft.set_condition("Resumed", True, "ContainerRestarted", message)
    view = draft.snapshot.view
    if view.refused and view.refused not in NOT_YET:
        _refused(draft)
    elif _was_resumed(draft):
        due = view.asked_at + AGAIN_SECONDS if view.refused else _next_call(draft, view.answer)
        if draft.now < due:
            draft.look_again(due)
        elif not view.calling:
            _start(draft, pod)
    else:
        draft.put("resumes", 1)
        draft.event(warning=True, reason="Resumed", message=message)
        draft.look_again(draft.now)


def _go_on(draft: RunDraft, answer: RunAnswer | None, pod: str) -> None:
    snapshot, view = draft.snapshot, draft.snapshot.view
    _write_progress(draft, answer)
    over_at = _times_out_at(draft)
    cancels = (snapshot.spec.cancel or draft.now >= over_at) and not view.cancel_asked and answer is not None and not answer.over
    if answer is not None and not answer.over and draft.now < over_at < float("inf"):
        draft.look_again(over_at)
    due = draft.now if cancels and not view.failures else _next_call(draft, answer)
    if view.calling and not cancels:
        return
    if draft.now < due:
        draft.look_again(due)
    elif answer is None:
        _start(draft, pod)
    elif answer.over:
        draft.run_call = FetchOutputs(pod, snapshot.uid)
    else:
        draft.run_call = CancelRun(pod, snapshot.uid) if cancels else FollowRun(pod, snapshot.uid, answer.version)


def _write_progress(draft: RunDraft, answer: RunAnswer | None) -> None:
    """Write the run's progress. After the last line nothing is written until the end of the run, in one write with the outputs, unless the
    agent is silent."""
    view, session = draft.snapshot.view, draft.status.get("sessionName")
    if view.failures >= SILENT_FAILURES and (answer is None or not answer.over):
        phase = RunPhase.PREPARING if answer is None else RunPhase.RUNNING
        draft.goes_on(phase, "AgentUnreachable", f"the agent of session {session!r} does not answer, and is asked again: {view.message}")
    elif answer is None:
        draft.goes_on(RunPhase.PREPARING, "Preparing", f"session {session!r} is told to begin")
    elif not answer.over:
        draft.count(answer)
        draft.put("startedAt", draft.status.get("startedAt") or times.stamp(draft.now))
        if answer.message:
            draft.goes_on(RunPhase.RUNNING, "EndpointBusy", f"session {session!r} runs it; {answer.message}")
        else:
            draft.goes_on(RunPhase.RUNNING, "Running", f"session {session!r} runs it{_why_it_ends(draft)}")
    elif view.failures >= SILENT_FAILURES:
        draft.goes_on(RunPhase.RUNNING, "KeepingOutputs", f"its lines are run, but its agent does not give the outputs: {view.message}")


def _why_it_ends(draft: RunDraft) -> str:
    why = "it is canceled" if draft.snapshot.spec.cancel else "its time is up" if draft.now >= _times_out_at(draft) else ""
    return f" to the end of the lines under way, for up to {RUN_END_SECONDS} s: {why}" if why else ""


def _return(draft: RunDraft) -> None:
    """Give up the run's place in its session, and queue it again."""
    for field in ("sessionName", "podName"):
        draft.put(field, None)
    _queue(draft)


def _start(draft: RunDraft, pod: str) -> None:
    """Have the pod's agent begin the run, once everything in the order is known."""
    snapshot, waits = draft.snapshot, guest.waits(draft.snapshot)
    if snapshot.spec.session_ref is not None and not snapshot.sessions:
        _return(draft)  # the session is gone, and with it which environment's flow it would run
    elif waits and snapshot.spec.cancel:
        draft.end(RunPhase.CANCELED, "Canceled", "canceled before it began")
    elif waits:
        draft.goes_on(RunPhase.PREPARING, *waits)
    else:
        draft.run_call = _begin(snapshot, pod)


def _begin(snapshot: RunSnapshot, pod: str) -> BeginRun:
    spec, earlier = snapshot.spec, snapshot.earlier
    settings, yaml = _settings(snapshot)
    again = bool(snapshot.status.get("resumes")) and (spec.outputs_claim is not None or _is_lost(snapshot.view))
    order = run_outputs.order(snapshot.name, snapshot.uid, spec, settings, yaml, earlier, again=again)
    return BeginRun(pod, {**order, **guest.guest_members(snapshot)}, run_outputs.enclosed(spec, settings, earlier))


def _is_lost(view: RunView) -> bool:
    """Return whether the pod's agent reports that an earlier agent began the run."""
    return view.answer is not None and view.answer.state == "Lost"


def _times_out_at(draft: RunDraft) -> float:
    """Return when the run reaches its timeout; infinity if it has none or has not started."""
    started, seconds = times.parse(draft.status.get("startedAt")), draft.snapshot.spec.timeout_seconds
    return float("inf") if started is None or seconds is None else started + seconds


def _next_call(draft: RunDraft, answer: RunAnswer | None) -> float:
    """Return when to call the agent next."""
    view = draft.snapshot.view
    if view.failures:
        return view.asked_at + min(LONGEST_PAUSE, 0.5 * 2.0 ** min(view.failures, 10))
    if answer is None or answer.over:
        return draft.now
    ran = max(0.0, draft.now - times.moment(draft.status.get("startedAt"), draft.now))
    return view.asked_at + min(LONGEST_POLL_PAUSE, POLL_SHARE * ran)


def _refused(draft: RunDraft) -> None:
    """Handle the agent's refusal to begin the run: try again, or end the run."""
    view = draft.snapshot.view
    if view.refused in NOT_YET:
        draft.goes_on(RunPhase.PREPARING, "SessionNotReady", f"its session does not begin yet: {view.message}")
        if draft.now < view.asked_at + AGAIN_SECONDS:
            draft.look_again(view.asked_at + AGAIN_SECONDS)
        elif draft.snapshot.pod is not None and not view.calling:
            _start(draft, draft.snapshot.pod.name)
        return
    if view.refused in MISSING:
        draft.end(RunPhase.FAILED, view.refused, view.message)
        return
    text = view.message if view.refused == "BadRequest" else "its agent knows no runs: reset the session, so that it gets the present one"
    draft.end(RunPhase.FAILED, "SessionFailed", f"session {draft.status.get('sessionName')!r} can't run it: {text}")


def _finish(draft: RunDraft, answer: RunAnswer) -> None:
    """Store the outputs, and write how the run ended."""
    snapshot, view = draft.snapshot, draft.snapshot.view
    draft.count(answer, final=True)
    draft.put("startedAt", draft.status.get("startedAt") or times.stamp(draft.now))
    name = run_outputs.name_of(snapshot.name, snapshot.uid)
    if view.archive and name in snapshot.refused_config_maps:
        message = f"its outputs can't be kept in ConfigMap {name!r}: {snapshot.refused_config_maps[name]}; tried again every minute"
        draft.goes_on(RunPhase.RUNNING, "OutputsRefused", message)
        draft.look_again(draft.now + REFUSED_SECONDS)
        return
    _keep_on_claim(draft)
    if view.archive:
        draft.create(run_outputs.manifest(snapshot.namespace, snapshot.name, snapshot.uid, view.archive))
        draft.put("outputs", {"configMapNames": [name]})
    draft.put("metrics", dict(answer.metrics) or None)
    draft.put("tokens", dict(answer.tokens) or None)
    draft.put("logTail", None if snapshot.spec.cancel else answer.log_tail or None)
    draft.put("errors", [_problem(error) for error in answer.errors] or None)
    lines = draft.status["lines"]
    if answer.state == "Canceled" and not snapshot.spec.cancel:
        done = f"after {snapshot.spec.timeout_seconds} s {lines['completed'] + lines['failed']} of {lines['total']} lines were done"
        last = f"; {answer.message}" if answer.message not in ("", CANCELED) else ""
        draft.end(RunPhase.FAILED, "TimedOut", f"{done}, whose outputs are kept: raise spec.timeoutSeconds in a new run{last}")
    elif answer.state == "Canceled":
        draft.end(RunPhase.CANCELED, "Canceled", f"canceled after {lines['completed'] + lines['failed']} of {lines['total']} lines")
    elif answer.code:
        lost = f"; {view.lost_outputs}" if view.lost_outputs and lines["completed"] else ""
        message = guest.words(snapshot, answer) if answer.code == guest.INCOMPATIBLE else answer.message
        draft.end(RunPhase.FAILED, answer.code, message + lost)
    elif view.lost_outputs:
        draft.end(RunPhase.FAILED, "OutputsTooLarge", f"all {lines['total']} lines were run, but {view.lost_outputs}")
    else:
        draft.end(RunPhase.COMPLETED, "Completed", f"all {lines['total']} lines were run")


def _keep_on_claim(draft: RunDraft) -> None:
    """Write where the outputs are on a claim, if they were stored there."""
    snapshot, target = draft.snapshot, draft.snapshot.spec.outputs_claim
    if target is not None:
        folder = run_outputs.folder_of(snapshot.name, snapshot.uid, target)
        draft.put("outputs", {"persistentVolumeClaim": {"claimName": target.claim_name, "path": folder}})


def _lost(draft: RunDraft, cause: str) -> None:
    if draft.snapshot.view.answer is not None:
        draft.count(draft.snapshot.view.answer)
    lines = draft.status.get("lines") or {"total": 0, "completed": 0, "failed": 0}
    done = f"{cause}; {lines['completed'] + lines['failed']} of {lines['total']} lines were run"
    _keep_on_claim(draft)
    if draft.status.get("outputs"):
        draft.end(RunPhase.FAILED, "SessionLost", f"{done}, whose outputs are kept: create a run with resumeFrom {draft.snapshot.name!r}")
    else:
        gone = "went with the pod" if draft.snapshot.pod is None or draft.snapshot.pod.phase in ENDED else "were not kept"
        draft.end(RunPhase.FAILED, "SessionLost", f"{done}, and their outputs {gone}: create the run again")


def _was_resumed(draft: RunDraft) -> bool:
    return bool(draft.status.get("resumes"))


def _restarted(draft: RunDraft, *, again: bool = False) -> str:
    """Return the cause of the loss, with the container's exit if the kubelet has reported one since the run started."""
    container = draft.snapshot.pod.container if draft.snapshot.pod else None
    began = times.moment(draft.status.get("startedAt"), draft.snapshot.created_at)
    ended = container is not None and container.ended_reason and container.ended_at is not None and container.ended_at >= began
    why = f" ({container.ended_reason}, exit code {container.ended_code})" if container is not None and ended else ""
    times_before = " once more" if again else ""
    return f"the container of session {draft.status.get('sessionName')!r} was restarted in the middle of the run{times_before}{why}"


def _problem(error: RunFailure) -> dict[str, object]:
    place: dict[str, object] = {} if error.line is None else {"line": error.line}
    return {**place, **({"node": error.node} if error.node else {}), "message": error.message}
