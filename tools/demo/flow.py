"""`kubectl flow`, as a flow author types it."""

import os
import subprocess
from dataclasses import dataclass

from demo import programs
from demo.kubectl import Kubectl
from demo.session import SessionFailed


@dataclass(frozen=True)
class Flow:
    """The checkout's own `kubectl flow`, in kubectl's cluster and namespace."""

    kubectl: Kubectl

    def show(self, *arguments: str) -> str:
        """Print the command line, then its standard output as it arrives, and return that output. Raises SessionFailed."""
        shown = " ".join(f'"{word}"' if " " in word else word for word in arguments)
        print(f"    $ kubectl flow {shown}", flush=True)
        plugin = programs.kubectl_flow()
        environ = {**os.environ, "KUBECONFIG": str(self.kubectl.kubeconfig)}
        environ["PATH"] = os.pathsep.join([str(plugin.parent), str(self.kubectl.program.parent), environ.get("PATH", os.defpath)])
        command = [str(self.kubectl.program), "flow", *arguments, "--namespace", self.kubectl.namespace]
        printed = []
        with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace") as process:
            assert process.stdout and process.stderr
            for line in process.stdout:
                printed.append(line)
                print(f"    {line}".rstrip(), flush=True)
            said = process.stderr.read().strip()
        if process.returncode != 0:
            raise SessionFailed(f"`kubectl flow {arguments[0]}` failed with exit code {process.returncode}: {said[-2000:]}")
        return "".join(printed)
