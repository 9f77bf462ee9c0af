"""Starts and stops the cluster, and shows its state."""

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from localcluster import (
    binaries,
    cgroups,
    debian,
    kubeconfig,
    layout,
    leftovers,
    lock,
    machine,
    network,
    nodes,
    paths,
    pause,
    preflight,
    proxy,
    runtime,
    wait,
)
from localcluster.controlplane import ADMIN, ControlPlane
from localcluster.daemons import Daemon
from localcluster.kubeconfig import Api
from localcluster.layout import Node
from localcluster.say import CannotContinue, progress

_NODE_SECONDS = 120
_PROXY_USER = "system:kube-proxy"


def control_plane() -> ControlPlane:
    """Return the cluster's control plane, running or not."""
    return ControlPlane(
        paths.RUN,
        etcd_port=layout.ETCD_PORT,
        etcd_peer_port=layout.ETCD_PEER_PORT,
        apiserver_port=layout.API_PORT,
        address=layout.API_ADDRESS,
        components=("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
        nodes=[node.name for node in layout.NODES],
    )


def up() -> None:
    """Start the cluster, and return once both nodes are Ready. Leaves running programs alone and restarts killed ones."""
    preflight.check()
    with lock.held():
        debian.ensure(debian.CLUSTER)
        network.check_free()
        plane = control_plane()
        for daemon in _daemons(plane):
            if daemon.pid() is None:
                daemon.check_ports()
        binaries.build(*binaries.ALL)
        machine.remember()
        network.ensure()
        for node in layout.NODES:
            cgroups.ensure(node.cgroup)
        # containerd needs no API server, so it starts at the same time as the control plane.
        _start([nodes.containerd(node) for node in layout.NODES])
        if plane.start():
            progress("started the control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler")
        for node in layout.NODES:
            runtime.wait_until_serving(node)
            runtime.import_archive(node, pause.archive(), pause.reference())
        _start([*(_kubelet(node, plane) for node in layout.NODES), _proxy(plane)])
        for node in layout.NODES:
            _wait_until_ready(node, plane)
        _wait_for_service_account(plane.api())
        for daemon in _daemons(plane):
            daemon.check_alive()
        kubeconfig.write(paths.KUBECONFIG, plane.api(), user=ADMIN)
        binaries.install_folder()
    progress(f"cluster is up, {len(layout.NODES)} nodes Ready: export KUBECONFIG={paths.KUBECONFIG}")


def down() -> None:
    """Remove everything of the cluster from the machine except the cache. Do nothing if nothing is there."""
    preflight.check_user()
    with lock.held():
        plane = control_plane()
        if paths.RUN.exists():
            daemons = _daemons(plane)
            for daemon in reversed(daemons):
                if daemon.name.startswith(("kubelet-", "kube-proxy")):
                    daemon.stop()
            leftovers.end_containers()
            for daemon in reversed(daemons):
                daemon.stop(seconds=30)
        leftovers.end_strays()
        leftovers.unmount()
        leftovers.remove_cgroups()
        network.remove()
        leftovers.remove_log_links()
        machine.restore()
        leftovers.remove_data()
        paths.KUBECONFIG.unlink(missing_ok=True)
        if paths.STATE.is_dir() and not any(paths.STATE.iterdir()):
            paths.STATE.rmdir()
        lock.remove()
    progress(f"nothing of the cluster is left but its binaries and images in {paths.cache()}")


@contextmanager
def without_kubelet(name: str) -> Iterator[None]:
    """Stop the node's kubelet during the block, for tests of lost nodes. Its containers keep running. Returns once the node is Ready
    again. If the process is killed meanwhile, the next `up` starts the kubelet."""
    plane = control_plane()
    node = next(node for node in layout.NODES if node.name == name)
    _kubelet(node, plane).stop()
    try:
        yield
    finally:
        with lock.held():
            _start([_kubelet(node, plane)])
            _wait_until_ready(node, plane)


def status() -> bool:
    """Print a line per component and node, and return whether all are healthy."""
    preflight.check_user()
    if not paths.RUN.exists():
        print("no cluster here; `python -m localcluster up` (make cluster-up) brings one up")
        return False
    plane = control_plane()
    rows, good = [], True
    for daemon in _daemons(plane):
        pid = daemon.pid()
        good = good and pid is not None
        rows.append((daemon.name, f"running, pid {pid}" if pid else f"not running; {daemon.last_words()}"))
    for node in layout.NODES:
        state = _node_state(node, plane.api())
        good = good and state == "Ready"
        rows.append((f"node {node.name}", f"{state}, {node.instance_type}"))
    kubeconfig_there = paths.KUBECONFIG.exists()
    rows.append(("kubeconfig", str(paths.KUBECONFIG) if kubeconfig_there else "not in this checkout; `up` writes it"))
    for name, state in rows:
        print(f"{name:<26}{state}")
    return good and kubeconfig_there


def _daemons(plane: ControlPlane) -> list[Daemon]:
    """Return all daemons of the cluster in starting order."""
    runtimes = [nodes.containerd(node) for node in layout.NODES]
    return [*runtimes, *plane.daemons(), *(_kubelet(node, plane) for node in layout.NODES), _proxy(plane)]


def _start(daemons: list[Daemon]) -> None:
    started = [daemon.name for daemon in daemons if daemon.start()]
    if started:
        progress(f"started {', '.join(started)}")


def _kubelet(node: Node, plane: ControlPlane) -> Daemon:
    return nodes.kubelet(node, plane.user_kubeconfig(f"system:node:{node.name}"), plane.ca)


def _proxy(plane: ControlPlane) -> Daemon:
    return proxy.daemon(plane.user_kubeconfig(_PROXY_USER))


def _node_state(node: Node, api: Api, *, since: float = 0) -> str:
    """Return "Ready", "NotReady" with its reason, or what is in the way. Ignores conditions older than `since` (Unix time)."""
    try:
        found: dict[str, Any] = api.get(f"/api/v1/nodes/{node.name}")
    except OSError as error:
        return f"unknown ({error})"
    for condition in found.get("status", {}).get("conditions", []):
        if condition["type"] == "Ready":
            spoken = datetime.datetime.fromisoformat(condition["lastHeartbeatTime"]).timestamp()
            if condition["status"] == "True":
                return "Ready" if spoken >= since else "not heard of since its start"
            return f"NotReady ({condition.get('message') or condition.get('reason')})"
    return "registered, not Ready yet"


def _wait_until_ready(node: Node, plane: ControlPlane) -> None:
    daemons = [nodes.containerd(node), _kubelet(node, plane)]
    # Heartbeats have whole seconds. A condition from before the kubelet's last start may come from a dead kubelet.
    since = int(daemons[-1].started_at())
    last = ""

    def ready() -> bool:
        nonlocal last
        for daemon in daemons:
            daemon.check_alive()
        last = _node_state(node, plane.api(), since=since)
        return last == "Ready"

    if not wait.until(ready, seconds=_NODE_SECONDS, every=0.2, saying=f"{node.name} to be Ready"):
        raise CannotContinue(
            f"{node.name} is not Ready after {_NODE_SECONDS} s but {last}; of kubelet-{node.name} {daemons[-1].last_words()}"
        )


def _wait_for_service_account(api: Api) -> None:
    """Wait for the controller-manager to create the namespace's service account, without which no pods can be created."""

    def there() -> bool:
        try:
            api.get("/api/v1/namespaces/default/serviceaccounts/default")
        except OSError:
            return False
        return True

    if not wait.until(there, seconds=60, every=0.2, saying="the default service account"):
        raise CannotContinue(f"kube-controller-manager made no service account in 60 s; see {paths.RUN}/logs/kube-controller-manager.log.")
