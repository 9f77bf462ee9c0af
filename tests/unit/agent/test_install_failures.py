"""The explanation of a failed install, from the output of uv 0.13 and pip 26."""

import pytest

from flowsession_agent.install.conflicts import LONGEST, reasons
from flowsession_agent.install.failures import Failure, classify
from flowsession_agent.install.requirement_lines import Line

UV = "error: No solution found when resolving dependencies\n  cause: "
WINDOWS = (
    UV
    + "Because pywin32==306 has no wheels with a matching platform tag (e.g., `manylinux_2_36_x86_64`) and you require pywin32==306, we can"
    " conclude that your requirements are unsatisfiable.\n\nhint: Wheels are available for `pywin32`"
    " (v306) on the following platforms: `win32`,"
    " `win_amd64`, `win_arm64`\n"
)
BY_WMI = (
    UV + "Because pywin32<=302 has no wheels with a matching Python ABI tag (e.g., `cp311`) and only the"
    " following versions of pywin32 are"
    " available:\n             pywin32<=302\n             pywin32>=303\n         we can conclude that"
    " pywin32<303 cannot be used.\n         And"
    " because pywin32>=303 has no wheels with a matching platform tag (e.g., `manylinux_2_36_x86_64`),"
    " we can conclude that all versions of"
    " pywin32 cannot be used.\n         And because something>=1.5.1 depends on pywin32 and you require"
    " something==1.5.1, we can conclude that"
    " your requirements are unsatisfiable.\n\nhint: You require CPython 3.11 (`cp311`), but we only"
    " found wheels for `pywin32` (v302) with the"
    " following Python ABI tags: `cp36m`, `cp37m`\n\nhint: Wheels are available for `pywin32` (v312) on the following platforms: `win32`,"
    " `win_amd64`\n"
)
OLD_PYTHON = (
    UV + "Because old==1.0 has no wheels with a matching Python ABI tag (e.g., `cp311`) and you require"
    " old==1.0, we can conclude that your"
    " requirements are unsatisfiable.\n\nhint: You require CPython 3.11 (`cp311`), but we only found"
    " wheels for `old` (v1.0) with the following"
    " Python ABI tags: `cp36m`, `cp37m`\n"
)
CONFLICT = (
    UV + "Because langchain-openai==0.3.0 depends on langchain-core>=0.3.29,<0.4.0 and you require"
    " langchain-openai==0.3.0, we can conclude that you require langchain-core>=0.3.29,<0.4.0.\n         And because you require"
    " langchain-core==0.1.23, we can conclude that your requirements"
    " are unsatisfiable.\n"
)
TORCH = (
    UV + "Because there is no version of torch==2.1.2+cu118 and you require torch==2.1.2+cu118, we can"
    " conclude that your requirements are"
    " unsatisfiable.\n"
)


def by_pip(wanted: str, versions: str = "none") -> str:
    return (
        f"ERROR: Could not find a version that satisfies the requirement {wanted} (from versions: {versions})\n"
        f"ERROR: No matching distribution found for {wanted}\n"
    )


def failure(text: str, *requirements: str) -> Failure:
    lines = [Line(file="requirements.txt", number=number, text=line) for number, line in enumerate(requirements, 1)]
    found = classify(text, lines, promptflow={}, only_binary=False)
    assert found.message.endswith(".") and ".." not in found.message, found.message
    return found


@pytest.mark.parametrize("text", [WINDOWS, WINDOWS.partition("\n\nhint")[0], by_pip("pywin32==306")])
def test_a_wheel_for_windows_only_is_told_with_the_marker(text: str) -> None:
    found = failure(text, "colorama==0.4.6", "pywin32==306", "pywinpty==2.0.13", "pywin32-ctypes==0.2.2 ; sys_platform == 'win32'")
    assert found.code == "NoMatchingDistribution"
    assert found.message == (
        "pywin32==306 (line 2 of requirements.txt), pywinpty==2.0.13 (line 3 of requirements.txt) are for"
        " Windows only, and sessions run on"
        " Linux: remove each of these lines, or add \"; sys_platform == 'win32'\" to it."
    )


def test_what_draws_a_windows_package_in_is_named() -> None:
    assert failure(BY_WMI, "idna", "something==1.5.1").message == (
        "pywin32 312, which something==1.5.1 (line 2 of requirements.txt) needs, is for Windows only, and"
        " sessions run on Linux: remove that"
        " line, or add \"; sys_platform == 'win32'\" to it."
    )


@pytest.mark.parametrize(
    ("line", "text", "words"),
    [
        ("pywinpty==2.0.13", "error: Failed to build `pywinpty==2.0.13`\ncargo not found\n", "is for Windows only"),
        ("pyobjc-core==10.1", "ERROR: Failed building wheel for pyobjc-core\n", "sys_platform == 'darwin'"),
        ("tensorflow-macos==2.15.0", by_pip("tensorflow-macos==2.15.0"), "is for macOS only"),
    ],
)
def test_so_is_what_can_not_be_built_here(line: str, text: str, words: str) -> None:
    found = failure(text, line)
    assert f"{line} (line 1 of requirements.txt) is for" in found.message
    assert words in found.message


LEGACY = """
      x86_64-linux-gnu-gcc -c ./lib/ultrajsondec.c -o build/ultrajsondec.o
      error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory
      [end of output]

  note: This error originates from a subprocess, and is likely not a problem with pip.
error: legacy-install-failure

× Encountered error while trying to install package.
╰─> ujson

note: This is an issue with the package mentioned above, not pip.
hint: See above for output from the failure.
"""


def test_a_build_that_failed_by_the_way_of_pip_before_23_1() -> None:
    found = failure(LEGACY, "ujson==1.35")
    assert found.code == "BuildFailed"
    assert found.message.startswith(
        "ujson (line 1 of requirements.txt) can't be built: it has no wheel for this Python and needs a compiler"
    )


def test_a_wheel_for_other_pythons_only() -> None:
    found = failure(OLD_PYTHON, "old==1.0")
    assert (found.code, found.message) == (
        "NoMatchingDistribution",
        "old 1.0 has no wheel for this Python, only for cp36m, cp37m, and no source to build it from (line 1"
        " of requirements.txt): choose another"
        " version, or another base image.",
    )


@pytest.mark.parametrize("text", [TORCH, by_pip("torch==2.1.2+cu118", "2.0.0, 2.1.2, 2.15.0")])
def test_a_local_version_names_its_index(text: str) -> None:
    assert failure(text, "torch==2.1.2+cu118").message == (
        "The package index has no torch==2.1.2+cu118 (line 1 of requirements.txt): versions with +cu118 are"
        " on an index of their own: add the line"
        " --extra-index-url https://download.pytorch.org/whl/cu118, or leave +cu118 out."
    )
    with_index = failure(text, "--extra-index-url https://download.pytorch.org/whl/cu118", "torch==2.1.2+cu118").message
    assert "no such version" in with_index


def test_another_local_version_names_none() -> None:
    found = failure(by_pip("mine==1.0+build.7"), "mine==1.0+build.7").message
    assert (
        "versions with +build.7 are not on the usual index: name the index that has it by --extra-index-url, or leave +build.7 out" in found
    )


def test_a_conflict_is_told_by_whole_sentences_and_both_lines() -> None:
    found = failure(CONFLICT, "langchain-openai==0.3.0", "langchain-core==0.1.23", "langchain")
    assert (found.code, found.message) == (
        "ConflictingRequirements",
        "The requirements contradict each other (line 1 of requirements.txt, line 2 of requirements.txt):"
        " Because langchain-openai==0.3.0 depends"
        " on langchain-core>=0.3.29,<0.4.0 and you require langchain-openai==0.3.0, we can conclude that you require"
        " langchain-core>=0.3.29,<0.4.0. And because you require langchain-core==0.1.23, we can conclude that your requirements are"
        " unsatisfiable. Loosen one of them.",
    )


def test_a_long_proof_loses_whole_sentences_from_its_middle() -> None:
    sentences = [f"And because a{n}==1.{n}.0 depends on b{n}>=0.{n}.9,<0.4.0, we can conclude that you require b{n}." for n in range(20)]
    found = reasons(f"{UV}Because x==1.0.\n         " + "\n         ".join([*sentences, "And because you require z==2.0."]))
    assert len(found) <= LONGEST
    assert found + "." == " ".join(["Because x==1.0.", *sentences[:7], "...", "And because you require z==2.0."])
    assert len(reasons(UV + "Because " + "only the following versions of x are available: x==1, " * 100 + ".")) <= LONGEST + 4


def test_a_conflict_by_pip() -> None:
    text = (
        "ERROR: Cannot install -r r.txt (line 1) and langchain-core==0.1.23 because these package versions"
        " have conflicting dependencies.\n\n"
        "The conflict is caused by:\n    The user requested langchain-core==0.1.23\n    langchain-openai"
        " 0.3.0 depends on langchain-core<0.4.0 and"
        " >=0.3.29\n\nTo fix this you could try to:\n1. loosen the range of package versions you've"
        " specified\n\nERROR: ResolutionImpossible: x\n"
    )
    assert failure(text, "langchain-openai==0.3.0", "langchain-core==0.1.23").message == (
        "The requirements contradict each other (line 1 of requirements.txt, line 2 of requirements.txt): The user requested"
        " langchain-core==0.1.23; langchain-openai 0.3.0 depends on langchain-core<0.4.0 and >=0.3.29. Loosen one of them."
    )


@pytest.mark.parametrize(
    "text",
    [
        by_pip("idna==${NOT_SET}", "3.7, 3.20"),
        "error: Couldn't parse requirement in `r.txt` at position 0\n  cause: expected version to start with"
        " a number\n         idna==${NOT_SET}\n",
        "ERROR: Invalid requirement: 'idna==${NOT_SET}': Expected semicolon\n    idna==${NOT_SET}\n        ^ (from line 1 of r.txt)\n",
    ],
)
def test_a_variable_that_is_not_set(text: str) -> None:
    found = failure(text, "idna==${NOT_SET}")
    assert (found.code, "set NOT_SET in the session's env" in found.message) == ("InvalidRequirement", True), found.message
