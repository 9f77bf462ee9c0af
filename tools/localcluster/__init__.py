"""A real Kubernetes on one Linux machine without Docker: control plane, two kubelets with containerd, kube-proxy.

Standard library only: it runs before anything else of the project is installed.
"""
