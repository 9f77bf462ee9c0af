"""Hundreds of nodes in pools: where pods are placed, and how long the scheduler and an autoscaler take."""
