"""The operator from this checkout, outside any cluster: `python -m demo.local`, for trying a change without building images.

It works on the cluster of KUBECONFIG, or on the local one where that isn't set, and reaches agents through the API server.
"""

import json
import os
import sys
from pathlib import Path

from demo import deploy, programs, targets
from demo.kubectl import Kubectl
from localcluster import paths
from localcluster.say import CannotContinue, progress

_AGENT = paths.CHECKOUT / ".venv" / "agent.pyz"
_PORT = 8081


def main() -> None:
    """Becomes the operator; exits 1 with one sentence where it can't."""
    try:
        kubeconfig = _kubeconfig()
        kubectl = Kubectl(programs.kubectl(), kubeconfig, deploy.NAMESPACE)
        _refuse_a_second(kubectl)
        kubectl("apply", "--server-side", "--force-conflicts", "-f", str(paths.CHECKOUT / "crds"))
        if kubectl.get("namespace", deploy.NAMESPACE) is None:
            kubectl("create", "namespace", deploy.NAMESPACE)
        settings = paths.STATE / "operator-settings.json"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.touch(mode=0o600)
        settings.write_text(json.dumps(_settings(kubeconfig), indent=1))
    except CannotContinue as obstacle:
        sys.exit(f"demo.local: {obstacle}")
    progress(f"the operator runs on the cluster of {kubeconfig}; its metrics: http://localhost:{_PORT}/metrics; ^C ends it")
    command = [sys.executable, "-m", "flowsession", "--settings", str(settings), "--agent", str(_AGENT), "--port", str(_PORT)]
    os.execve(sys.executable, command, {**os.environ, "KUBECONFIG": str(kubeconfig)})  # noqa: S606


def _kubeconfig() -> Path:
    named = os.environ.get("KUBECONFIG")
    kubeconfig = Path(named) if named else paths.KUBECONFIG
    if not kubeconfig.is_file():
        raise CannotContinue(f"there is no kubeconfig {kubeconfig}; `make cluster-up` makes one, or set KUBECONFIG to a file that exists.")
    return kubeconfig


def _refuse_a_second(kubectl: Kubectl) -> None:
    deployment = kubectl.get("deployment", deploy.RELEASE)
    if deployment and deployment["spec"]["replicas"]:
        raise CannotContinue(
            "an operator runs in this cluster already, and two would do everything twice; stop it by"
            f" `kubectl -n {deploy.NAMESPACE} scale deployment/{deploy.RELEASE} --replicas=0` and run this again (`make deploy` starts it)."
        )


def _settings(kubeconfig: Path) -> deploy.Values:
    """The operator's settings file; fields as in operator/flowsession/settings.py."""
    target = targets.Local()
    here = kubeconfig.resolve() == target.kubeconfig.resolve()
    image = os.environ.get("RUNTIME_IMAGE", "")
    if not image and not here:
        raise CannotContinue("set RUNTIME_IMAGE to a runtime image that this cluster's nodes can pull (`make images` builds one).")
    if not image:
        _, runtime = deploy.build_images(target)
        target.load(runtime)
        image = runtime.name
    if not here:
        return {"runtimeImage": image, "agentVia": "Proxy"}
    values = deploy.installer_values(target.index)["installer"]
    bundle = target.index.ca_bundle
    # The chart has proxies as values of their own; the operator's file has variables.
    names = {"http": "HTTP_PROXY", "https": "HTTPS_PROXY", "noProxy": "NO_PROXY"}
    proxies = {names[name]: address for name, address in values.pop("proxy").items() if address}
    installer = {**values, "environment": {**values["environment"], **proxies}, "caBundle": bundle.read_text() if bundle else ""}
    return {"runtimeImage": image, "agentVia": "Proxy", "installer": installer}


if __name__ == "__main__":
    main()
