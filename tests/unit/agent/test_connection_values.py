"""Whatever a connection's Secret holds, no message about the connection contains one of its values."""

import json
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from flowsession_agent.check import connections
from flowsession_agent.connections import refusals
from flowsession_protocol.connection_kinds import KINDS

SECRET = "qX7Zsekret"
"""Part of every value, and of none of our messages."""

FIELDS = sorted(
    {field for kind in KINDS.values() for field in kind.fields} | {"apikey", "api-key", "base", "key", "configs.a", "secrets.b", "name"}
)
TYPES = [*KINDS, "OpenAIConnection", "open_ia", SECRET, ""]


FOUND: set[str] = set()


@st.composite
def values(draw: st.DrawFn) -> str:
    """Draw a value as people write them: with quotes, colons and line ends that are missing or superfluous."""
    around = st.text(alphabet="ab :#{}[]'\"\n\t\\-<>*&!|%@é", max_size=6)
    return f"{draw(around)}{SECRET}{draw(around)}"


@st.composite
def secrets(draw: st.DrawFn) -> dict[str, str]:
    """Draw the keys of a Secret: one per field, or a connection.yaml that may be broken."""
    fields: dict[str, object] = dict(draw(st.lists(st.tuples(st.sampled_from(FIELDS), values()), max_size=6)))
    kind = draw(st.sampled_from(TYPES))
    if draw(st.booleans()):
        return {"type": kind, **{name: str(value) for name, value in fields.items()}}
    if draw(st.booleans()):
        fields["secrets"] = draw(st.one_of(values(), st.dictionaries(values(), values(), max_size=2), st.lists(values(), max_size=2)))
    text = (
        json.dumps({"type": kind, **fields})
        if draw(st.booleans())
        else "".join(f"{n}: {v}\n" for n, v in [("type", kind), *fields.items()])
    )
    return {"connection.yaml": text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text}


@example({"type": "custom", "api-key": SECRET, "secrets": SECRET})
@given(secrets())
def test_no_value_is_said(keys: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "secret")
        path.mkdir()
        for name, content in keys.items():
            (path / name).write_text(content)
        listed = json.dumps([{"name": "mine", "secret": "the-secret", "path": str(path)}])
        environ = {"FLOWSESSION_CONNECTIONS": listed, "PF_HOME_DIRECTORY": folder, "HOME": folder, "AZURE_CLIENT_SECRET": "other"}
        code, said = connections.known(environ).trouble("mine") or ("", "")
        FOUND.add(code)
        assert SECRET[:6] not in said + refusals.advice("Error code: 401 - no", str(path), environ)


def test_the_examples_show_something() -> None:
    """Runs after the test above. Secrets that are all valid, or all invalid, would prove nothing."""
    assert {"", "ConnectionField", "ConnectionType", "ConnectionInvalid"} <= FOUND
