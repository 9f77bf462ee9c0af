"""The settings of a run: its spec's own fields override those of its run.yml."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from flowsession.api.run import FlowRunSpec
from flowsession.flow import run_yaml
from flowsession.flow.run_yaml import RunYaml, RunYamlError


def of(own: Mapping[str, Any], spec: FlowRunSpec) -> tuple[FlowRunSpec, RunYaml]:
    """Return the run's settings and the rest of its run.yml. `own`: the fields that the spec itself sets. Raises RunYamlError."""
    if spec.run_yaml is None:
        return spec, RunYaml()
    return _over(own, run_yaml.read(spec.run_yaml, spec.path or ""))


def _over(own: Mapping[str, Any], yaml: RunYaml) -> tuple[FlowRunSpec, RunYaml]:
    """Return run.yml's settings overridden by the spec's own fields, and the rest of run.yml. Raises RunYamlError."""
    if yaml.managed is not None and "identity" not in own:
        client = f", clientID: {yaml.managed}" if yaml.managed else ""
        message = f"whether you may use one is checked in the spec alone: add identity: {{type: Managed{client}}} to it"
        raise RunYamlError(f"run.yml: identity: it asks for a managed identity, and {message}")
    try:
        spec = FlowRunSpec.model_validate({**yaml.settings, **own})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        known = {one.alias: one.description for one in FlowRunSpec.model_fields.values()}
        wanted = (known.get(str(first["loc"][0])) or first["msg"]).partition(". ")[0]
        raise RunYamlError(f"run.yml: {str(first['input'])[:80]!r} is no {place}: {wanted}") from None
    if spec.data is None and spec.run is None:
        raise RunYamlError("run.yml names neither data nor run, so that there are no lines to run: add one of them")
    if spec.resources and spec.resources.compute and spec.resources.instance_type:
        raise RunYamlError("run.yml: resources: compute is an instance with a size of its own: leave instance_type out")
    environment_file = "" if "environmentVariables" in own else yaml.environment_file
    return spec, replace(yaml, environment_file=environment_file, init_file="" if "init" in own else yaml.init_file)
