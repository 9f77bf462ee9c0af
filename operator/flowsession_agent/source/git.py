"""Read one folder of a git repository at one commit: no history, no working tree, no filters, no hooks, only the objects.

git never runs the repository's content, and interprets none of it but .amlignore: files are read from its object store by `cat-file`.
"""

from __future__ import annotations

import binascii
import os
import re
import shutil
import tempfile

from flowsession_agent.source import pack
from flowsession_agent.source.errors import SourceError
from flowsession_agent.source.git_command import Git
from flowsession_protocol import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Mapping, Sequence

    from flowsession_agent.session.children import Children
    from flowsession_agent.settings import Home
    from flowsession_agent.source.order import GitOrder, SourceOrder
    from flowsession_protocol.messages import Source, SourceWarning

COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
IGNORES = ".amlignore"
POINTER = b"version https://git-lfs.github.com/spec/"
LARGEST_TREE = 64 * 1024 * 1024
"""Maximum bytes of the list of a folder's files: enough for some hundred thousand files."""


class Entry:
    """One file of the tree. `kind`: file, link or submodule."""

    def __init__(self, name: str, kind: str, oid: str) -> None:
        self.name = name
        self.kind = kind
        self.oid = oid


_KINDS = {"100644": "file", "100755": "file", "100664": "file", "120000": "link", "160000": "submodule"}


def read(order: SourceOrder, *, home: Home, children: Children, credentials: str) -> Source:
    """Return the response's members: revision, commit, warnings and the archive in base64, or `unchanged`. Raises SourceError."""
    assert order.git is not None, "that is what it asks for"
    with tempfile.TemporaryDirectory(prefix="source-", dir=home.tmp) as scratch:
        repository = Repository(order.git, Git(order, credentials=credentials, scratch=scratch, home=home, children=children))
        revision, commit = repository.find()
        if commit == order.git.known:
            return {"state": "Done", "revision": revision, "commit": commit, "unchanged": True}
        commit = repository.fetch(commit)
        entries, warnings = repository.entries(commit)
        files, links = repository.contents(entries)
        for name, content in files.items():
            if content.startswith(POINTER):
                warnings.append(
                    {
                        "code": "LfsPointer",
                        "file": name,
                        "message": "the file lies in Git LFS, which is not read: sessions get the pointer to it; commit the file itself",
                    }
                )
        archive = pack.pack(files, links, repository.what)
        return {
            "state": "Done",
            "revision": revision,
            "commit": commit,
            "archive": binascii.b2a_base64(archive, newline=False).decode(),
            "warnings": warnings[: limits.WARNINGS],
        }


class Repository:
    """The fetched part of the repository, in a temporary folder."""

    def __init__(self, order: GitOrder, git: Git) -> None:
        self._order = order
        self._git = git
        self._commit = ""
        self.what = order.url if order.path == "." else f"{order.path} of {order.url}"

    def find(self) -> tuple[str, str]:
        """Return the revision's name and its commit; for a commit's id, both are the id. Raises SourceError."""
        asked, url = self._order.revision, self._order.url
        if COMMIT.fullmatch(asked):
            return asked, asked
        if not asked:
            listed = self._git.must("ls-remote", "--symref", "--", url, "HEAD", inside=False).splitlines()
            head = next((line[5:].partition("\t")[0] for line in listed if line.startswith("ref: ") and line.endswith("\tHEAD")), "")
            found = {name: oid for oid, _, name in (line.partition("\t") for line in listed if not line.startswith("ref: "))}
            if "HEAD" not in found:
                raise SourceError(
                    "RevisionNotFound", f"{url} has no default branch (it is empty?); commit something, or name a branch in revision"
                )
            return head[len("refs/heads/") :] if head.startswith("refs/heads/") else "HEAD", found["HEAD"]
        names = [asked] if asked.startswith("refs/") else [f"refs/heads/{asked}", f"refs/tags/{asked}"]
        listed = self._git.must("ls-remote", "--", url, *names, *(f"{name}^{{}}" for name in names), inside=False).splitlines()
        found = {name: oid for oid, _, name in (line.partition("\t") for line in listed)}
        for name in names:  # a branch before a tag of the same name, as with `git checkout`; for an annotated tag its commit
            commit = found.get(f"{name}^{{}}") or found.get(name)
            if commit:
                return asked, commit
        raise SourceError("RevisionNotFound", f"{url} has no branch or tag {asked!r}{self._advice(asked)}")

    def fetch(self, commit: str) -> str:
        """Fetch the commit and its trees, without blobs if the server can leave them out; return the commit's id. Raises SourceError."""
        self._fetch(commit, "--filter=blob:none")
        parsed = self._git.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}")
        if parsed.exit_code:
            raise SourceError(
                "RevisionNotFound", f"{self._order.url} has no commit {commit}; write the full id of one that a branch or tag leads to"
            )
        self._commit = parsed.stdout.strip()
        return self._commit

    def _fetch(self, commit: str, *how: str) -> None:
        shutil.rmtree(self._git.folder, ignore_errors=True)
        self._git.must("init", "--quiet", self._git.folder, inside=False)
        self._git.must("remote", "add", "origin", self._order.url)
        how = ("--quiet", "--no-recurse-submodules", *how)
        outcome = self._git.run("fetch", "--depth=1", "--no-tags", *how, "origin", commit)
        if outcome.exit_code and re.search(r"not our ref|unadvertised object|couldn't find remote ref|no such remote ref", outcome.stderr):
            # The server provides only commits that branches and tags point at, or it doesn't have this one.
            self._git.must("fetch", *how, "origin", "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
        elif outcome.exit_code:
            raise self._git.failed("fetch", outcome)

    def entries(self, commit: str) -> tuple[list[Entry], list[SourceWarning]]:
        """Return the files of the source's folder, without those in .amlignore, and warnings about submodules. Raises SourceError."""
        at = f"{commit}:{'' if self._order.path == '.' else self._order.path}"
        with self._git.file() as listed:
            outcome = self._git.run("ls-tree", "-r", "-z", "--end-of-options", at, stdout=listed)
            if outcome.exit_code:
                raise self._no_folder(commit)
            listed.seek(0)
            data = listed.read(LARGEST_TREE + 1)
        if len(data) > LARGEST_TREE:
            raise SourceError("TooLarge", f"{self.what} has hundreds of thousands of files: {pack.WAYS_OUT}")
        found: list[Entry] = []
        warnings: list[SourceWarning] = []
        for line in data.split(b"\0")[:-1]:
            about, _, name = line.partition(b"\t")
            mode, _, oid = about.decode().split(" ")[:3]
            kind = _KINDS.get(mode, "file")
            entry = Entry(name.decode(errors="surrogateescape"), kind, oid)
            if kind == "submodule":
                warnings.append(
                    {"code": "Submodule", "file": entry.name, "message": "submodules are not read: the folder is empty in sessions"}
                )
            else:
                found.append(entry)
        ignores = next((entry for entry in found if entry.name == IGNORES and entry.kind == "file"), None)
        if ignores:
            out = self._ignored(ignores, found)
            found = [entry for entry in found if entry.name not in out]
        pack.check_count(len(found), self.what)
        if not found:
            raise SourceError("PathNotFound", f"{self.what} holds no files at {commit[:12]}; check path and revision")
        return found, warnings

    def contents(self, entries: Sequence[Entry]) -> tuple[dict[str, bytes], dict[str, str]]:
        """Return the contents of files and the targets of links. Raises SourceError."""
        wanted = "".join(f"{oid}\n" for oid in dict.fromkeys(entry.oid for entry in entries)).encode()
        with self._git.file(wanted) as oids:
            # Fetch all files at once, or the whole commit if the server provides files only with their commit. Over ssh, that is a server
            # that isn't told to use version 2 of git's protocol.
            options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--filter=blob:none", "--stdin")
            if self._git.run("-c", "fetch.negotiationAlgorithm=noop", "fetch", *options, "origin", stdin=oids).exit_code:
                self._fetch(self._commit)
        with self._git.file(wanted) as oids, self._git.file() as output:
            outcome = self._git.run("cat-file", "--batch", "--buffer", stdin=oids, stdout=output)
            if outcome.exit_code:
                raise self._git.failed("fetch files", outcome)
            output.seek(0)
            blobs = _blobs(output, {entry.oid: entry.name for entry in entries}, self.what)
        pack.check_sizes({entry.name: len(blobs[entry.oid]) for entry in entries}, self.what)
        files = {entry.name: blobs[entry.oid] for entry in entries if entry.kind == "file"}
        links = {entry.name: blobs[entry.oid].decode(errors="surrogateescape") for entry in entries if entry.kind == "link"}
        return files, links

    def _ignored(self, ignores: Entry, entries: Sequence[Entry]) -> set[str]:
        patterns, _ = self.contents([ignores])
        path = os.path.join(self._git.scratch, "ignores")
        with open(path, "wb") as file:
            file.write(patterns[IGNORES])
        names = b"".join(entry.name.encode(errors="surrogateescape") + b"\0" for entry in entries)
        with self._git.file(names) as stdin, self._git.file() as output:
            outcome = self._git.run(
                "-c", f"core.excludesFile={path}", "check-ignore", "--no-index", "-z", "--stdin", stdin=stdin, stdout=output
            )
            if outcome.exit_code > 1:  # 1: nothing is ignored
                raise self._git.failed("read .amlignore", outcome)
            output.seek(0)
            return {name.decode(errors="surrogateescape") for name in output.read().split(b"\0") if name}

    def _advice(self, asked: str) -> str:
        if re.fullmatch(r"[0-9a-f]{4,63}", asked):
            return "; a commit is named by its full id"
        listed = self._git.must("ls-remote", "--heads", "--tags", "--refs", "--", self._order.url, inside=False).splitlines()[
            -LARGEST_TREE:
        ]
        names = [line.partition("\t")[2].split("/", 2)[2] for line in listed if line.count("/") > 1]
        return f" (it has: {', '.join(names[:10])}{', ...' if len(names) > 10 else ''})" if names else " (it has none)"

    def _no_folder(self, commit: str) -> SourceError:
        names = self._git.run("ls-tree", "--name-only", "--end-of-options", commit).stdout.splitlines()
        return SourceError(
            "PathNotFound",
            f"{self._order.url} has no folder {self._order.path!r} (path) at {commit[:12]};"
            f" it holds: {', '.join(sorted(names)[:10]) or 'nothing'}",
        )


def _blobs(output: IO[bytes], names: Mapping[str, str], what: str) -> dict[str, bytes]:
    """Return the blobs that `cat-file --batch` printed. Raises SourceError above a limit, so that no repository fills the pod's memory."""
    found: dict[str, bytes] = {}
    sizes: dict[str, int] = {}
    while True:
        header = output.readline().split()
        if not header:
            break
        oid = header[0].decode()
        if len(header) != 3 or header[1] != b"blob":
            raise SourceError("GitFailed", f"{what}: the server did not give {names.get(oid, oid)!r}")
        size = int(header[2])
        sizes[names.get(oid, oid)] = size
        if sum(sizes.values()) > limits.FLOW_BYTES:
            output.seek(size + 1, 1)
            found.clear()
        else:
            found[oid] = output.read(size)
            output.read(1)
    pack.check_sizes(sizes, what)
    return found
