"""The sandbox image: our `pause` program and nothing else, as an archive that containerd imports."""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

from localcluster import files, paths
from localcluster.binaries import PAUSE

REPOSITORY = "localhost/flowsession-pause"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def reference() -> str:
    """Return the image's name and tag. The tag is the program's key in the cache."""
    return f"{REPOSITORY}:{PAUSE.key()}"


def archive() -> Path:
    """Return a docker-archive with the image, written if the cache lacks it. The program must be built."""
    target = paths.cache("images") / f"pause-{PAUSE.key()}.tar"
    if not target.exists():
        files.write(target, _docker_archive(PAUSE.binary("pause").read_bytes(), reference()))
    return target


def _docker_archive(program: bytes, name: str) -> bytes:
    layer = _tar({"pause": program}, mode=0o755)
    configuration = {
        "architecture": _ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    return _tar(
        {"layer.tar": layer, "config.json": json.dumps(configuration).encode(), "manifest.json": json.dumps(manifest).encode()}, mode=0o644
    )


def _tar(contents: dict[str, bytes], *, mode: int) -> bytes:
    """Return an archive without times and owners, so that equal content gives an equal image."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
