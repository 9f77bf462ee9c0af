"""How long resolving an environment blocks the operator's one thread: for an ordinary environment, and for the worst within the limits.

    PYTHONPATH=operator python bench/resolving.py

CPU time of this process, the best of five. Prints what docs/figures.md holds. Starts and writes nothing.
"""

import gzip
import io
import os
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable

from flowsession.api.environment import FlowEnvironmentSpec
from flowsession.model.resolved import Resolved
from flowsession.reconcile.environment import resolve
from flowsession.reconcile.environment.sources import ConfigMapView
from flowsession.settings import Settings
from flowsession_protocol.limits import ARCHIVE_FILES, FLOW_BYTES

Files = Iterable[tuple[str, bytes]]
NODE = b"- {name: n, type: python, source: {type: code, path: step.py}, inputs: {question: '${inputs.q}', top_k: 5}, api: chat}\n"
SHARE = FLOW_BYTES // ARCHIVE_FILES - 16


def tar(files: Files) -> bytes:
    """Return a .tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def pack_zip(files: Files) -> bytes:
    """Return a .zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files:
            packed.writestr(name, content)
    return buffer.getvalue()


def flow(includes: bytes = b"", nodes: int = 5) -> tuple[str, bytes]:
    """Return a flow file in the folder f."""
    return "f/flow.dag.yaml", b"additional_includes: [%s]\nnodes:\n%s" % (includes, NODE * nodes)


def many(size: int, count: int = ARCHIVE_FILES - 2) -> list[tuple[str, bytes]]:
    """Return many files in the folder s."""
    return [(f"s/d{n % 50}/f{n}.py", b"x" * size) for n in range(count)]


LOCK = ("f/requirements.txt", b"".join(b"pkg-%d[extra]==1.2.%d ; python_version > '3'\n" % (n, n) for n in range(1000)))
CASES: dict[str, Callable[[], bytes]] = {
    "an ordinary flow: 20 nodes, 30 files, a shared folder": lambda: tar([flow(b"../s", 20), *many(3000, 30)]),
    "all files that may be, all included, tar": lambda: tar([flow(b"../s"), *many(SHARE)]),
    "the same, zip": lambda: pack_zip([flow(b"../s"), *many(SHARE)]),
    "the same, included twice": lambda: pack_zip([flow(b"../s, ../s"), *many(SHARE)]),
    "2,000 files to be zipped": lambda: tar([flow(b"../s.zip"), *many(1000, 2000)]),
    "a flow file of 750 nodes": lambda: tar([flow(b"../x", 750), ("x", b"")]),
    "noise": lambda: tar([flow(), ("f/noise", os.urandom(900_000)), ("f/zeros", b"\0" * 7_000_000)]),
    "a bomb: 64 MiB of zeros": lambda: gzip.compress(b"\0" * (64 << 20)),
    "1,000 requirements": lambda: tar([flow(), LOCK]),
    "as many files, 750 nodes and 1,000 requirements at once": lambda: pack_zip([flow(b"../s", 750), LOCK, *many(SHARE, 2500)]),
}


def main() -> None:
    """Print a table."""
    source = {"archive": {"configMap": {"name": "flow", "key": "flow"}}}
    wanted = FlowEnvironmentSpec.model_validate({"source": source, "flowPath": "f"})
    print("| environment | ms | outcome |\n|---|---|---|")
    for name, make in CASES.items():
        view = ConfigMapView("flow", {"flow": make()}, 0.0, watched=True)
        taken = []
        for _ in range(5):
            start = time.process_time()
            found = resolve.resolve(wanted, {"flow": view}, Settings())
            taken.append(time.process_time() - start)
        outcome = "resolved" if isinstance(found, Resolved) else "refused"
        print(f"| {name} | {min(taken) * 1000:.0f} | {outcome} |")


if __name__ == "__main__":
    main()
