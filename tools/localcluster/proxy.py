"""kube-proxy: one serves the whole machine, because both nodes are in its network namespace."""

import json
from pathlib import Path

from localcluster import files, layout, paths
from localcluster.binaries import KUBERNETES
from localcluster.daemons import Daemon


def daemon(kubeconfig: Path) -> Daemon:
    """Return kube-proxy in nftables mode, configured."""
    configuration = paths.RUN / "kube-proxy.json"
    files.write(configuration, json.dumps(_configuration(kubeconfig), indent=1))
    ports = [(layout.API_ADDRESS, layout.PROXY_HEALTH_PORT), (layout.API_ADDRESS, layout.PROXY_METRICS_PORT)]
    argv: list[str | Path] = [KUBERNETES.binary("kube-proxy"), f"--config={configuration}"]
    return Daemon("kube-proxy", argv, folder=paths.RUN, configuration=[configuration], ports=ports)


def _configuration(kubeconfig: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": layout.NODES[0].name,
        "clusterCIDR": layout.POD_RANGE,
        "detectLocalMode": "ClusterCIDR",
        "healthzBindAddress": f"{layout.API_ADDRESS}:{layout.PROXY_HEALTH_PORT}",
        "metricsBindAddress": f"{layout.API_ADDRESS}:{layout.PROXY_METRICS_PORT}",
        # The connection tracking limits are the machine's. Zero leaves them unchanged.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "oomScoreAdj": 0,
    }
