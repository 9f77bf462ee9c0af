"""How long 70 packages take: pip, a session's first install, and later sessions through the package cache. Prints a Markdown table.

`make bench-install`; needs the package index, no cluster; some minutes. Interleaved, every install into new folders, for an image's Python
that has nothing but pip and uv. Read the ratios, and the seconds of processor, which other work on the machine changes least.

Nothing is removed before the end: ext4 avoids inodes that were freed in the last minutes by looking at each of them, which makes what comes
after an `rm -r` of a venv up to five times as slow.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from agent import support
from agent.fakeindex import RunningCache

PYPI = "https://pypi.org/simple"
REQUIREMENTS = """\
numpy
pandas
pydantic
requests
openai
langchain-core
langchain-openai
tiktoken
pyyaml
jinja2
scikit-learn
beautifulsoup4
lxml
aiohttp
sqlalchemy
azure-identity
"""


@dataclass
class Case:
    """One way to install the packages."""

    title: str
    install: Callable[[Path], float]
    """Installs into a folder and returns the CPU seconds."""
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


class Bench:
    """The parts that the ways have in common."""

    def __init__(self, folder: Path) -> None:
        self._operator = support.Operator()
        self._python = support.base("plain")
        self._folder = folder
        self._index = os.environ.get("PIP_INDEX_URL", PYPI)
        self._number = 0
        self.caches: list[RunningCache] = []

    def folder(self) -> Path:
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir()
        return folder

    def pip(self, *options: str) -> Callable[[Path], float]:
        def install(folder: Path) -> float:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            venv, file = folder / "venv", folder / "requirements.txt"
            file.write_text(REQUIREMENTS)
            command = [self._python, "-m", "venv", "--without-pip", "--system-site-packages", str(venv)]
            subprocess.run(command, check=True)
            command = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", *options, "-r", str(file)]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        return install

    def session(self, cache: Callable[[], RunningCache] | None = None) -> Callable[[Path], float]:
        def install(folder: Path) -> float:
            caches = {self._index: cache().of(self._index)} if cache else {}
            agent = support.start(folder, python=self._python, operator=self._operator)
            found = agent.install("p1", REQUIREMENTS, cache=caches)
            processor = _processor(agent.pid)
            agent.close()
            if found["state"] != "Succeeded" or found["warnings"]:
                raise SystemExit(f"{found['message']} {found['warnings']}")
            return processor

        return install

    def new_cache(self) -> RunningCache:
        self.caches.append(RunningCache(self.folder() / "cache", self._index))
        return self.caches[-1]


def _processor(pid: int) -> float:
    """Return the CPU seconds of the process and of the children that it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=3, help="rounds")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-install-"))
    bench = Bench(folder)
    try:
        measure(bench, folder, arguments.n)
    finally:
        for cache in bench.caches:
            cache.close()
        shutil.rmtree(folder, ignore_errors=True)


def measure(bench: Bench, folder: Path, rounds: int) -> None:
    """Measure and print."""
    warm = bench.new_cache()
    for _ in range(2):  # in the second, pages offer the metadata of wheels that the first fetched
        bench.session(lambda: warm)(bench.folder())
    cases = [
        Case("pip, nothing cached", bench.pip("--no-cache-dir")),
        Case("pip, its own cache warm", bench.pip("--cache-dir", str(folder / "pip"))),
        Case("a session, nothing cached", bench.session()),
        Case("a session through the package cache, the first to ask", bench.session(bench.new_cache)),
        Case("a session through the package cache, a later one", bench.session(lambda: warm)),
    ]
    cases[1].install(bench.folder())  # fills pip's cache
    load: list[float] = []
    for _ in range(rounds):
        for case in cases:
            place = bench.folder()
            started = time.perf_counter()
            processor = case.install(place)
            case.seconds.append(time.perf_counter() - started)
            case.processor.append(processor)
            load.append(os.getloadavg()[0])
    base = statistics.median(cases[0].seconds)
    print(f"Measured {datetime.now(UTC):%Y-%m-%d}, n = {rounds}, load {min(load):.1f} to {max(load):.1f} on {os.cpu_count()} cores.\n")
    print("| 70 packages | seconds, median | least | of processor | as fast as pip |\n|---|---|---|---|---|")
    for case in cases:
        middle = statistics.median(case.seconds)
        processor = statistics.median(case.processor)
        print(f"| {case.title} | {middle:.1f} | {min(case.seconds):.1f} | {processor:.1f} | {base / middle:.1f} x |")


if __name__ == "__main__":
    main()
