"""The API `flowsession.dev/v1alpha1`: one pydantic model per kind, from which `crds/` is generated."""

GROUP = "flowsession.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
