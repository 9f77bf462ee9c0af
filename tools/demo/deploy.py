"""From the checkout to a running operator: builds the images, loads them onto the nodes, and installs or upgrades the chart."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from demo import programs
from demo.kubectl import Kubectl
from demo.targets import Target
from localcluster import images, package_index, paths, wait
from localcluster.say import CannotContinue, progress
from localcluster.shell import run

NAMESPACE = "flowsession-system"
RELEASE = "flowsession"
CHART = paths.CHECKOUT / "charts" / "flowsession"
_TIMEOUT = "180s"
_ENVIRONMENT = json.dumps(
    {
        "apiVersion": "flowsession.dev/v1alpha1",
        "kind": "FlowEnvironment",
        "metadata": {"generateName": "accepted-"},
        "spec": {"requirementsText": "requests"},
    }
)

_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")

Values = dict[str, Any]


def deploy(target: Target, more: Values | None = None) -> images.ImageRef:
    """Deploy this very checkout's operator and return the runtime image once the operator is ready. The target must be up. `more` are
    additional values of the chart."""
    operator, runtime = build_images(target)
    for image in (operator, runtime):
        target.load(image)
    _install(
        target,
        {"operator": {"image": _image(operator)}, "runtime": {"image": _image(runtime)}, **installer_values(target.index), **(more or {})},
    )
    return runtime


def build_images(target: Target) -> tuple[images.ImageRef, images.ImageRef]:
    """Build the operator's and the runtime image. Their tags are hashes of their inputs, so existing images are reused."""
    folder = paths.CHECKOUT / "images"
    arguments = target.build_args
    operator, runtime = (
        images.build(f"{target.repository}/flowsession-{name}", folder / name / "Dockerfile", paths.CHECKOUT, arguments)
        for name in ("operator", "runtime")
    )
    return operator, runtime


def installer_values(index: package_index.Settings | None) -> Values:
    """Return the chart's values that give sessions this machine's access to its package index, except the CA bundle."""
    if index is None:
        return {}
    extra = f"{index.pip.get('extra-index-url', '')} {index.uv.get('UV_EXTRA_INDEX_URL', '')}".split()
    urls = (index.pip.get("index-url"), index.uv.get("UV_DEFAULT_INDEX"), index.uv.get("UV_INDEX_URL"))
    others = {"PIP_TRUSTED_HOST": index.pip.get("trusted-host"), "PIP_DEFAULT_TIMEOUT": index.pip.get("timeout"), **index.uv}
    proxies = {"http": "HTTP_PROXY", "https": "HTTPS_PROXY", "noProxy": "NO_PROXY"}
    return {
        "installer": {
            "indexURL": next(filter(None, urls), ""),
            "extraIndexURLs": list(dict.fromkeys(extra)),
            "proxy": {value: index.proxy.get(name) or index.proxy.get(name.lower(), "") for value, name in proxies.items()},
            "environment": {name: value for name, value in others.items() if value and name not in _INDEX_VARIABLES},
        }
    }


def _image(image: images.ImageRef) -> Values:
    repository, _, tag = image.name.rpartition(":")
    return {"repository": repository, "tag": tag}


def _install(target: Target, values: Values) -> None:
    helm = programs.helm()
    kubectl = Kubectl(programs.kubectl(), target.kubeconfig, NAMESPACE)
    _forget_unfinished(helm, kubectl)
    progress(f"helm upgrade --install {RELEASE} (namespace {NAMESPACE})")
    command = [str(helm), "upgrade", "--install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--create-namespace"]
    command += ["--kubeconfig", str(target.kubeconfig), "--wait", "--timeout", _TIMEOUT]
    # The chart takes over CRDs that `kubectl apply -f crds/` created earlier for an operator run from the checkout.
    offered = run(helm, "upgrade", "--help")
    command += [flag for flag in ("--take-ownership", "--force-conflicts") if flag in offered]
    if target.index and target.index.ca_bundle:
        command += ["--set-file", f"installer.caBundle={target.index.ca_bundle}"]
    with tempfile.TemporaryDirectory(prefix="flowsession-") as folder:
        file = Path(folder) / "values.json"
        file.write_text(json.dumps(values))
        result = subprocess.run([*command, "--values", str(file)], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        words = result.stderr.strip() or result.stdout.strip()
        raise CannotContinue(f"helm could not install the chart: {words}{_operator_diagnostics(kubectl)}")
    progress("the operator is ready")
    _wait_for_api_server(kubectl)


def _wait_for_api_server(kubectl: Kubectl) -> None:
    """Return once the API server accepts an environment.

    It checks every 5 s for the schemas that its MutatingAdmissionPolicies need. Between new CustomResourceDefinitions and that check it
    responds `ServiceUnavailable` (typeconverter.go in k8s.io/apiserver's admission/plugin/policy/mutating). Raises CannotContinue with
    its message if it still refuses after a minute.
    """
    refusal = ""

    def accepts() -> bool:
        nonlocal refusal
        result = kubectl.attempt("create", "--dry-run=server", "-f", "-", stdin=_ENVIRONMENT)
        refusal = result.stderr.strip()
        return result.returncode == 0

    if not wait.until(accepts, seconds=60, every=0.5, saying="the API server to accept the new kinds"):
        raise CannotContinue(f"the operator is ready, but the API server accepts no FlowEnvironment: {refusal}")


def _forget_unfinished(helm: Path, kubectl: Kubectl) -> None:
    """Delete the record of a killed install or upgrade, with which Helm refuses every further one."""
    selection = ("--namespace", NAMESPACE, "--filter", f"^{RELEASE}$", "--pending")
    listed = run(helm, "list", *selection, "--kubeconfig", kubectl.kubeconfig, "-o", "json")
    for release in json.loads(listed or "[]"):
        progress(f"an earlier {release['status'].removeprefix('pending-')} of the chart was cut off; starting it again")
        kubectl("delete", "secret", f"sh.helm.release.v1.{RELEASE}.v{release['revision']}", "--ignore-not-found")


def _operator_diagnostics(kubectl: Kubectl) -> str:
    """Return the information on why the operator isn't ready: its pods, and the last lines of its log."""
    pods = kubectl.attempt("get", "pods", "-o", "wide").stdout.strip()
    log = kubectl.attempt("logs", f"deployment/{RELEASE}", "--tail", "15", "--all-containers").stdout.strip()
    return "".join(f"\n{title}:\n{text}" for title, text in (("its pods", pods), ("its last log lines", log)) if text)
