"""All outgoing calls: gateway to the API server, clients of agents and registries, typed errors. kubernetes.aio is imported only here."""
