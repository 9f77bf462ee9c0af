"""The words of `flowsession.dev/v1alpha1`: one pydantic model per kind, and what `crds/` is generated from."""

GROUP = "flowsession.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
