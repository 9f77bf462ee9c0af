"""A node: a containerd and a kubelet with their own folders, ports, CNI network and cgroup."""

import json
import os
from pathlib import Path

from localcluster import files, layout, paths, pause
from localcluster.binaries import CONTAINERD, KUBERNETES
from localcluster.daemons import Daemon
from localcluster.layout import Node

# Registries are reached the way this machine reaches them. No other component connects to the outside.
_REGISTRY_SETTINGS = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")


def folder(node: Node) -> Path:
    """Return the folder with all of the node's data."""
    return paths.RUN / node.name


def socket(node: Node) -> Path:
    """Return the path of its containerd's socket."""
    return folder(node) / "containerd.sock"


def containerd(node: Node) -> Daemon:
    """Return the node's container runtime, configured. Its name in messages is containerd-NODE."""
    cni = folder(node) / "cni"
    files.write(cni / "10-flowsession.conflist", json.dumps(_cni_network(node), indent=1))
    configuration = folder(node) / "containerd.toml"
    files.write(configuration, _containerd_toml(node, cni))
    environment = {name: os.environ[name] for name in _REGISTRY_SETTINGS if os.environ.get(name)}
    argv: list[str | Path] = [CONTAINERD.binary("containerd"), "--config", configuration]
    return Daemon(f"containerd-{node.name}", argv, folder=paths.RUN, configuration=[configuration], environment=environment)


def kubelet(node: Node, kubeconfig: Path, client_ca: Path) -> Daemon:
    """Return the node's kubelet, configured. Its name in messages is kubelet-NODE."""
    configuration = folder(node) / "kubelet.json"
    files.write(configuration, json.dumps(_kubelet_configuration(node, client_ca), indent=1))
    argv: list[str | Path] = [
        KUBERNETES.binary("kubelet"),
        f"--config={configuration}",
        f"--kubeconfig={kubeconfig}",
        f"--root-dir={folder(node)}/kubelet",
        f"--cert-dir={folder(node)}/kubelet-pki",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
        f"--node-labels=node.kubernetes.io/instance-type={node.instance_type},agentpool={node.pool}",
    ]
    ports = [(node.address, layout.KUBELET_PORT), (node.address, layout.KUBELET_HEALTH_PORT)]
    return Daemon(f"kubelet-{node.name}", argv, folder=paths.RUN, configuration=[configuration], ports=ports)


def _cni_network(node: Node) -> dict[str, object]:
    """Return the CNI configuration: ptp, which routes all pod traffic, so Service addresses and policies need no bridge netfilter."""
    plugin = {
        "type": "ptp",
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": node.pod_range}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(folder(node) / "cni-addresses"),
        },
    }
    return {"cniVersion": "1.0.0", "name": node.network, "plugins": [plugin]}


def _containerd_toml(node: Node, cni: Path) -> str:
    root = folder(node)
    # restrict_oom_score_adj: a machine without CAP_SYS_RESOURCE (a VM's or container's root) may not lower the score. socket_dir and Root:
    # the defaults are in /run/containerd, which belongs to the machine's own containerd if it has one.
    return f"""\
version = 3
root = "{root}/containerd"
state = "{root}/state"
disabled_plugins = ["io.containerd.nri.v1.nri"]
imports = []

[grpc]
address = "{socket(node)}"

[plugins."io.containerd.internal.v1.opt"]
path = "{root}/opt"

[plugins."io.containerd.shim.v1.manager"]
socket_dir = "{paths.RUN}/s"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause.reference()}"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{paths.CNI_PLUGINS}"]
conf_dir = "{cni}"
use_internal_loopback = true

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
Root = "{root}/runc"
SystemdCgroup = false
"""


def _kubelet_configuration(node: Node, client_ca: Path) -> dict[str, object]:
    resolver = resolver_file()
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "port": layout.KUBELET_PORT,
        "healthzBindAddress": node.address,
        "healthzPort": layout.KUBELET_HEALTH_PORT,
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": {"clientCAFile": str(client_ca)}},
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{socket(node)}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        # Root without CAP_SYS_RESOURCE may not write some of /proc. With this the kubelet continues without.
        "featureGates": {"KubeletInUserNamespace": True},
        "podLogsDir": str(folder(node) / "pod-logs"),
        "volumePluginDir": str(folder(node) / "volume-plugins"),
        # No cluster DNS: pods use the machine's resolvers. Without a cluster domain a name is looked up once, not five times.
        "clusterDNS": nameservers(resolver.read_text()),
        "clusterDomain": "",
        "resolvConf": str(resolver),
        "maxPods": 110,
        "podPidsLimit": 4096,
        "makeIPTablesUtilChains": False,
        "serializeImagePulls": False,
        # The tool manages the images, and a full disk is the developer's concern, not a reason to evict.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%"},
    }


def resolver_file() -> Path:
    """Return the file that names resolvers which pods can use too. systemd-resolved's own address only serves the machine."""
    upstream = Path("/run/systemd/resolve/resolv.conf")
    main = Path("/etc/resolv.conf")
    servers = nameservers(main.read_text()) if main.exists() else []
    return upstream if upstream.exists() and all(server.startswith("127.") for server in servers) else main


def nameservers(resolv_conf: str) -> list[str]:
    """Return the addresses after `nameserver`, three at most as in resolv.conf(5)."""
    lines = (line.split() for line in resolv_conf.splitlines())
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"][:3]
