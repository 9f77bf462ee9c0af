"""Locations of files: the checkout's own state, and the cache that outlives checkouts."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
STATE = CHECKOUT / ".localcluster"
"""The cluster's files in this checkout: the kubeconfig and a link to RUN. Safe to delete when the cluster is down."""

KUBECONFIG = STATE / "kubeconfig"

RUN = Path("/var/lib/flowsession-localcluster")
"""Data of the running cluster. The path is fixed, so that a moved checkout finds the same cluster, and short, since containerd's socket
paths may have 108 bytes at most."""

MODULES = Path(__file__).resolve().parent / "modules"
CNI_PLUGINS = Path("/usr/lib/cni")


def cache(*parts: str) -> Path:
    """Return a folder below the cache, created if needed. FLOWSESSION_CACHE moves the cache elsewhere."""
    root = os.environ.get("FLOWSESSION_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flowsession"
    folder = Path(root, *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
