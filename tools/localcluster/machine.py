"""Changes of the cluster outside its own folder: original values are recorded before the first change and restored by `down`.

The kubelet, kube-proxy and the CNI plugins set kernel parameters and create folders in places that can't be configured.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from localcluster import files, paths

_SYSCTLS = (
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
_SYS = Path("/proc/sys")
_FOLDERS = ("/usr/libexec/kubernetes", "/var/lib/kubelet", "/var/lib/cni/results", "/var/lib/cni", "/var/log/containers")


def remember() -> None:
    """Record the machine's values, before the first change only: if `up` is killed, later values are ours."""
    if not _record().exists():
        values = {name: (_SYS / name).read_text().strip() for name in _SYSCTLS if (_SYS / name).exists()}
        missing = [folder for folder in _FOLDERS if not Path(folder).exists()]
        files.write(_record(), json.dumps({"sysctls": values, "missing": missing}))


def restore() -> None:
    """Restore the values and remove the folders that weren't there before. Nothing of the cluster may be running any more."""
    if not _record().exists():
        return
    record: dict[str, Any] = json.loads(_record().read_text())
    for name, value in record["sysctls"].items():
        (_SYS / name).write_text(value)
    for folder in record["missing"]:
        shutil.rmtree(folder, ignore_errors=True)


def allow_forwarding() -> None:
    """Let the machine route between pods, and from them to the outside."""
    (_SYS / "net/ipv4/ip_forward").write_text("1")


def _record() -> Path:
    return paths.RUN / "machine-before.json"
