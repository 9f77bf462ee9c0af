"""Specifications of the operator's pure parts: no cluster, no network, no sleeps."""
