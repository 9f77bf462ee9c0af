"""The code in agent.pyz runs on the oldest supported Python: every module can be imported there."""

import subprocess
from pathlib import Path

from agent import support

IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
for name in ("flowsession_protocol", "flowsession_agent"):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        if module.name != "flowsession_agent.__main__":
            importlib.import_module(module.name)
            print(module.name)
"""


def test_every_module_can_be_imported(python: str) -> None:
    operator = Path(support.__file__).parents[2] / "operator"
    done = subprocess.run([python, "-IS", "-c", IMPORT_ALL, str(operator)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert {"flowsession_protocol.messages", "flowsession_protocol.requirements"} <= set(done.stdout.split())
