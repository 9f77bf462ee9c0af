"""Short builders for what decisions see. Everything has a default; a test names only what it is about."""

from collections.abc import Mapping
from typing import Any

from flowsession.api.environment import FlowEnvironmentSpec
from flowsession.api.session import ComputeSessionSpec
from flowsession.model import times
from flowsession.model.agent_views import AgentArchive, AgentState, AgentView, InstallView
from flowsession.model.plan import Plan
from flowsession.model.resolved import Resolved, Unresolved
from flowsession.model.views import ContainerView, PodView
from flowsession.reconcile.environment import resolve
from flowsession.reconcile.environment.snapshot import EnvironmentSnapshot
from flowsession.reconcile.environment.sources import ConfigMapView
from flowsession.reconcile.session import chain as sessions
from flowsession.reconcile.session.snapshot import SessionSnapshot
from flowsession.settings import Settings

NOW = 1_800_000_000.0
"""The moment at which tests decide, in seconds since 1970."""
NAMESPACE, NAME, UID = "team", "alice-flow", "0123456789"
POD = "alice-flow-01234-1"
RUNTIME = "flowsession-runtime:latest"
DAG = b"inputs: {}\noutputs: {}\nnodes:\n- {name: a}\n- {name: b}\n"


def stamp(seconds: float) -> str:
    return times.stamp(seconds)


# -- environments


def config_map(files: Mapping[str, bytes] | None, *, name: str = "flow", read_at: float = NOW, watched: bool = True) -> ConfigMapView:
    return ConfigMapView(name, files, read_at, watched=watched and files is not None)


def spec(**fields: Any) -> FlowEnvironmentSpec:
    """Return an environment's spec, by wire names."""
    return FlowEnvironmentSpec.model_validate(fields)


def from_folder(files: Mapping[str, bytes], settings: Settings | None = None, **fields: Any) -> Resolved | Unresolved:
    """Return what an environment with this flow folder resolves to."""
    source: dict[str, Any] = {"name": "flow"} | fields.pop("configMap", {})
    found = resolve.resolve(spec(source={"configMap": source}, **fields), {"flow": config_map(files)}, settings or Settings())
    assert found is not None
    return found


def from_text(text: str | None, settings: Settings | None = None, **fields: Any) -> Resolved | Unresolved:
    """Return what an environment without a flow folder resolves to."""
    found = resolve.resolve(spec(requirementsText=text, **fields), {}, settings or Settings())
    assert found is not None
    return found


def resolved(*, requirements: str | None = "pandas\n", files: Mapping[str, bytes] | None = None, **fields: Any) -> Resolved:
    """Return a usable environment: by default with two things to install and no flow folder."""
    found = from_folder(files, requirementsText=requirements, **fields) if files is not None else from_text(requirements, **fields)
    assert isinstance(found, Resolved), found
    return found


def environment_snapshot(
    *, status: Mapping[str, Any] | None = None, config_maps: Mapping[str, ConfigMapView] | None = None, **fields: Any
) -> EnvironmentSnapshot:
    known: dict[str, Any] = {
        "namespace": NAMESPACE,
        "name": "flow-env",
        "generation": 1,
        "resource_version": "10",
        "spec": spec(),
        "sessions": 0,
        "check": None,
        "written_at": 0.0,
    }
    return EnvironmentSnapshot(**{**known, **fields}, status=status or {}, config_maps=config_maps or {})


# -- pods


def container(**fields: Any) -> ContainerView:
    known: dict[str, Any] = {
        "running_since": NOW - 100.0,
        "restarts": 0,
        "waiting_reason": "",
        "waiting_message": "",
        "ended_reason": "",
        "ended_code": 0,
        "ended_message": "",
        "ended_at": None,
        "image_id": "runtime@sha256:1",
    }
    return ContainerView(**{**known, **fields})


def waiting(reason: str, message: str = "", **fields: Any) -> ContainerView:
    """Return a container that is not running yet, or no longer."""
    return container(**{"running_since": None, "image_id": "", **fields}, waiting_reason=reason, waiting_message=message)


def pod(**fields: Any) -> PodView:
    """Return a running pod of the session's first incarnation, created 101 s ago."""
    known: dict[str, Any] = {
        "name": POD,
        "namespace": NAMESPACE,
        "uid": "pod-1",
        "resource_version": "20",
        "created_at": NOW - 101.0,
        "deleting_since": None,
        "phase": "Running",
        "reason": "",
        "message": "",
        "disruption": "",
        "image": RUNTIME,
        "ip": "10.0.0.5",
        "node": "worker-1",
        "scheduled_at": NOW - 101.0,
        "unscheduled_message": "",
        "container": container(),
    }
    return PodView(**{**known, **fields})


def pending_pod(**fields: Any) -> PodView:
    """Return a pod on a node, whose container does not run yet."""
    return pod(**{"phase": "Pending", "ip": "", "container": waiting("ContainerCreating"), "created_at": NOW - 5.0, **fields})


# -- agents


def state(environment: Resolved | None = None, **fields: Any) -> AgentState:
    """Return the state of an agent that has all that the environment asks for, and has been idle for 10 s."""
    environment = environment or resolved()
    nothing = environment.requirements_count == 0
    known: dict[str, Any] = {
        "version": 3,
        "packages_revision": environment.packages_revision,
        "flow_revision": environment.flow_revision,
        "install": InstallView(
            state="Succeeded",
            packages_revision=environment.packages_revision,
            tool="" if nothing else "uv",
            exit_code=0,
            seconds=0.0 if nothing else 3.25,
            changed=0 if nothing else 12,
        ),
        "busy": False,
        "idle_seconds": 10.0,
        "what": "start",
        "packages": 171,
        "retired": False,
    }
    return AgentState(**{**known, **fields})


def installing(environment: Resolved | None = None, **fields: Any) -> AgentState:
    """Return the state of an agent whose first install is running, unless `fields` of the install say otherwise."""
    environment = environment or resolved()
    install = InstallView(**{"state": "Running", "packages_revision": environment.packages_revision, "tool": "uv", **fields})
    return state(environment, packages_revision="", install=install)


def agent(answer: AgentState | None = None, environment: Resolved | None = None, **fields: Any) -> AgentView:
    """Return an agent that answered just now and was given what the environment asks for."""
    environment = environment or resolved()
    known: dict[str, Any] = {
        "restarts": 0,
        "asked_at": NOW,
        "state": answer or state(environment),
        "state_at": NOW,
        "delivered": (environment.packages_revision, environment.flow_revision),
    }
    return AgentView(**{**known, **fields})


def silent_agent(*, failures: int = 1, since: float = 0.0, **fields: Any) -> AgentView:
    """Return an agent that did not answer its last calls, the first of them `since` seconds ago."""
    return AgentView(
        **{"restarts": 0, "asked_at": NOW, "error": "no connection to 10.0.0.5: refused", **fields},
        failures=failures,
        failing_since=NOW - since,
        silence=since,
    )


# -- sessions


def session_spec(**fields: Any) -> ComputeSessionSpec:
    return ComputeSessionSpec.model_validate({"environmentRef": {"name": "flow-env"}, "user": "alice@example.com", **fields})


def idle(seconds: int = 3600, action: str = "Delete") -> ComputeSessionSpec:
    return session_spec(idle={"timeoutSeconds": seconds, "action": action})


def session_snapshot(
    *pods: PodView, environment: Resolved | Unresolved | str | None = "", status: Mapping[str, Any] | None = None, **fields: Any
) -> SessionSnapshot:
    """Return a session and its surroundings. Without `environment`, it is a resolved one."""
    known: dict[str, Any] = {
        "namespace": NAMESPACE,
        "name": NAME,
        "uid": UID,
        "resource_version": "30",
        "generation": 1,
        "created_at": NOW - 200.0,
        "deleting": False,
        "spec": session_spec(),
        "requests": {},
        "environment": resolved() if environment == "" else environment,
        "environment_uid": "env-uid",
        "agent": None,
        "refusal": None,
        "older_session": "",
        "agent_archive": AgentArchive("ab" * 32, "QUdFTlQ="),
        "accounts": (),
        "known_config_maps": _AnyPackages(),
    }
    return SessionSnapshot(**{**known, **fields}, pods=pods, status=status or {})


def decide(snapshot: SessionSnapshot, now: float = NOW) -> Plan:
    return sessions.decide(snapshot, now)


def applied(status: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Apply a merge patch as the API server does."""
    merged = dict(status)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            before = merged.get(key)
            merged[key] = applied(before if isinstance(before, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def status_after(snapshot: SessionSnapshot, now: float = NOW) -> dict[str, Any]:
    """Return the session's status once the plan is carried out."""
    plan = decide(snapshot, now)
    return applied(snapshot.status, plan.status.status if plan.status else {})


def condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return one condition of a status, or an empty one if it has none of this type."""
    return next((item for item in status.get("conditions") or () if item["type"] == kind), {})


def verdict(status: Mapping[str, Any], kind: str) -> tuple[str, str]:
    """Return a condition's status and reason."""
    found = condition(status, kind)
    return found.get("status", "-"), found.get("reason", "-")


def ready_status(
    environment: Resolved | None = None, *, ready_at: float = NOW - 90.0, spec: ComputeSessionSpec | None = None
) -> dict[str, Any]:
    """Return the status of a session that became Ready at that time, as the decisions themselves write it."""
    environment = environment or resolved()
    snapshot = session_snapshot(
        pod(),
        environment=environment,
        agent=agent(state(environment, idle_seconds=0.0), environment, state_at=ready_at),
        spec=spec or session_spec(),
        known_config_maps=_AnyPackages(),
    )
    return status_after(snapshot, ready_at)


def settled_snapshot(environment: Resolved | None = None, *, ready_at: float = NOW - 90.0, **fields: Any) -> SessionSnapshot:
    """Return a Ready session as a freshly started operator sees it: without an answer of the agent."""
    environment = environment or resolved()
    status = ready_status(environment, ready_at=ready_at, spec=fields.get("spec"))
    return session_snapshot(*fields.pop("pods", (pod(),)), **{"environment": environment, "status": status, **fields})


class _AnyPackages(dict[str, int]):
    """Every ConfigMap with packages is known, and lists 171 of them."""

    def __contains__(self, name: object) -> bool:
        return "-packages-" in str(name)

    def __missing__(self, name: str) -> int:
        return 171
