"""What is said of the options in a requirements file, and the words in which anything is said of a line."""

import re
from dataclasses import dataclass, replace

from flowsession.requirements.lines import FLAGS, VALUED, Line

INCLUDES = ("--requirement", "--constraint")

_SECRET = re.compile(r"(://)(?!(?:[^/\s@:]*:)?\{private\}@)[^/\s?#]+@")

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
"""Options that pip takes on its command line only, and what to do instead."""


@dataclass(frozen=True)
class Finding:
    """One line that was judged, with its number in the file (from 1)."""

    line: int
    code: str
    message: str
    file: str = ""
    """Name of the file; empty: the text that was given."""

    def of(self, file: str) -> "Finding":
        """The finding, in that file."""
        return replace(self, file=file)


@dataclass(frozen=True)
class Judged:
    """What is said of a line."""

    errors: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    hashed: bool = False
    without_hash: str = ""
    """What to say where other requirements have hashes; empty: this one has what it takes."""


def shown(text: str) -> str:
    """A line for a message: not too long, and without what may be a password. It goes first: the end may hold the @ that tells it."""
    masked = _SECRET.sub(r"\1****@", text)
    return repr(masked if len(masked) <= 120 else f"{masked[:120]}...")


def options(line: Line) -> Judged:
    """Judges a line of options other than -r and -c."""
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


def beside_include(line: Line) -> Judged:
    """Says that pip reads nothing else in a line that includes a file."""
    message = f"{shown(line.text)}: pip reads one file of such a line and nothing else; give each option a line of its own"
    return Judged(warnings=(Finding(line.first, "IgnoredOption", message),))


def unseen_include(line: Line) -> Judged:
    """Says what is not known of a file that the installer fetches, or whose name a variable has."""
    code = "RemoteInclude" if "://" in line.text else "VariableInclude"
    message = f"{shown(line.text)} is read by the installer only: its changes are not seen; put a copy into the flow folder, and name that"
    return Judged(warnings=(Finding(line.first, code, message),))
