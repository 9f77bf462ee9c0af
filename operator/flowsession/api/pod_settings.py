"""A user's settings for a session's pod: environment variables, labels and annotations."""

from pydantic import ConfigDict, Field

from flowsession.api.base import Model, ObjectName, rule, validations

CODE_LOADING_PREFIXES = ("LD_", "PYTHON", "GCONV_", "GLIBC_", "OPENSSL_", "SSL_CERT_")
"""Prefixes of variables that decide which code every program of the session runs, or which certificates it trusts."""

TAKES_OVER_TOO = ("BASH_ENV", "PATH")

BREAKS = ("HOME", "PATH", "TMPDIR", "VIRTUAL_ENV")
"""Variables that the session sets itself: other values would change where packages are installed or found."""

HARMLESS = (
    *("PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONDONTWRITEBYTECODE", "PYTHONFAULTHANDLER", "PYTHONHASHSEED", "PYTHONIOENCODING"),
    *("PYTHONNOUSERSITE", "PYTHONOPTIMIZE", "PYTHONTRACEMALLOC", "PYTHONUNBUFFERED", "PYTHONUTF8", "PYTHONWARNINGS"),
)
"""Python's variables that flows may set."""


def controls_loading(name: str) -> bool:
    """Return whether this variable decides which code the session's own programs run, or which certificates they trust."""
    return name in TAKES_OVER_TOO or (name.startswith(CODE_LOADING_PREFIXES) and name not in HARMLESS)


class KeyRef(Model):
    """A key of a Secret or ConfigMap in the same namespace."""

    name: ObjectName = Field(description="Name of the object.")
    key: str = Field(min_length=1, max_length=253, description="Its key.")
    optional: bool | None = Field(default=None, description="Whether the session may start without it.")


class EnvVarSource(Model):
    """Where a variable's value comes from."""

    secret_key_ref: KeyRef | None = Field(default=None, description="A key of a Secret.")
    config_map_key_ref: KeyRef | None = Field(default=None, description="A key of a ConfigMap.")


class EnvVar(Model):
    """One environment variable of the session's container."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule(
                "!self.name.startsWith('FLOWSESSION_')",
                "names that begin with FLOWSESSION_ are the session's own; choose another name",
            ),
            rule(
                f"!(self.name in {list(BREAKS)})",
                f"{', '.join(BREAKS)} are set by the session itself, and another value breaks its installs: give your programs what they"
                " need under another name, or in the image",
            ),
            rule(
                f"!self.name.startsWith('LD_') && (!self.name.startsWith('PYTHON') || self.name in {list(HARMLESS)})",
                "variables LD_* and PYTHON* decide what code every program of the session loads, its agent and installer too: set them in"
                f" the image, or in the flow; of Python's these are taken: {', '.join(HARMLESS)}",
            ),
            rule("!(has(self.value) && has(self.valueFrom))", "a variable has a value or a valueFrom, not both"),
        )
    )

    name: str = Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$", description="Name of the variable.")
    value: str | None = Field(default=None, max_length=32768, description="Its value.")
    value_from: EnvVarSource | None = Field(default=None, description="Where its value comes from.")


class PodMetadata(Model):
    """Labels and annotations for the session's pod, in addition to the operator's."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule(
                "(!has(self.labels) || self.labels.all(k, !k.contains('flowsession.dev/') && k != 'app.kubernetes.io/managed-by'"
                " && !k.startsWith('azure.workload.identity/')))"
                " && (!has(self.annotations) || self.annotations.all(k, !k.contains('flowsession.dev/')))",
                "keys of flowsession.dev/, app.kubernetes.io/managed-by and labels of azure.workload.identity/ are the operator's own",
            )
        )
    )

    labels: dict[str, str] | None = Field(default=None, max_length=64, description="Labels for the pod.")
    annotations: dict[str, str] | None = Field(default=None, max_length=64, description="Annotations for the pod.")
