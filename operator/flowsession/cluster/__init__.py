"""All calls to the outside: gateway to the API server, client of the agents, typed errors. kubernetes.aio is imported here alone."""
