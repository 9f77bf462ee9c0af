"""Which modules of a source are outside the flow folder."""

import time

import pytest

from flowsession.flow import outside
from flowsession.model.resolved import Resolved
from flowsession_protocol.limits import OUTSIDE_MODULES
from unit import builders


@pytest.mark.parametrize(
    ("source", "folder", "flow", "found"),
    [
        (["app/main.py", "rag/search.py"], "app", ["main.py"], {"rag": "../rag", "search": "../rag/search.py"}),
        (["app/main.py", "helper.py"], "app", ["main.py"], {"helper": "../helper.py"}),
        (["a/b/main.py", "a/lib/x.py", "lib/y.py"], "a/b", ["main.py"], {"lib": "../../lib", "x": "../lib/x.py", "y": "../../lib/y.py"}),
        (["app/main.py", "rag/search.py"], "app", ["main.py", "rag/search.py"], {"search": "../rag/search.py"}),
        (["app/main.py", "rag/data.txt"], "app", ["main.py"], {}),
        (["app/main.py", "my-rag/x.py"], "app", ["main.py"], {"x": "../my-rag/x.py"}),
        (["app/main.py", "app/sub/x.py"], "app", ["main.py", "sub/x.py"], {}),
        (["app/main.py", "rag/__init__.py"], "app", ["main.py"], {"rag": "../rag"}),
        (["main.py", "rag/x.py"], ".", ["main.py", "rag/x.py"], {}),
    ],
)
def test_modules_are_found_by_their_names(source, folder, flow, found):
    assert outside.modules(dict.fromkeys(source, b""), folder, dict.fromkeys(flow, b"")) == found


def test_a_session_is_told_of_them():
    files = {"app-main.py": b"", "flow": b"entry: main:f\n", "find": b""}
    items = {"app-main.py": "app/main.py", "flow": "app/flow.flex.yaml", "find": "rag/find.py"}
    found = builders.from_folder(files, flowPath="app", configMap={"items": [{"key": key, "path": path} for key, path in items.items()]})
    assert isinstance(found, Resolved), found
    assert found.wire["outsideModules"] == {"rag": "../rag", "find": "../rag/find.py"}
    assert "outsideModules" not in builders.resolved().wire


def test_a_large_source_takes_no_time():
    source = {f"{a}/{b}/{c}/d/e/f/m{d}.py": b"" for a in range(10) for b in range(10) for c in range(10) for d in range(20)}
    before = time.process_time()
    assert len(outside.modules(source, "app", {})) <= OUTSIDE_MODULES
    assert time.process_time() - before < 1
