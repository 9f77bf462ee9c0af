"""`make run`: the operator from this checkout against KUBECONFIG, with the settings of the operator installed by Helm, if any."""

import os
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from demo import programs
from demo.deploy import NAMESPACE, RELEASE
from demo.kubectl import Kubectl
from localcluster import paths
from localcluster.say import CannotContinue, progress

CRDS = paths.CHECKOUT / "crds"


def run(agent: Path) -> NoReturn:
    """Become the operator's process. Raises CannotContinue without a cluster, or if another operator runs on it."""
    kubeconfig = Path(os.environ.get("KUBECONFIG") or paths.KUBECONFIG)
    if not kubeconfig.is_file():
        raise CannotContinue(f"there is no kubeconfig {kubeconfig}; run `make cluster-up`, or export KUBECONFIG=FILE.")
    kubectl = Kubectl(programs.kubectl(), kubeconfig, NAMESPACE)
    deployment = kubectl.get("deployment", RELEASE)
    if deployment and deployment["spec"].get("replicas", 1) > 0:
        raise CannotContinue(
            "the operator in the cluster would work against this one; stop it first:"
            f" kubectl -n {NAMESPACE} scale deployment {RELEASE} --replicas=0"
        )
    installed = kubectl.get("configmap", f"{RELEASE}-settings")
    settings = installed["data"]["settings.yaml"] if installed else "{}\n"
    if installed is None:
        kubectl("apply", "-f", str(CRDS))
    if kubectl.get("namespace", NAMESPACE) is None:
        kubectl("create", "namespace", NAMESPACE)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", prefix="flowsession-", delete=False) as file:
        file.write("\n".join([line for line in settings.splitlines() if not line.startswith("agentVia:")] + ["agentVia: Proxy", ""]))
    progress(f"the operator of this checkout works on {kubeconfig}; ^C ends it")
    os.environ["KUBECONFIG"] = str(kubeconfig)
    arguments = ["-m", "flowsession", "--settings", file.name, "--agent", str(agent), "--namespace", NAMESPACE, "--port", "0"]
    os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606 - so that ^C and signals reach the operator itself
