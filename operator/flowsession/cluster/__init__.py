"""All calls to the outside: the gateway to the API server, the client of the agents, and their typed errors. Only here is kubernetes.aio imported."""
