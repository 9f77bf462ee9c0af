"""Hundreds of nodes in pools: who lies where, and how long the scheduler and an autoscaler take."""
