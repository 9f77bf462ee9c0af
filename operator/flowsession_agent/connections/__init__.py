"""Brings connections from the Secrets that the kubelet mounts to where prompt flow looks for them."""
