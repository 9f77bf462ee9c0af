"""The machine's part of the cluster network: node addresses, forwarding, masquerading, and the removal of all of it."""

import ipaddress
import json
import shutil
from pathlib import Path

from localcluster import layout, machine
from localcluster.say import CannotContinue
from localcluster.shell import run, succeeds

_TABLE = "flowsession"
# Traffic between pods keeps its source address (NetworkPolicy needs it). Only traffic that leaves the cluster is masqueraded. The API
# server listens on every address, but only this machine and its pods may use it.
_RULES = f"""
table ip {_TABLE} {{}}
delete table ip {_TABLE}
table ip {_TABLE} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {layout.POD_RANGE} ip daddr != {{ {layout.POD_RANGE}, {layout.NODE_RANGE} }} masquerade
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    tcp dport {layout.API_PORT} ip daddr != {{ 127.0.0.0/8, {layout.NODE_RANGE} }} drop
  }}
}}
"""


def check_free() -> None:
    """Raise CannotContinue if the machine already uses one of the cluster's address ranges for something else."""
    ranges = [ipaddress.IPv4Network(text) for text in (layout.POD_RANGE, layout.NODE_RANGE, "10.96.0.0/16")]
    for route in json.loads(run("ip", "-4", "-json", "route", "show", "table", "main")):
        network = _network(route["dst"])
        if route.get("dev") == layout.INTERFACE or _is_pod_route(network):
            continue
        for taken in ranges:
            if network.overlaps(taken) and network.prefixlen > 0:
                raise CannotContinue(
                    f"the cluster's address range {taken} overlaps this machine's route to {route['dst']} by {route.get('dev')};"
                    " disconnect that network (a VPN or another cluster?) and run this again."
                )


def _network(destination: str) -> ipaddress.IPv4Network:
    """Return the network of an `ip route` destination: `default`, an address or a network."""
    return ipaddress.IPv4Network("0.0.0.0/0" if destination == "default" else destination, strict=False)


def _is_pod_route(network: ipaddress.IPv4Network) -> bool:
    """Return whether it is a route of ours, in use or left over: the ptp plugin makes one host route per pod."""
    return network.prefixlen == 32 and network.subnet_of(ipaddress.IPv4Network(layout.POD_RANGE))


def ensure() -> None:
    """Create addresses, forwarding and rules, unless they exist."""
    machine.allow_forwarding()
    if not succeeds("ip", "link", "show", layout.INTERFACE):
        # A bridge without ports, since every kernel that can run containers supports bridges, but not always dummy devices.
        run("ip", "link", "add", layout.INTERFACE, "type", "bridge")
    run("ip", "link", "set", layout.INTERFACE, "up")
    for address in (layout.API_ADDRESS, *(node.address for node in layout.NODES)):
        run("ip", "address", "replace", f"{address}/32", "dev", layout.INTERFACE)
    if not _rules_in_place():
        run("nft", "-f", "-", stdin=_RULES)


def _rules_in_place() -> bool:
    """Return whether our table exists. It is created and deleted in one transaction."""
    return succeeds("nft", "list", "table", "ip", _TABLE)


def remove() -> None:
    """Remove what `ensure`, kube-proxy and the CNI plugins put on the machine. Pods must be gone."""
    if shutil.which("ip") is None or shutil.which("nft") is None:
        return
    for family, table in (("ip", _TABLE), ("ip", "kube-proxy"), ("ip6", "kube-proxy")):
        if succeeds("nft", "list", "table", family, table):
            run("nft", "delete", "table", family, table)
    remove_pod_links()
    if succeeds("ip", "link", "show", layout.INTERFACE):
        run("ip", "link", "delete", layout.INTERFACE)
    for node in layout.NODES:
        for result in Path("/var/lib/cni/results").glob(f"{node.network}-*"):
            result.unlink()


def remove_pod_links() -> None:
    """Delete the host ends of pods' veth pairs that still have a route to a pod address."""
    for route in json.loads(run("ip", "-4", "-json", "route", "show", "table", "main")):
        if _is_pod_route(_network(route["dst"])) and str(route.get("dev", "")).startswith("veth"):
            succeeds("ip", "link", "delete", route["dev"])
