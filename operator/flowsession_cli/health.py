"""Check whether cluster, API, operator, rights and images meet this program's needs: one check for each, with the way out."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from flowsession import __version__
from flowsession.api import API_VERSION, GROUP
from flowsession_cli import render
from flowsession_cli.cluster import ENVIRONMENT, SESSION, SIZE, Cluster, Object
from flowsession_cli.errors import CliError, Forbidden
from flowsession_cli.failures import role_for

OLDEST_CLUSTER = (1, 30)
"""Oldest version of Kubernetes, as in the chart."""

SKEW = 1
"""Minor versions by which kubectl and cluster may differ (https://kubernetes.io/releases/version-skew-policy)."""

KINDS = ("computesessions", "flowenvironments", "flowruns", "computeinstances", "vmsizes")
FIELDS = {
    "ComputeSession": ("environmentRef", "user", "compute", "baseImage", "suspend", "idle", "identity", "env"),
    "FlowEnvironment": ("source", "flowPath", "requirementsText", "connections", "owner"),
    "FlowRun": (
        "environmentRef",
        "user",
        "data",
        "columnMapping",
        "run",
        "runYaml",
        "path",
        "variant",
        "resources",
        "cancel",
        "resumeFrom",
    ),
}
"""Fields of each spec that this program writes."""

_ALL = ("get", "list", "watch", "create", "patch", "delete")
_READ = ("get", "list", "watch")
RIGHTS: Sequence[tuple[str, str, Sequence[str], str]] = (
    (GROUP, "computesessions", _ALL, "start, stop and all that is done with sessions"),
    (GROUP, "flowenvironments", _ALL, "start"),
    (GROUP, "flowruns", _ALL, "run"),
    (GROUP, "computeinstances", _ALL, "instance"),
    ("", "configmaps", ("get", "create", "patch"), "start and run create, which bring folders and data"),
    ("", "pods", ("get",), "sh, exec, test and cp"),
    ("", "pods/exec", ("create",), "sh, exec, test and cp"),
    ("", "pods/portforward", ("create",), "open"),
    ("", "pods/log", ("get",), "why"),
    ("", "events", ("list",), "why and status"),
    ("", "secrets", ("get", "list", "create", "update", "delete"), "connection"),
)
"""Group, resource and verbs needed in a namespace, and which commands need them."""

_OF_CLUSTER = (GROUP, "vmsizes", ("get", "list"), "size ls")
_PULL = ("ImagePullFailed", "ImageNotAllowed")


@dataclass(frozen=True)
class Line:
    """The result of a check. `good` is None if the check can't tell."""

    good: bool | None
    text: str


def examined(cluster: Cluster) -> Iterator[Line]:
    """Yield the checks' results, each after those it depends on. Stop if the cluster doesn't answer or doesn't serve the API."""
    try:
        versions = json.loads(cluster.call("version", "-o", "json"))
        user = cluster.user()
    except CliError as error:
        yield Line(False, str(error))
        return
    yield from _versions(versions)
    yield Line(True, f"the cluster takes you for {user}")
    served = _served(cluster)
    yield from _api(served)
    if not served:
        return
    namespace = cluster.namespace or _namespace(cluster)
    checks: Mapping[str, Callable[[], Iterator[Line]]] = {
        "the CRDs' fields": lambda: _schema(cluster),
        "the operator": lambda: _operator(cluster),
        "the namespace": lambda: _there(cluster),
        "your rights": lambda: _rights(cluster, user, namespace),
        "VM sizes": lambda: _sizes(cluster),
        "images": lambda: _images(cluster, namespace),
    }
    with ThreadPoolExecutor() as pool:  # each check runs its own kubectl
        missing = False
        for what, lines in zip(checks, pool.map(lambda what: _done(what, checks[what]), checks), strict=True):
            if not (missing and what in ("your rights", "images")):  # they mean nothing without the namespace
                yield from lines
            missing = missing or (what == "the namespace" and bool(lines))


def _there(cluster: Cluster) -> Iterator[Line]:
    """Yield nothing. Raises NotFound if the namespace is missing."""
    cluster.refuse_missing_namespace()
    yield from ()


def _done(what: str, check: Callable[[], Iterator[Line]]) -> list[Line]:
    try:
        return list(check())
    except Forbidden:
        return [Line(None, f"{what} can't be seen with your rights")]
    except CliError as error:
        return [Line(False, str(error))]


def _versions(found: Mapping[str, Mapping[str, str]]) -> Iterator[Line]:
    server, client = (_numbers(found.get(side) or {}) for side in ("serverVersion", "clientVersion"))
    names = (
        f"cluster {(found.get('serverVersion') or {}).get('gitVersion')}, kubectl {(found.get('clientVersion') or {}).get('gitVersion')}"
    )
    if server < OLDEST_CLUSTER:
        yield Line(False, f"{names}: flowsession needs {_dotted(OLDEST_CLUSTER)} or newer, upgrade the cluster")
    elif abs(server[1] - client[1]) > SKEW:
        yield Line(None, f"{names}: they are more than {SKEW} minor version apart, which Kubernetes doesn't promise to work")
    else:
        yield Line(True, names)


def _numbers(version: Mapping[str, str]) -> tuple[int, int]:
    major, minor = (int("".join(filter(str.isdigit, version.get(part, ""))) or 0) for part in ("major", "minor"))
    return major, minor


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _served(cluster: Cluster) -> list[str]:
    try:
        answer = json.loads(cluster.call("get", "--raw", f"/apis/{API_VERSION}"))
    except Forbidden:
        raise
    except CliError:
        return []
    return [item["name"] for item in answer["resources"] if "/" not in item["name"]]


def _api(served: Sequence[str]) -> Iterator[Line]:
    missing = [kind for kind in KINDS if kind not in served]
    if not served:
        yield Line(False, f"the cluster has no flowsession, it doesn't serve {API_VERSION}: install its chart, or choose another cluster")
    elif missing:
        yield Line(False, f"the cluster's CRDs are older than this program: {', '.join(missing)} missing; upgrade the chart")
    else:
        yield Line(True, f"{API_VERSION} with {len(KINDS)} kinds")


def _schema(cluster: Cluster) -> Iterator[Line]:
    schemas = json.loads(cluster.call("get", "--raw", f"/openapi/v3/apis/{API_VERSION}"))["components"]["schemas"]
    missing = [f"{kind}.spec.{field}" for kind, fields in FIELDS.items() for field in fields if field not in _spec(schemas, kind)]
    if missing:
        yield Line(False, f"the cluster's CRDs are older than this program: {', '.join(missing)} missing; upgrade the chart")
    else:
        yield Line(True, "the CRDs have all fields that this program writes")


def _spec(schemas: Mapping[str, Object], kind: str) -> Mapping[str, Object]:
    found = next((schema for name, schema in schemas.items() if name.endswith(f".{kind}")), {})
    properties: Mapping[str, Object] = found.get("properties", {}).get("spec", {}).get("properties", {})
    return properties


def _operator(cluster: Cluster) -> Iterator[Line]:
    try:
        found = cluster.objects("deployments.apps", "-A", "-l=app.kubernetes.io/name=flowsession")
    except Forbidden:
        yield _by_its_work(cluster.objects(SESSION) + cluster.objects(ENVIRONMENT))
        return
    if not found:
        seen = _by_its_work(cluster.objects(SESSION) + cluster.objects(ENVIRONMENT))
        missing = "there is no operator: no deployment has the label app.kubernetes.io/name=flowsession; install the chart"
        yield seen if seen.good else Line(False, missing)
    for deployment in found:
        meta, status = deployment["metadata"], deployment.get("status", {})
        where = f"operator {meta['name']} in namespace {meta['namespace']}"
        version = (meta.get("labels") or {}).get("app.kubernetes.io/version", "")
        if not status.get("readyReplicas"):
            yield Line(False, f"{where} is not ready: kubectl describe deployment -n {meta['namespace']} {meta['name']}")
        elif version and version != __version__:
            yield Line(
                None, f"{where} is {version}, and this program {__version__}: take the program of that version where something differs"
            )
        else:
            yield Line(True, f"{where}{f', version {version}' if version else ''}")


def _by_its_work(things: Sequence[Object]) -> Line:
    """Return what a caller who may not see the operator's deployment can conclude from its work."""
    behind = [
        thing["metadata"]["name"]
        for thing in things
        if thing.get("status", {}).get("observedGeneration", 0) < thing["metadata"]["generation"]
    ]
    if behind:
        return Line(False, f"the operator has not looked at {', '.join(behind[:3])}: ask whoever administers the cluster whether it runs")
    if things:
        return Line(
            True, "the operator has looked at all that is in this namespace; its version is for the cluster's administrators to see"
        )
    return Line(None, "whether the operator runs can't be seen with your rights: kubectl flow start will tell")


def _rights(cluster: Cluster, user: str, namespace: str) -> Iterator[Line]:
    status = cluster.review("authorization.k8s.io/v1", "SelfSubjectRulesReview", {"namespace": namespace})["status"]
    rules = status.get("resourceRules") or ()
    lacking = False
    for group, resource, verbs, needed in (*RIGHTS, _OF_CLUSTER):
        where = "" if (group, resource) == _OF_CLUSTER[:2] else namespace
        missing = [
            verb
            for verb in verbs
            if not _has(rules, verb, group, resource) and not (status.get("incomplete") and _may(cluster, verb, group, resource, where))
        ]
        if missing:
            lacking = True
            thing = f"{resource}.{group}" if group else resource
            place = f"in namespace {where}" if where else "in the whole cluster"
            role = role_for(missing[-1], resource, group)
            message = f"{user} may not {', '.join(missing)} {thing} {place}: {role} has that right"
            yield Line(False, f"{message}; needed by {needed}")
    if not lacking:
        yield Line(True, f"rights in namespace {namespace}: all that the commands need")


def _has(rules: Sequence[Object], verb: str, group: str, resource: str) -> bool:
    """Return whether a rule for all names allows it."""
    part = resource.partition("/")[2]
    names = {"*", resource, *([f"*/{part}"] if part else [])}
    return any(
        {"*", verb} & set(rule.get("verbs") or ())
        and {"*", group} & set(rule.get("apiGroups") or ())
        and names & set(rule.get("resources") or ())
        and not rule.get("resourceNames")
        for rule in rules
    )


def _may(cluster: Cluster, verb: str, group: str, resource: str, namespace: str) -> bool:
    """Return the cluster's own answer, for a cluster that can't list all its rules."""
    name, _, part = resource.partition("/")
    asked = {"verb": verb, "group": group, "resource": name, "namespace": namespace, **({"subresource": part} if part else {})}
    answer = cluster.review("authorization.k8s.io/v1", "SelfSubjectAccessReview", {"resourceAttributes": asked})
    return bool(answer["status"]["allowed"])


def _sizes(cluster: Cluster) -> Iterator[Line]:
    found = cluster.objects(SIZE)
    if not found:
        yield Line(True, "VM sizes: none is installed, sessions get the chart's default requests on any node")
        return
    there = [size["spec"]["azureName"] for size in found if size.get("status", {}).get("nodes")]
    can = [size for size in found if render.condition(size, "Available").get("status") == "True"]
    if can:
        yield Line(True, f"VM sizes: {len(found)}, with nodes now: {', '.join(there[:5]) or 'none, an autoscaler adds them'}")
    else:
        yield Line(
            False, f"VM sizes: none of the {len(found)} has nodes: kubectl flow size ls; add a node pool, or correct their nodeSelector"
        )


def _images(cluster: Cluster, namespace: str) -> Iterator[Line]:
    """Yield what nodes and registries have reported about images so far."""
    sessions, environments = cluster.objects(SESSION), cluster.objects(ENVIRONMENT)
    bad = [thing for thing in sessions + environments if render.condition(thing, "Ready").get("reason") in _PULL]
    for thing in bad:
        yield Line(False, f"{thing['metadata']['name']}: {render.condition(thing, 'Ready')['message']}")
    for thing in environments:
        newer = render.condition(thing, "NewerImageAvailable")
        if newer.get("reason") in ("RegistryUnreachable", "RegistryRefused"):
            yield Line(None, f"environment {thing['metadata']['name']}: {newer['message']}")
    pulled = sorted({image for thing in sessions if (image := thing.get("status", {}).get("imageDigest"))})
    if pulled and not bad:
        yield Line(True, f"images: nodes have pulled all {len(pulled)} that sessions of namespace {namespace} run")
    elif not bad:
        yield Line(None, f"images: no session runs in namespace {namespace}, so nothing can be said of pulls")


def _namespace(cluster: Cluster) -> str:
    return cluster.call("config", "view", "--minify", "-o", "jsonpath={..namespace}").strip() or "default"
