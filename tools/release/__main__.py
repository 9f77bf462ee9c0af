"""`python -m release FOLDER ADDRESS`: writes the files of a release. krew finds the archive at ADDRESS/VERSION."""

import gzip
import hashlib
import io
import sys
import tarfile
from pathlib import Path

from flowsession import __version__
from release import pyz

CHECKOUT = Path(__file__).parents[2]
PROGRAM, ARCHIVE, MANIFEST, K9S = "kubectl-flow.pyz", "kubectl-flow.tar.gz", "kubectl-flow.yaml", "k9s-plugins.yaml"


def main(arguments: list[str]) -> int:
    """Write the files and print their names."""
    folder, address = arguments
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for name, content in files(address).items():
        (target / name).write_bytes(content)
        print(target / name)
    (target / PROGRAM).chmod(0o755)
    return 0


def files(address: str) -> dict[str, bytes]:
    """Return the content of each file of a release."""
    program = pyz.build(CHECKOUT / "operator")
    archive = packed({PROGRAM: (program, 0o755), "LICENSE": ((CHECKOUT / "LICENSE").read_bytes(), 0o644)})
    return {
        PROGRAM: program,
        ARCHIVE: archive,
        MANIFEST: manifest(f"{address}/v{__version__}/{ARCHIVE}", archive).encode(),
        K9S: (CHECKOUT / "integrations" / K9S).read_bytes(),
    }


def manifest(uri: str, archive: bytes) -> str:
    """Return krew's manifest of this release."""
    text = (CHECKOUT / "integrations" / MANIFEST).read_text()
    for name, value in (("VERSION", f"v{__version__}"), ("URI", uri), ("SHA256", hashlib.sha256(archive).hexdigest())):
        text = text.replace(f"${{{name}}}", value)
    return text


def packed(contents: dict[str, tuple[bytes, int]]) -> bytes:
    """Return a .tar.gz of files with their modes, without times and owners."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for name, (content, mode) in contents.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
