"""What is kept of a run, by prompt flow's file names: in the run's ConfigMaps, or on a claim that a session reads for this program."""

import base64
import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from flowsession_cli import naming
from flowsession_cli.cluster import SESSION, Cluster, Object
from flowsession_cli.errors import CliError

FINAL = ("Completed", "Failed", "Canceled")
OUTPUTS, INPUTS, ERROR, LOG = "flow_outputs/output.jsonl", "inputs.jsonl", "error.json", "logs.txt"
_KEY = "outputs.tar.gz"
_CLAIMS = "/claims"
_RUNS = "/session/runs"
"""Where a session's agent keeps its runs."""

Files = Iterator[tuple[str, IO[bytes]]]
"""Paths and contents of files. A content can be read until the next one is requested."""


def is_over(run: Object) -> bool:
    """Return whether the run is over and nothing changes any more."""
    return run.get("status", {}).get("phase") in FINAL


def refuse_unfinished(run: Object, what: str) -> None:
    """Raise CliError if the run isn't over."""
    if not is_over(run):
        name, phase = run["metadata"]["name"], run.get("status", {}).get("phase") or "new"
        raise CliError(f"{name} is {phase}, and {what} come at its end: kubectl flow run stream {name} waits for it")


@contextmanager
def kept(cluster: Cluster, run: Object) -> Iterator[Files]:
    """The files that are kept of a run that is over. Raises CliError where nothing is."""
    refuse_unfinished(run, "outputs")
    name = run["metadata"]["name"]
    outputs = run["status"].get("outputs") or {}
    if config_maps := outputs.get("configMapNames"):
        yield (entry for one in config_maps for entry in _of_config_map(cluster, one))
    elif claim := outputs.get("persistentVolumeClaim"):
        folder = str(PurePosixPath(_CLAIMS, claim["claimName"], claim.get("path") or "."))
        session = _session_with(cluster, claim["claimName"], run)
        packed = cluster.printed(str(session["status"]["podName"]), "tar", "-C", folder, "-cf", "-", ".")
        with packed as stream, _opened(stream, claim["claimName"], session) as archive:
            yield _members(archive)
    else:
        message = next((entry["message"] for entry in run["status"].get("conditions") or () if entry["type"] == "Complete"), "")
        raise CliError(f"{name} kept no outputs: {message or 'it ended before there were any'}")


def chosen(cluster: Cluster, run: Object, *names: str) -> dict[str, bytes]:
    """Return those of the named files that were kept, by name."""
    with kept(cluster, run) as files:
        return {name: file.read() for name, file in files if name in names}


def lines_of(content: bytes) -> dict[int, dict[str, Any]]:
    """Return the lines of one of prompt flow's files, with one line of JSON per line of data, by line number."""
    found: dict[int, dict[str, Any]] = {}
    for text in content.splitlines():
        if text.strip():
            line = json.loads(text)
            found[int(line.pop("line_number", len(found)))] = line
    return found


def failures(content: bytes, run: Object) -> dict[int, str]:
    """Return why lines failed, by number. Prompt flow's own file covers all lines, the status only the first ten."""
    found = {problem["line"]: problem["message"] for problem in run["status"].get("errors") or () if "line" in problem}
    try:
        error = json.loads(content or b"{}")
    except ValueError:
        error = {}
    for more in error.get("additionalInfo") or ():
        for one in (more.get("info") or {}).get("errors") or ():
            if isinstance(one.get("line_number"), int):
                words = " ".join(str((one.get("error") or {}).get("message") or "no reason was given").split())
                found.setdefault(one["line_number"], words)
    return dict(sorted(found.items()))


def write(files: Files, folder: Path) -> int:
    """Write the files below a folder and return their number."""
    count = 0
    for name, file in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as target:
            while piece := file.read(1 << 20):
                target.write(piece)
        count += 1
    return count


def log(cluster: Cluster, run: Object, *, after: int = 0) -> bytes:
    """Return the log of a run from byte `after` on: from its session while it runs, then from what was kept."""
    if is_over(run):
        try:
            if found := chosen(cluster, run, LOG):
                return found[LOG][after:]
        except CliError:
            if tail := run["status"].get("logTail"):
                return str(tail).encode()[after:]
            raise
        return str(run["status"].get("logTail") or "").encode()[after:]
    pod = run.get("status", {}).get("podName")
    if not pod:
        return b""
    command = 'if [ -f "$0" ]; then tail -c "+$1" "$0"; fi'
    with cluster.printed(pod, "sh", "-c", command, _live_log(run), str(after + 1)) as stream:
        return stream.read()


def _live_log(run: Object) -> str:
    meta = run["metadata"]
    folder = f"{meta['name']}-{meta['uid'][:8]}"
    claim = (run["spec"].get("outputs") or {}).get("persistentVolumeClaim")
    place = PurePosixPath(_CLAIMS, claim["claimName"], claim.get("path") or ".") if claim else PurePosixPath(_RUNS, meta["uid"], "out")
    return str(place / folder / LOG)


def _of_config_map(cluster: Cluster, name: str) -> Files:
    archive = base64.b64decode(cluster.get("configmap", name).get("binaryData", {}).get(_KEY, ""))
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            yield from _members(opened)
    except tarfile.TarError as error:
        raise CliError(f"ConfigMap {name} holds no archive of outputs: {error}") from None


def _members(archive: tarfile.TarFile) -> Files:
    """Yield the archive's files, except those that would be unpacked outside of the target folder."""
    for member in archive:
        path = PurePosixPath(member.name)
        file = archive.extractfile(member) if member.isfile() else None
        if file is not None and not path.is_absolute() and ".." not in path.parts:
            yield path.as_posix(), file


def _opened(stream: IO[bytes], claim: str, session: Object) -> tarfile.TarFile:
    """Open the archive. Raises CliError if it is empty: a session's pod may be older than its spec.claims."""
    try:
        return tarfile.open(fileobj=stream, mode="r|")
    except tarfile.ReadError:
        name, pod = session["metadata"]["name"], session["status"]["podName"]
        raise CliError(
            f"pod {pod} doesn't have the run's folder on claim {claim}: if {name} began before its spec.claims had that,"
            f" kubectl flow reset {name} mounts it; else the folder is gone"
        ) from None


def _session_with(cluster: Cluster, claim: str, run: Object) -> Object:
    """Return a Ready session that mounts the claim: a running one first, then the run's own. Resume it if it is suspended."""
    own = run["status"].get("sessionName")
    there = [session for session in cluster.objects(SESSION) if claim in {one["claimName"] for one in session["spec"].get("claims") or ()}]
    there.sort(key=lambda session: (session.get("status", {}).get("phase") != "Running", session["metadata"]["name"] != own))
    if not there:
        patch = json.dumps({"spec": {"claims": [{"claimName": claim, "readOnly": True}]}}, separators=(",", ":"))
        raise CliError(
            f"the outputs of {run['metadata']['name']} lie on claim {claim}, and no session here mounts it: have one mount it,"
            f" kubectl patch csess NAME --type=merge -p '{patch}', and kubectl flow reset NAME"
        )
    return naming.usable(cluster, there[0]["metadata"]["name"])
