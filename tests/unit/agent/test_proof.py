"""The message about a layer with which prompt flow can't be imported: the first exception, whose fault it is, and the way out."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flowsession_agent.install.proof import Broken, prove
from flowsession_agent.install.requirement_lines import Line
from flowsession_agent.install.venvs import Layer
from flowsession_agent.scripts import SMOKE
from flowsession_agent.session.job import Outcome

LAYER = cast(Layer, SimpleNamespace(python="python", path="/layer"))


def package(name: str, version: str, *required_by: str, replaces: str = "", layer: str = "dependency") -> dict[str, Any]:
    return {"name": name, "version": version, "layer": layer, "requiredBy": [*required_by], "replaces": replaces}


PROMPTFLOW = package("promptflow-core", "1.18.5", layer="image")


def outcome(stdout: Any, exit_code: int = 0) -> Outcome:
    return Outcome(
        exit_code=exit_code, signal_number=0, timed_out=False, stopped=False, stdout=json.dumps(stdout), stderr="Exception: wrapper"
    )


def message(requirements: str, said: Any, *packages: dict[str, Any]) -> str:
    outcomes = iter([outcome({"packages": [PROMPTFLOW, *packages], "problems": [], "shadowed": ["openai"]}), outcome(said, 1)])
    lines = [Line(file="requirements.txt", number=number, text=text) for number, text in enumerate(requirements.splitlines(), 1)]
    with pytest.raises(Broken) as caught:
        prove(LAYER, lines, run=lambda _: next(outcomes))
    assert caught.value.failure.code == "Broken"
    return caught.value.failure.message


SAID = {"error": "ImportError: cannot import name 'APIConnectionError' from 'openai'", "culprit": "openai"}
TOLD = "Installed, but prompt flow can't be imported any more: ImportError: cannot import name 'APIConnectionError' from 'openai'. "


def test_the_line_that_names_it() -> None:
    assert message("six\nopenai==0.28.1", SAID, package("openai", "0.28.1", replaces="3.54.0")) == (
        TOLD + "The cause is openai 0.28.1, asked for by 'openai==0.28.1' (line 2 of requirements.txt); the image has 3.54.0:"
        " leave out the version, or allow that one."
    )


def test_the_line_that_brings_it() -> None:
    packages = (package("openai", "0.28.1", "chain-core", replaces="3.54.0"), package("chain_core", "1", "Chain"), package("Chain", "1"))
    assert "The cause is openai 0.28.1, which 'chain==1' (line 1 of requirements.txt) brings; the image has" in message(
        "chain==1", SAID, *packages
    )


def test_what_the_image_lacks_and_no_line_asks_for() -> None:
    assert message("-r more.txt", SAID, package("openai", "1.0")).endswith(
        "The cause is openai 1.0; the image lacks it: leave it out, or take another version."
    )


def test_without_a_culprit() -> None:
    assert message("a==1", {**SAID, "culprit": ""}).startswith(TOLD + "Leave out, or give other versions of,")
    assert message("a==1", ["what"]).startswith("Installed, but prompt flow can't be imported any more: Exception: wrapper. ")


WRAPPER = """
try:
    try:
        {}
    except ImportError:
        raise KeyError("again")
except Exception as error:
    raise Exception("If you are upgrading from <1.8.0") from error
"""
CULPRITS = {
    "a name that is gone": ("", "ImportError: cannot import name 'gone' from 'zq_bad'", "from zq_bad import gone"),
    "a module that is gone": ("", "ModuleNotFoundError: No module named 'zq_bad.gone'", "import zq_bad.gone"),
    "raised in it": ("raise TypeError('no')", "TypeError: no", "import zq_bad"),
    "nobody's": ("", "ValueError: mine", "raise ValueError('mine')"),
}


@pytest.mark.parametrize("case", CULPRITS)
def test_the_first_exception_and_whose_it_is(tmp_path: Path, case: str) -> None:
    content, error, statement = CULPRITS[case]
    site = tmp_path / "layer" / "site"
    info = site / "Bad_One-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Bad.One\nVersion: 1.0\n")
    (info / "RECORD").write_text("zq_bad/__init__.py,,\n")
    (site / "zq_bad").mkdir()
    (site / "zq_bad/__init__.py").write_text(content)
    (tmp_path / "zq_wrapper.py").write_text(WRAPPER.format(statement))
    program = f"import sys; sys.path[:0] = [{str(site)!r}, {str(tmp_path)!r}]\n{SMOKE}"
    ran = subprocess.run(
        [sys.executable, "-I", "-c", program, "zq_wrapper", f"{site.parent}/"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, "upgrading" in ran.stderr) == (1, True)
    assert json.loads(ran.stdout) == {"error": error, "culprit": "" if case == "nobody's" else "Bad.One"}
