"""The policy for the lines of requirements files: each rule has a code and a message that says what to do."""

import re
from dataclasses import dataclass, replace

from packaging.requirements import InvalidRequirement, Requirement

from flowsession_protocol.masking import PRIVATE, masked
from flowsession_protocol.requirements import EGG, FLAGS, VALUED, VARIABLE, Line, normalise

INCLUDES = ("--requirement", "--constraint")

COMMAND_LINE = {
    **dict.fromkeys(
        [
            "-U",
            "--upgrade",
            "--upgrade-strategy",
            "--user",
            "-t",
            "--target",
            "--prefix",
            "--root",
            "--src",
            "--no-deps",
            "--force-reinstall",
            "-I",
            "--ignore-installed",
            "--dry-run",
            "--no-build-isolation",
            "--break-system-packages",
            "--ignore-requires-python",
            "--no-compile",
            "--compile",
            "-q",
            "--quiet",
            "-v",
            "--verbose",
            "--no-cache-dir",
            "--cache-dir",
            "--disable-pip-version-check",
            "--no-input",
            "--python",
            "--report",
            "--group",
            "--index-strategy",
            "--no-cache",
        ],
        "remove it",
    ),
    "--proxy": "remove it: the proxy is the platform team's setting (installer.proxy of the chart)",
    "--cert": "remove it, and name the certificates by spec.installer.caBundleConfigMapName",
    "--client-cert": "remove it",
    "--timeout": "remove it: spec.installer.timeoutSeconds limits the install",
    "--default-timeout": "remove it: spec.installer.timeoutSeconds limits the install",
    "--retries": "remove it",
}
"""Options that pip accepts only on its command line, and what to do instead."""


@dataclass(frozen=True)
class Finding:
    """An error or warning about one line, with its number in the file (from 1)."""

    line: int
    code: str
    message: str
    file: str = ""
    """Name of the file; empty: the text given to the review."""

    def of(self, file: str) -> "Finding":
        """Return the finding for that file."""
        return replace(self, file=file)


@dataclass(frozen=True)
class Judged:
    """The findings about a line."""

    errors: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    hashed: bool = False
    without_hash: str = ""
    """Error message if other requirements have hashes; empty: this one needs no hash or has a valid one."""


def shown(text: str) -> str:
    """Return a line for a message, cut to 120 characters and without passwords. Masking comes first: the end may hold the @ that reveals a
    login."""
    words = masked(text)
    return repr(words if len(words) <= 120 else f"{words[:120]}...")


def options(line: Line) -> Judged:
    """Return the findings about a line of options other than -r and -c."""
    errors, warnings = [], []
    for option, value in line.options:
        text = shown(f"{option} {value}".strip())
        if option == "--editable":
            errors.append(
                Finding(line.first, "Editable", f"{text} is editable, and a session has no such source; build it into your image")
            )
        elif option == "--find-links" and not value.lower().startswith(("http://", "https://")):
            errors.append(Finding(line.first, "LocalPath", f"{text} names a local folder; publish its files to an index"))
        elif option in COMMAND_LINE:
            message = f"{text} is an option of pip's command line, not of its files; {COMMAND_LINE[option]}"
            errors.append(Finding(line.first, "CommandLineOption", message))
        elif option == "--pre":
            warnings.append(
                Finding(line.first, "PreReleases", f"{text} takes pre-releases of every package; pin those that are meant, as name==1.0rc1")
            )
        elif option == "--trusted-host":
            advice = "name its certificates by spec.installer.caBundleConfigMapName instead"
            warnings.append(Finding(line.first, "TrustedHost", f"{text} switches off the check of the host's certificate; {advice}"))
        elif option == "--no-binary":
            warnings.append(
                Finding(
                    line.first,
                    "SourceBuild",
                    f"{text} builds from source in the session, which takes long and needs a compiler in the image",
                )
            )
        elif option and option not in VALUED and option not in FLAGS:
            warnings.append(
                Finding(line.first, "UnknownOption", f"{text} is not known in a requirements file; the installer may refuse it")
            )
    stray = " ".join(value for option, value in line.options if not option)
    if stray:
        warnings.append(
            Finding(line.first, "IgnoredOption", f"{shown(stray)} belongs to no option, and pip ignores it; give it a line of its own")
        )
    return Judged(tuple(errors), tuple(warnings))


def only_an_include(line: Line) -> Judged:
    """Return the warning that pip reads nothing else in a line that includes a file."""
    message = f"{shown(line.text)}: pip reads one file of such a line and nothing else; give each option a line of its own"
    return Judged(warnings=(Finding(line.first, "IgnoredOption", message),))


def unseen_include(line: Line) -> Judged:
    """Return the warning that changes are not noticed in a file that the installer fetches, or that a variable names."""
    code = "RemoteInclude" if "://" in line.text else "VariableInclude"
    message = f"{shown(line.text)} is read by the installer only: its changes are not seen; put a copy into the flow folder, and name that"
    return Judged(warnings=(Finding(line.first, code, message),))


LONGEST = 2_000
"""Characters of a requirement without its hashes."""

PROMPTFLOW = frozenset(("promptflow", "promptflow-core", "promptflow-devkit", "promptflow-tracing", "promptflow-azure", "promptflow-tools"))
"""Prompt flow's packages in images for prompt flow. Others whose names begin like these (`promptflow-azure-ai-language`) are ordinary
packages. The agent, which knows what its image has, decides which versions a session keeps."""

SOME_VALUE = "0"
"""Stand-in for a variable's value in the check of a line's form: valid as a version and as part of a name."""

_ARCHIVES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz", ".egg")
_LOCAL = (".", "/", "~", "file:", "\\")
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_DRIVE = re.compile(r"^[A-Za-z]:[\\/]")
_VCS = re.compile(r"^(git|hg|svn|bzr)\+", re.IGNORECASE)
_PATH = re.compile(r"[\w.\-]+[/\\][\w.\-/\\]*(?:\[[^\]]*\])?")
_HASH = re.compile(r"(?:^|&)(?:sha256|sha384|sha512)=")
"""A hash in a URL's fragment."""

_SINGLE_EQUALS = re.compile(r"^([\w.-]+)=([\w.*]+)(?:=[\w.*]+)?$")
_ALGORITHMS = ("sha256:", "sha384:", "sha512:")


def requirement(line: Line) -> Judged:
    """Return the findings about a line that asks for a package."""
    return _impossible(line) or _named(line, _ignored(line))


def _impossible(line: Line) -> Judged | None:
    """Return the error about a line that is impossible whatever its package, or None."""
    text = shown(line.body)
    if _is_local(line.body):
        return _local(line)
    unknown = next((option for option, _ in line.options if option in COMMAND_LINE), None)
    if unknown is not None:
        message = f"{text}: {unknown} is an option of pip's command line, not of its files; {COMMAND_LINE[unknown]}"
        return _refused(line, "CommandLineOption", message)
    bad = next((value for option, value in line.options if option == "--hash" and not value.startswith(_ALGORITHMS)), None)
    if bad is not None:
        return _refused(line, "InvalidHash", f"{text} has the hash {bad[:40]!r}; pip takes sha256, sha384 and sha512, as --hash=sha256:HEX")
    if len(line.body) > LONGEST:
        return _refused(line, "InvalidRequirement", f"{text} is longer than {LONGEST:,} characters")
    return None


def _ignored(line: Line) -> list[Finding]:
    return [
        Finding(line.first, "IgnoredOption", f"{shown(option or value)} behind a requirement is ignored by pip; give it a line of its own")
        for option, value in line.options
        if option not in ("--hash", "--config-settings", "--config-setting", "-C", "--global-option", "--install-option")
    ]


def _named(line: Line, warnings: list[Finding]) -> Judged:
    body, text = line.body, shown(line.body)
    hashes = any(option == "--hash" for option, _ in line.options)
    if _URL.match(body) or _VCS.match(body):
        egg = EGG.search(body)
        return _link(line, body, egg.group(1) if egg else "", warnings, hashes=hashes)
    try:
        found = Requirement(VARIABLE.sub(SOME_VALUE, body))
    except (InvalidRequirement, RecursionError) as error:
        if VARIABLE.search(body):
            return Judged(warnings=tuple(warnings), hashed=hashes)  # its value is known only where it is installed
        what = str(error).splitlines()[0]
        return _refused(line, "InvalidRequirement", f"{text} is not a requirement ({what}); {_advice(body)}")
    if found.url is not None:
        if _is_local(found.url):
            return _local(line)
        return _link(line, found.url, found.name, warnings, hashes=hashes, excluded=found.marker is not None)
    if _is_promptflow(found.name) and found.specifier:
        warnings.append(_pinned(line, hashes=hashes))
    pinned = any(one.operator in ("==", "===") and not one.version.endswith(".*") for one in found.specifier)
    return Judged(
        warnings=tuple(warnings),
        hashed=hashes,
        # What a marker excludes needs no hash, and only the image determines Python and system.
        without_hash="" if found.marker or (hashes and pinned) else _hash_advice(text, hashes=hashes),
    )


def _link(line: Line, url: str, name: str, warnings: list[Finding], *, hashes: bool, excluded: bool = False) -> Judged:
    text = shown(line.body)
    if PRIVATE in url.lower():
        advice = "{private} stands in index URLs only: name the package, and its index in a line -i https://{private}@..."
        return _refused(line, "PrivateLink", f"{text}: {advice}")
    if _VCS.match(url):
        if _is_local(url.partition("+")[2]):
            return _refused(line, "LocalPath", f"{text} is a local repository; build it into your image, or publish it to an index")
        tool = url.partition("+")[0].lower()
        needs = f"needs {tool} in the image" + (" and a key, which sessions have not: use https" if "+ssh:" in url.lower() else "")
        warnings.append(
            Finding(line.first, "VcsLink", f"{text} is fetched and built in the session, which {needs}; a release on an index is faster")
        )
    if name and _is_promptflow(name):
        warnings.append(_pinned(line, hashes=hashes))
    has_hash = hashes or _HASH.search(url.partition("#")[2]) is not None
    return Judged(
        warnings=tuple(warnings),
        hashed=hashes,
        without_hash="" if excluded or (has_hash and not _VCS.match(url)) else _hash_advice(text, hashes=False),
    )


def _pinned(line: Line, *, hashes: bool) -> Finding:
    if hashes:
        message = f"{shown(line.body)} pins prompt flow by a hash, which fails unless the image has that very version; remove the line"
    else:
        message = f"{shown(line.body)} pins prompt flow; an image that has it keeps its own version, so remove the version"
    return Finding(line.first, "PinnedPromptflow", message)


def _hash_advice(text: str, *, hashes: bool) -> str:
    if hashes:
        return f"{text} has a hash but no exact version; write name==version"
    return f"{text} has no hash, and other requirements have: pip then asks for all; add its hash, or remove the others"


def _advice(body: str) -> str:
    if "$" in body:
        return "write a variable as ${NAME}, in upper case"
    single = _SINGLE_EQUALS.match(body)
    return f"write {single.group(1)}=={single.group(2)}" if single else "write name==version"


def _local(line: Line) -> Judged:
    message = f"{shown(line.body)} is a local file or folder; build it into your image, or publish it to an index"
    return _refused(line, "LocalPath", message)


def _refused(line: Line, code: str, message: str) -> Judged:
    return Judged(errors=(Finding(line.first, code, message),))


def _is_promptflow(name: str) -> bool:
    return normalise(name) in PROMPTFLOW


def _is_local(text: str) -> bool:
    if text.lower().startswith(_LOCAL) or _DRIVE.match(text):
        return True
    if "://" in text or "@" in text:
        return False
    return text.partition(";")[0].rstrip().lower().endswith(_ARCHIVES) or _PATH.fullmatch(text) is not None
