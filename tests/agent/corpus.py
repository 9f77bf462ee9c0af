"""Generate requirements like those of public flow folders, from the packages that these use, and check each set on the image.

`python -m agent.corpus` (`make test-corpus`) plans, installs and imports all sets, and prints the results.
"""

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import support
from .support import Agent, Operator

CHECKOUT = Path(__file__).parents[2]
RUNTIME = CHECKOUT / "images" / "runtime"
SEED, COUNT = 2027, 120
REFUSALS = ("ConflictingRequirements", "NoMatchingDistribution", "BuildFailed", "Broken")

# The ways in which a package is written, the most frequent one first, as in the folders of public repositories.
PACKAGES: dict[str, tuple[tuple[str, ...], ...]] = {
    "prompt flow": (
        ("promptflow",),
        ("promptflow[azure]",),
        ("promptflow-tools",),
        ("promptflow-azure",),
        ("promptflow-evals",),
        ("promptflow-rag",),
        ("keyrings.alt",),
    ),
    "models": (
        ("openai", "openai>=1.30", "openai==1.55.3"),
        ("tiktoken", "tiktoken==0.7.0"),
        ("langchain", "langchain<0.3", "langchain>=0.3,<0.4"),
        ("langchain-core",),
        ("langchain-openai",),
        ("langchain-community",),
        ("langchain-text-splitters",),
        ("llama-index-core",),
        ("semantic-kernel",),
        ("anthropic",),
        ("tenacity", "tenacity==8.5.0"),
        ("faiss-cpu",),
    ),
    "azure": (
        ("azure-identity", "azure-identity==1.16.0"),
        ("azure-core", "azure-core>=1.30", "azure-core==1.30.2"),
        ("azure-search-documents", "azure-search-documents==11.4.0"),
        ("azure-storage-blob", "azure-storage-blob==12.19.1"),
        ("azure-keyvault-secrets",),
        ("azure-cosmos",),
        ("azure-ai-ml",),
        ("azure-ai-formrecognizer",),
        ("azure-ai-documentintelligence",),
        ("azure-ai-contentsafety",),
        ("azure-ai-textanalytics",),
        ("azure-ai-inference",),
        ("azure-ai-projects",),
        ("azure-data-tables",),
        ("azure-servicebus",),
        ("azure-functions",),
        ("azure-mgmt-resource",),
        ("azure-common",),
        ("azure-monitor-opentelemetry", "azure-monitor-opentelemetry==1.6.4"),
        ("azure-monitor-opentelemetry-exporter",),
        ("azure-core-tracing-opentelemetry",),
        ("opencensus-ext-azure",),
        ("msrestazure",),
    ),
    "data": (
        ("pandas", "pandas==2.2.2"),
        ("numpy", "numpy<2"),
        ("openpyxl",),
        ("scikit-learn",),
        ("nltk",),
        ("matplotlib",),
        ("SQLAlchemy", "SQLAlchemy<2"),
        ("pyodbc",),
        ("psycopg2-binary",),
        ("redis",),
        ("pymongo",),
        ("pillow", "pillow==11.0.0"),
    ),
    "texts": (
        ("beautifulsoup4",),
        ("bs4",),
        ("lxml",),
        ("jinja2", "Jinja2==3.1.4"),
        ("markdown",),
        ("pypdf",),
        ("python-docx",),
        ("PyYAML", "pyyaml==6.0.1"),
        ("rapidfuzz",),
        ("html2text",),
        ("tabulate",),
        ("ruamel.yaml",),
        ("PyPDF2",),
    ),
    "web": (
        ("requests", "requests==2.31.0"),
        ("aiohttp",),
        ("httpx", "httpx<0.28"),
        ("flask", "flask<3"),
        ("fastapi",),
        ("pydantic", "pydantic>=2", "pydantic==2.9.2"),
        ("python-dotenv", "python-dotenv==1.0.1"),
        ("marshmallow<4",),
    ),
    "shared folders": (
        ("protobuf", "protobuf<6", "protobuf==4.25.5", "protobuf==3.20.3"),
        ("googleapis-common-protos",),
        ("google-api-python-client",),
        ("google-cloud-storage",),
        ("grpcio",),
        ("opentelemetry-api",),
        ("opentelemetry-sdk", "opentelemetry-sdk==1.27.0"),
        ("opentelemetry-exporter-otlp",),
        ("opentelemetry-instrumentation-openai",),
        ("opentelemetry-instrumentation-requests",),
        ("jaraco.text",),
        ("backports.zstd",),
        ("zope.interface",),
    ),
}
OFTEN = ("models", "azure", "azure", "data", "texts", "web", "shared folders", "prompt flow")


def requirements(count: int = COUNT, seed: int = SEED) -> list[str]:
    """Return `count` distinct files of two to eight lines, always the same ones for a seed."""
    chance = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        lines: dict[str, str] = {}
        for _ in range(chance.randint(2, 8)):
            ways = chance.choice(PACKAGES[chance.choice(OFTEN)])
            lines[ways[0]] = ways[0] if chance.random() < 0.6 else chance.choice(ways)
        found["".join(f"{line}\n" for line in lines.values())] = None
    return list(found)


def image() -> str:
    """Return the Python of a venv with the packages that images/runtime installs."""
    files = [RUNTIME / "requirements.txt", RUNTIME / "constraints.txt"]
    lines = [line for file in files for line in file.read_text().splitlines() if line and not line.startswith("#")]
    python = support.base("image", *lines)
    compiled = Path(python).parents[1] / "compiled"
    if not compiled.exists():  # as in the image: otherwise the first import would take most of a set's time
        subprocess.run([python, "-m", "compileall", "-qq", str(compiled.parent / "lib")], check=False)
        compiled.touch()
    return python


# Runs in the session's Python. Finds every module of the image's distributions as `import` would, without importing it.
FIND = r"""
import importlib.metadata, importlib.util, json, os, pkgutil, re, sys
from importlib.machinery import all_suffixes
layer, image = sys.argv[1:]
normalise = lambda name: re.sub(r"[-_.]+", "-", name).lower()
installed = {}
for distribution in importlib.metadata.distributions(path=[image]):
    installed[normalise(distribution.metadata["Name"])] = distribution
replaced = {normalise(one.metadata["Name"]) for one in importlib.metadata.distributions(path=[layer])} if layer else set()
from_image = os.path.join(layer, "../../../from-image.json")
if layer and os.path.exists(from_image):
    with open(from_image) as file:
        replaced -= {normalise(name) for name in json.load(file)}
suffixes = sorted(all_suffixes(), key=len, reverse=True)
modules = {}
for name, distribution in installed.items():
    if name in replaced:
        continue
    for file in distribution.files or ():
        suffix = next((suffix for suffix in suffixes if str(file).endswith(suffix)), None)
        parts = str(file)[: -len(suffix)].split("/") if suffix else []
        parts = parts[:-1] if parts[-1:] == ["__init__"] else parts
        if parts and all(part.isidentifier() for part in parts) and parts[-1] != "__main__" and "__pycache__" not in parts:
            modules[".".join(parts)] = name

known = {"": list(sys.path)}
def places(package):
    if package not in known:
        found = find(package)
        known[package] = found[1] if found else []
    return known[package]

def find(module):
    package, _, name = module.rpartition(".")
    portions = []
    for place in places(package):
        finder = pkgutil.get_importer(place)
        spec = finder.find_spec(module) if finder else None
        if spec is None:
            continue
        if spec.loader is None:
            portions += spec.submodule_search_locations
            continue
        inner = list(spec.submodule_search_locations or ())
        if inner and spec.origin.endswith("__init__.py") and b"extend_path" in open(spec.origin, "rb").read(4096):
            for other in places(package):
                beside = pkgutil.get_importer(other).find_spec(module) if pkgutil.get_importer(other) else None
                inner += [each for each in (beside and beside.submodule_search_locations) or () if each not in inner]
        return spec.origin, inner
    return ("", portions) if portions else None

result = {}
for module in modules:
    found = find(module)
    result[module] = found[0] if found else None
json.dump(result, sys.stdout)
"""
# Imports the given modules, all in one process. If a module ends the process, nothing is printed.
IMPORT = r"""
import importlib, io, json, os, sys, contextlib, warnings
warnings.simplefilter("ignore")
failed = {}
for module in json.load(sys.stdin):
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module(module)
    except BaseException as error:
        failed[module] = f"{type(error).__name__}: {error}"[:300]
json.dump(failed, sys.stdout)
sys.stdout.flush()
os._exit(0)
"""
ALWAYS = ("promptflow.client", "promptflow.tools", "promptflow.executor", "azure.monitor.opentelemetry.exporter")


@dataclass
class Verdict:
    """The result of one set: how the install ended, and which modules of the image can no longer be found or imported."""

    text: str
    state: str
    code: str
    said: str
    seconds: float
    changed: int = 0
    found: int = 0
    imported: int = 0
    brought: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()

    @property
    def well(self) -> bool:
        """Return whether it was installed and left all of the image working, or was refused for a reason in the requirements."""
        return self.code in REFUSALS if self.state != "Succeeded" else not self.lost and not self.broken


class Corpus:
    """An agent on the image that installs all sets, one after another."""

    def __init__(self, agent: Agent, python: str) -> None:
        self._agent = agent
        self._python = python
        self._site = run(python, "import site; print(site.getsitepackages()[0])").strip()
        self._before = {module for module, file in self._find(python).items() if file is not None}
        self._broken_before: dict[str, str] = {}
        self._tried_before: set[str] = set()

    def check(self, number: int, text: str) -> Verdict:
        install = self._agent.install(f"set-{number}", text)
        verdict = Verdict(text, install["state"], install["code"], install["message"], install["seconds"], install["changed"])
        python = self._agent.home / "venv" / "bin" / "python"
        if install["state"] != "Succeeded" or not python.exists():
            return verdict
        layer = run(str(python), "import site; print(site.getsitepackages()[0])").strip()
        found = self._find(str(python), layer)
        verdict.found = len(found)
        verdict.lost = tuple(sorted(module for module in found if module in self._before and found[module] is None))
        from_image = Path(layer).parents[2] / "from-image.json"
        verdict.brought = tuple(sorted(json.loads(from_image.read_text()))) if from_image.exists() else ()
        touched = {module for module, file in found.items() if file and file.startswith(layer)}
        touched |= {*ALWAYS} & {*found} if touched else set()
        wanted = sorted(module for module in touched if module in self._before and module not in verdict.lost)
        failed = self._failing(str(python), wanted)
        fails_before = self._fails_before(failed)
        verdict.imported = len(wanted)
        verdict.broken = tuple(f"{module}: {why}" for module, why in sorted(failed.items()) if module not in fails_before)
        return verdict

    def _fails_before(self, modules: dict[str, str]) -> set[str]:
        """Return the modules that the image alone fails to import, of these and of earlier calls."""
        new = sorted(set(modules) - self._tried_before)
        if new:
            self._broken_before |= self._failing(self._python, new)
            self._tried_before |= set(new)
        return set(self._broken_before)

    def _find(self, python: str, layer: str = "") -> dict[str, str | None]:
        found: dict[str, str | None] = json.loads(run(python, FIND, layer, self._site))
        return found

    def _failing(self, python: str, modules: Sequence[str]) -> dict[str, str]:
        failed: dict[str, str] = json.loads(run(python, IMPORT, stdin=json.dumps(list(modules))))
        return failed


def run(python: str, program: str, *arguments: str, stdin: str = "") -> str:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PF_HOME_DIRECTORY": tempfile.gettempdir(), "PF_DISABLE_TRACING": "true"}
    environment["APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL"] = "true"
    command = [python, "-I", "-c", program, *arguments]
    ran = subprocess.run(command, input=stdin, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout


@contextlib.contextmanager
def opened(folder: Path, python: str) -> Iterator[Corpus]:
    agent = support.start(folder, python=python, operator=Operator())
    try:
        yield Corpus(agent, python)
    finally:
        agent.close()


def main() -> int:
    """Check all sets, or the given range, and print a line for each. Return 1 if any is bad."""
    texts = requirements()
    first, last = (int(word) for word in (sys.argv[1:] or ["0", str(len(texts))]))
    verdicts: list[Verdict] = []
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder), image()) as corpus:
        for number, text in list(enumerate(texts))[first:last]:
            started = time.monotonic()
            verdict = corpus.check(number, text)
            verdicts.append(verdict)
            brought = f", brought {', '.join(verdict.brought)}" if verdict.brought else ""
            print(
                f"{number:3} {'ok' if verdict.well else 'BAD':3} {verdict.state} {verdict.code} {verdict.changed} installed"
                f" in {verdict.seconds:.1f} s ({time.monotonic() - started:.0f} s in all), {verdict.found} found,"
                f" {verdict.imported} imported{brought}"
                f" | {' '.join(text.split())}",
                flush=True,
            )
            for what in [*verdict.lost[:5], *verdict.broken[:5], *([verdict.said] if verdict.state != "Succeeded" else [])]:
                print(f"        {what[:400]}", flush=True)
    bad = [verdict for verdict in verdicts if not verdict.well]
    installed = [verdict for verdict in verdicts if verdict.state == "Succeeded"]
    print(
        f"{len(verdicts)} sets: {len(installed)} installed, {len(verdicts) - len(installed)} refused, {len(bad)} bad;"
        f" in {sum(bool(verdict.brought) for verdict in installed)} something of the image was brought along;"
        f" {sum(verdict.found for verdict in installed)} modules found, {sum(verdict.imported for verdict in installed)} imported"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
