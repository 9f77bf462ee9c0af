"""The walk-through: a session that installs its packages, runs its flow, and ends when idle, and a run of another flow, evaluated."""

import json
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from demo import deploy, programs
from demo.flow import Flow
from demo.kubectl import Kubectl, Object, print_indented
from demo.run import Run
from demo.session import Session, SessionFailed
from demo.stages import Stages
from demo.targets import Target
from localcluster import images, paths
from localcluster.say import CannotContinue

NAMESPACE = "demo"
NAME = "ticket-triage"
EXAMPLE = "examples/ticket-triage/flow"
MODEL_SERVER, CHAT, EVALUATION = "examples/model-server", "examples/help-chat", "examples/help-evaluation"
QUESTIONS = 50
OWN_LABEL = "flowsession.dev/demo"
IDLE_SECONDS = 20
INPUTS = {"customer": "Grace", "subject": "Cannot sign in", "body": "My password is refused and the reset link has expired."}
EXPECTED_CATEGORY = "access"
EXPECTED_ACCURACY = 0.92
_RUN_SECONDS = 180
# The operator's check and the pod's shutdown may delay an idle end, but it must never come before the limit.
_IDLE_GRACE_SECONDS = 30
# Time that `kubectl flow test` needs to end after the flow.
_EXEC_SECONDS = 0.5


def run(target: Target) -> int:
    """Run the walk-through and return its exit code: 0 only if every step did what it says. A failed session is kept for inspection."""
    stages = Stages(total=11)
    print(f"flowsession demo on: {target.title}", flush=True)
    with stages.stage("Cluster"):
        target.up()
        kubectl = Kubectl(programs.kubectl(), target.kubeconfig, NAMESPACE)
        kubectl.show("get", "nodes", "-L", "node.kubernetes.io/instance-type")
    with stages.stage("Operator: images and chart"):
        runtime = deploy.deploy(target)
    session = Session(kubectl, NAME)
    try:
        _use(stages, kubectl, session, runtime)
    except CannotContinue as failure:
        _tell_failure(kubectl, session, failure)
        return 1
    print(f"\n{stages.summary()}\n\nThe operator still runs: export KUBECONFIG={target.kubeconfig}", flush=True)
    return 0


def _use(stages: Stages, kubectl: Kubectl, session: Session, runtime: images.ImageRef) -> None:
    with stages.stage(f"Namespace {NAMESPACE}"):
        _fresh_namespace(kubectl)
    flow = Flow(kubectl)
    with stages.stage("A flow folder becomes a session, which installs requirements.txt"):
        flow.show("start", EXAMPLE)
        ready = session.ready()
        kubectl.show("get", "computesessions")
    with stages.stage("Another flow, and a model server that it calls"):
        _apply_model_server(kubectl, runtime)
        _apply_chat(kubectl)
    with stages.stage("The packages of the first one"):
        _show_packages(kubectl, session)
    with stages.stage("The flow runs in it"):
        used_at = _run_flow(flow)
        flow.show("set", NAME, "--idle", f"{IDLE_SECONDS}s")
    with _deleted_at(kubectl) as gone_at:
        with stages.stage(f"The other flow, run over {QUESTIONS} lines"):
            _run_over_lines(kubectl)
        with stages.stage("An evaluation of that run"):
            _evaluate(kubectl)
        with stages.stage(f"Nobody uses the first session: after {IDLE_SECONDS} s it is deleted"):
            _tell_idle_end(kubectl, gone_at, used_at, ready["status"]["podName"])
    with stages.stage("Clean up"):
        kubectl.show("delete", "namespace", NAMESPACE, "--wait=false")


def _apply_folder(kubectl: Kubectl, folder: str) -> None:
    print(f"    $ kubectl apply -k {folder}", flush=True)
    print_indented(kubectl("apply", "-k", str(paths.CHECKOUT / folder)))


def _apply_model_server(kubectl: Kubectl, runtime: images.ImageRef) -> None:
    """Apply the model server with the runtime image, which the nodes have."""
    _apply_changed(kubectl, MODEL_SERVER, "image: .*", f"image: {runtime.name}")


def _apply_chat(kubectl: Kubectl) -> None:
    """Apply the flow. Without DNS, as in a cluster of tools/localcluster, use the server's address instead of its name."""
    if kubectl.attempt("get", "service", "kube-dns", "-n", "kube-system").returncode == 0:
        _apply_folder(kubectl, CHAT)
        return
    address = kubectl("get", "service", "model-server", "-o", "jsonpath={.spec.clusterIP}")
    _apply_changed(kubectl, CHAT, "//model-server:", f"//{address}:")


def _apply_changed(kubectl: Kubectl, folder: str, old: str, new: str) -> None:
    print(f"    $ kubectl kustomize {folder} | sed 's|{old}|{new}|' | kubectl apply -f -", flush=True)
    print_indented(kubectl("apply", "-f", "-", stdin=re.sub(old, new, kubectl("kustomize", str(paths.CHECKOUT / folder)))))


def _fresh_namespace(kubectl: Kubectl) -> None:
    found = kubectl.get("namespace", NAMESPACE)
    if found and OWN_LABEL not in found["metadata"].get("labels", {}):
        raise CannotContinue(f"the namespace {NAMESPACE} is not from an earlier demo; delete or rename it, or use another cluster.")
    if found:
        kubectl("delete", "namespace", NAMESPACE, "--wait", "--timeout=120s")
    # Sessions comply with the strictest of the cluster's pod security levels.
    labels = {OWN_LABEL: "true", "pod-security.kubernetes.io/enforce": "restricted"}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    print_indented(kubectl("create", "-f", "-", stdin=json.dumps(manifest)))


def _show_packages(kubectl: Kubectl, session: Session) -> None:
    name = session.wait_for_packages(seconds=30)
    listed = kubectl.get("configmap", name)
    if listed is None:
        raise SessionFailed(f"the ConfigMap {name} with the session's packages does not exist.")
    packages: list[Object] = json.loads(listed["data"]["packages.json"])["packages"]
    own = [package for package in packages if package["layer"] != "image"]
    rows = [(package["name"], package["version"], package["layer"], ", ".join(package.get("requiredBy", []))) for package in own]
    print_indented("\n".join(f"{a:<20}{b:<12}{c:<14}{d}".rstrip() for a, b, c, d in [("NAME", "VERSION", "LAYER", "REQUIRED BY"), *rows]))
    print(f"    and {len(packages) - len(own)} that the image brought (all of them: kubectl get configmap {name} -o yaml)", flush=True)
    layers = {package["name"].lower().replace("_", "-"): package["layer"] for package in packages}
    for package, layer in (("scikit-learn", "requirements"), ("rapidfuzz", "requirements"), ("promptflow", "image")):
        if layers.get(package) != layer:
            raise SessionFailed(f"{package} should be listed in the layer {layer}, not {layers.get(package)}.")


def _run_flow(flow: Flow) -> float:
    """Run the flow and return when it had run, by the monotonic clock: at most `_EXEC_SECONDS` after the work really ended."""
    printed = flow.show("test", NAME, "--inputs", *(f"{name}={value}" for name, value in INPUTS.items()))
    used_at = time.monotonic()
    try:
        outputs: Object = json.loads(printed)
    except ValueError:
        raise SessionFailed("what the flow printed is not JSON.") from None
    if outputs.get("category") != EXPECTED_CATEGORY or INPUTS["customer"] not in outputs.get("reply", ""):
        raise SessionFailed(f"the flow should have said category {EXPECTED_CATEGORY} and replied to {INPUTS['customer']}.")
    return used_at


@contextmanager
def _deleted_at(kubectl: Kubectl) -> Iterator[Future[float]]:
    """Yield when the session was seen to be gone, by the monotonic clock. A thread watches it during the block."""

    def watch() -> float:
        timeout = f"--timeout={IDLE_SECONDS + _IDLE_GRACE_SECONDS}s"
        if kubectl.attempt("wait", "--for=delete", f"computesession/{NAME}", timeout).returncode != 0:
            raise SessionFailed(f"nobody used the session {NAME}, but it was not deleted within {IDLE_SECONDS + _IDLE_GRACE_SECONDS} s.")
        return time.monotonic()

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(watch)


def _run_over_lines(kubectl: Kubectl) -> None:
    kubectl("wait", "--for=condition=Available", "deployment/model-server", "--timeout=60s")
    print(f"    $ kubectl apply -f {CHAT}/run.yaml", flush=True)
    print_indented(kubectl("apply", "-f", str(paths.CHECKOUT / CHAT / "run.yaml")))
    lines = Run(kubectl, "help-questions").wait_until_complete(seconds=_RUN_SECONDS)["lines"]
    if lines != {"total": QUESTIONS, "completed": QUESTIONS, "failed": 0}:
        raise SessionFailed(f"the run should have completed {QUESTIONS} lines, not {lines}.")


def _evaluate(kubectl: Kubectl) -> None:
    _apply_folder(kubectl, EVALUATION)
    status = Run(kubectl, "help-evaluation").wait_until_complete(seconds=_RUN_SECONDS)
    kubectl.show("get", "flowruns")
    kubectl.show("get", "flowrun", "help-evaluation", "-o", "jsonpath={.status.metrics}")
    if float(status.get("metrics", {}).get("accuracy", "nan")) != EXPECTED_ACCURACY:
        raise SessionFailed(f"the evaluation should have found an accuracy of {EXPECTED_ACCURACY}: {status.get('metrics')}.")


def _tell_idle_end(kubectl: Kubectl, deleted_at: Future[float], used_at: float, pod: str) -> None:
    after = deleted_at.result() - used_at
    print(f"    deleted {after:.1f} s after the flow had run", flush=True)
    if after < IDLE_SECONDS - _EXEC_SECONDS:
        raise SessionFailed(f"the session was deleted {IDLE_SECONDS - after:.1f} s too early.")
    kubectl("wait", "--for=delete", f"pod/{pod}", "--timeout=60s")
    _show_events(kubectl)


def _show_events(kubectl: Kubectl) -> None:
    events = kubectl.list("events", "--field-selector", f"involvedObject.kind=ComputeSession,involvedObject.name={NAME}")
    if not events:
        raise SessionFailed("the session's story should be told by Events, and there are none.")
    rows = sorted((event.get("eventTime") or event.get("firstTimestamp") or "", event["reason"], event["message"]) for event in events)
    print_indented("\n".join(f"{when[11:19]}  {reason:<20}{message}" for when, reason, message in rows))


def _tell_failure(kubectl: Kubectl, session: Session, failure: CannotContinue) -> None:
    print("\nThe session's conditions:", flush=True)
    session.print_conditions()
    print("\nIts pods:", flush=True)
    pods = kubectl.attempt("get", "pods", "-o", "wide")
    print_indented(pods.stdout + pods.stderr)
    config = f"--kubeconfig {kubectl.kubeconfig}"
    print(
        f"\ndemo run: {failure}\nEverything is left as it is; to look further:\n"
        f"    kubectl {config} -n {NAMESPACE} describe computesession {NAME}\n"
        f"    kubectl {config} -n {NAMESPACE} get events\n"
        f"    kubectl {config} -n {deploy.NAMESPACE} logs deployment/{deploy.RELEASE}",
        file=sys.stderr,
        flush=True,
    )
