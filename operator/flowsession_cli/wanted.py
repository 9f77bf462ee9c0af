"""Options of a session as fields of its spec."""

from collections.abc import Mapping
from typing import Any

from flowsession_cli import options
from flowsession_cli.cluster import Object
from flowsession_cli.errors import CliError

ANY_SIZE = "none"
"""Value of `--size` that leaves the choice of a size to the operator again."""


def spec(*, size: str, idle: str, instance: str, identity: str, image: str, variables: tuple[str, ...]) -> Object:
    """Return what the options ask for, as fields of a ComputeSession's spec."""
    if size and instance:
        raise CliError("an instance has a size of its own: give --size or --instance", code=2)
    wanted: Object = {}
    if size:
        wanted["compute"] = {"type": "Serverless", **({} if size == ANY_SIZE else {"vmSize": size})}
    if instance:
        wanted["compute"] = {"type": "Instance", "instanceRef": {"name": instance}}
    if identity:
        wanted["identity"] = {"type": "Managed", "serviceAccountName": identity}
    if image:
        wanted["baseImage"] = image
    if idle:
        wanted["idle"] = idle_of(idle)
    if variables:
        wanted["env"] = [{"name": name, "value": value} for text in variables for name, value in options.pairs("--env", (text,)).items()]
    return wanted


def idle_of(text: str) -> Object:
    """Return `spec.idle` for what was typed: 90s, 30m, 1h30m, 2d or never."""
    if text == "never":
        return {"action": "None"}
    if (seconds := options.seconds(text)) is None:
        raise CliError(f"--idle {text} is no time: write 30m, 1h, 1h30m or never", code=2)
    return {"action": "Delete", "timeoutSeconds": seconds}


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> Object:
    """Return a session's spec with the new values. Other values stay."""
    result = dict(old)
    for key, value in new.items():
        result[key] = _idle(old.get(key) or {}, value) if key == "idle" else value
    if new.get("env"):
        given = {entry["name"] for entry in new["env"]}
        result["env"] = [entry for entry in old.get("env") or () if entry["name"] not in given] + new["env"]
    return result


def _idle(old: Mapping[str, Any], new: Mapping[str, Any]) -> Object:
    """Merge the new `spec.idle` into the old one. A new timeout keeps the action Suspend."""
    suspends = old.get("action") == "Suspend" and new["action"] == "Delete"
    return {**old, **new, **({"action": "Suspend"} if suspends else {})}


def restarts(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Return whether the difference requires a new pod at once."""
    return any(old.get(key) != new.get(key) for key in ("compute", "identity"))
