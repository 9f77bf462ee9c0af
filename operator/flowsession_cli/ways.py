"""Where a fault is, and which commands of this program are the way out. All other ways are in the operator's messages."""

import re
from collections.abc import Iterator, Mapping

from flowsession_cli import render
from flowsession_cli.cluster import Object

NO_OPERATOR = "the operator has not looked at it: is it running? kubectl get deployments -A -l app.kubernetes.io/name=flowsession"

_ASKED = re.compile(r"flowsession\.dev/([a-z-]+)-requested-at")
"""The annotations that the operator's messages ask for. Here they become commands."""

_OF_SIZES = "kubectl flow size ls shows sizes, their nodes and free quota; kubectl flow set {name} --size SIZE takes another one"
_MISSING_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" not found')
_OF_INSTALL = "kubectl flow install {name} tries the same again"

_SESSION = {
    "Suspended": "kubectl flow resume {name}",
    "StartTimeout": "kubectl flow status {name} shows how far it is; it goes on",
    "DuplicateSession": "kubectl flow ls shows both; when the other is stopped, kubectl flow reset {name}",
    "InstanceStopped": "kubectl flow instance start {instance}",
    "InstanceNotFound": "kubectl flow instance ls shows yours",
    "InstanceOfAnotherUser": "kubectl flow instance ls shows yours",
    "SizeNotFound": _OF_SIZES,
    "NoSizeFits": _OF_SIZES,
    "QuotaExceeded": _OF_SIZES,
    "Unschedulable": _OF_SIZES,
    "OutOfMemory": "kubectl flow set {name} --size SIZE takes a larger one: kubectl flow size ls",
    "InstallFailed": _OF_INSTALL,
    "InstallTimeout": _OF_INSTALL,
    "ChangedByOther": "kubectl flow install {name} takes the change up, once you have looked at it",
}
"""Commands by the reason of Ready. For any other reason, its message names the way out."""


def of_session(thing: Object, environment: Object | None, bad: Mapping[str, Object]) -> list[str]:
    """Return the commands for what is wrong with a session, each once."""
    return list(dict.fromkeys(_of_session(thing, environment, bad)))


def _of_session(thing: Object, environment: Object | None, bad: Mapping[str, Object]) -> Iterator[str]:
    ready = render.condition(thing, "Ready")
    running, reason = ready.get("status") == "True", ready.get("reason", "")
    if claim := _MISSING_CLAIM.search(ready.get("message", "")):
        yield f"kubectl get pvc shows the claims that are there; create {claim[1]}, or name one of them"
        return
    if "end sessions" in ready.get("message", ""):
        yield "kubectl flow ls shows what runs, and kubectl flow stop NAME ends it"
    own_image = ready.get("message", "").startswith("spec.baseImage")
    if ("EnvironmentResolved" in bad and not own_image) or ("PackagesInstalled" in bad and environment is not None):
        yield from _of_folder(thing["spec"]["environmentRef"]["name"], environment)
    if not running:
        yield from [_SESSION[reason].format(**_names(thing))] if reason in _SESSION else named(ready.get("message", ""), thing)
    if running or reason not in _SESSION:
        for kind, found in bad.items():
            if kind == "PackagesInstalled":
                yield _OF_INSTALL.format(**_names(thing))
            elif kind == "FlowValid":
                yield f"kubectl flow check {thing['metadata']['name']} checks it again"
            elif kind == "EditsInPlace":
                what = {"NotRestored": "restore"}.get(found.get("reason", ""), "diff")
                yield f"kubectl flow edits {thing['metadata']['name']} {what}"
            elif running or kind != "InSync":
                yield from named(found.get("message", ""), thing)


def of_environment(thing: Object) -> list[str]:
    """Return the commands for an environment that is not as it should be."""
    name = thing["metadata"]["name"]
    ready = render.condition(thing, "Ready")
    if ready.get("reason") == "Resolving":
        return []
    return list(dict.fromkeys([*_of_folder(name, thing), *named(ready.get("message", ""), thing)]))


def of_run(thing: Object) -> list[str]:
    """Return the commands for a run that is not well."""
    name, complete = thing["metadata"]["name"], render.condition(thing, "Complete")
    reason = complete.get("reason")
    if reason == "LinesFailed":
        return [f"kubectl flow run details {name} shows each line"]
    if reason in ("RunsAhead", "RunUnfinished") and thing.get("status", {}).get("phase") == "Queued":
        return ["kubectl flow run ls shows those that it waits for"]
    return []


def session_of_run(run: Object) -> str:
    """Return the session that a run waits for: the one that it names or is in, else the one that its condition mentions."""
    named = (run["spec"].get("sessionRef") or {}).get("name") or run.get("status", {}).get("sessionName")
    match = re.search(r"\bsession '([^']+)'", render.condition(run, "Complete").get("message", ""))
    return str(named or (match[1] if match else ""))


def of_instance(thing: Object) -> list[str]:
    """Return the commands for an instance that doesn't run."""
    reason = render.condition(thing, "Ready").get("reason")
    if reason in ("Unschedulable", "QuotaExceeded", "SizeNotFound"):
        return ["kubectl flow size ls shows sizes, their nodes and free quota"]
    return [f"kubectl flow instance start {thing['metadata']['name']}"] if reason == "Stopped" else []


def named(message: str, thing: Object) -> list[str]:
    """Return the commands that set the annotations a message asks for."""
    name, environment = thing["metadata"]["name"], thing.get("kind") == "FlowEnvironment"
    command = "kubectl flow env {} {}" if environment else "kubectl flow {} {}"
    return [command.format(what, name) for what in dict.fromkeys(_ASKED.findall(message))]


def _of_folder(name: str, environment: Object | None) -> Iterator[str]:
    """Yield how to push or read a flow folder again after correcting it."""
    source = (environment or {}).get("spec", {}).get("source") or {}
    if environment is None:
        yield f"kubectl flow start DIR --name {name} makes one of a flow folder"
    elif (source.get("archive") or {}).get("configMap", {}).get("name") == f"{name}-folder":
        yield f"kubectl flow start DIR --name {name} brings the flow folder again, once that is corrected in it"
    elif source:
        yield f"kubectl flow env refresh {name} reads it again, once that is corrected there"


def place(kind: str, found: Object, session: Object, environment: Object | None) -> str:
    """Return what a session's condition is about, or an empty string if its message says it."""
    name = session["spec"]["environmentRef"]["name"]
    if kind == "ComputeAllocated":
        return _of_compute(str(found.get("reason")), session)
    if kind == "PackagesInstalled":
        file = ((environment or {}).get("status") or {}).get("requirementsFile")
        return f"{file or 'the requirements'} of environment {name}"
    if kind in ("InSync", "EditsInPlace"):
        return ""
    return source(environment) if environment is not None else f"environment {name}"


def _of_compute(reason: str, session: Object) -> str:
    spec = session["spec"]
    compute, identity = spec.get("compute") or {}, spec.get("identity") or {}
    if reason.startswith("Identity"):
        wanted = identity.get("serviceAccountName") or identity.get("clientID")
        return f"spec.identity{f': {wanted}' if wanted else ''}"
    if compute.get("instanceRef"):
        return f"instance {compute['instanceRef']['name']}"
    return f"size {compute['vmSize']}" if compute.get("vmSize") else ""


def place_of_run(run: Object) -> str:
    """Return where a run went wrong, or an empty string if its condition says it."""
    status, data = run.get("status", {}), run["spec"].get("data") or {}
    reason = str(render.condition(run, "Complete").get("reason"))
    if reason.startswith("Data") and data:
        for kind, found in data.items():
            return f"data: {found}" if isinstance(found, str) else f"data: {_of_source(kind, found)}"
    if reason in ("Canceled", "TimedOut", "RunYamlInvalid") or not status.get("sessionName"):
        return ""
    return ", ".join(f"{what} {status[key]}" for what, key in (("session", "sessionName"), ("pod", "podName")) if status.get(key))


def source(environment: Object) -> str:
    """Return where an environment's flow folder comes from."""
    name, spec = environment["metadata"]["name"], environment.get("spec", {})
    folder = f", folder {spec['flowPath']}" if spec.get("flowPath") not in (None, "", ".") else ""
    for kind, found in (spec.get("source") or {}).items():
        return f"environment {name}, its flow folder in {_of_source(kind, found)}{folder}"
    return f"environment {name}"


def _of_source(kind: str, found: Mapping[str, object]) -> str:
    config_map = found.get("configMap") if kind == "archive" else found
    if kind in ("archive", "configMap") and isinstance(config_map, Mapping):
        return f"ConfigMap {config_map.get('name')}"
    if kind == "git":
        revision = f" at {found['revision']}" if found.get("revision") else ""
        return f"{found.get('url')}{revision}"
    return f"PersistentVolumeClaim {found.get('claimName')}" if kind == "persistentVolumeClaim" else f"{found.get('reference')}"


def _names(thing: Object) -> dict[str, str]:
    instance = (thing["spec"].get("compute") or {}).get("instanceRef") or {}
    return {"name": thing["metadata"]["name"], "instance": instance.get("name", "NAME")}


_COMMAND = re.compile(r"kubectl flow (?:(?:env|instance|run|size) )?[a-z-]+")


def with_options(text: str, options: str) -> str:
    """Return the text with this command's options added to the commands in it."""
    return _COMMAND.sub(lambda found: f"{found[0]} {options}", text) if options else text
