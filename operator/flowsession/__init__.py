"""The flowsession operator: prompt flow's compute sessions on any Kubernetes cluster."""

__version__ = "0.1.0"
