"""Running kubectl in this program's place."""

import subprocess
import sys

import pytest

RUN = "import sys; from flowsession_cli import executing; sys.exit(executing.run(sys.argv[1:]))"


def ran(script: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", RUN, "sh", "-c", script], capture_output=True, text=True, input="typed\n", check=False)


@pytest.mark.parametrize(
    ("script", "status", "stdout", "stderr"),
    [
        ("cat; echo wrong >&2; echo command terminated with exit code 3 >&2; exit 3", 3, "typed\n", "wrong\n"),
        ("printf wrong >&2; exit 1", 1, "", "wrong"),
        ("printf 'wrong\\ncommand term' >&2; sleep 0.2; printf 'inated with exit code 7\\n' >&2; exit 7", 7, "", "wrong\n"),
        ("printf 'com' >&2; sleep 0.2; printf 'mon\\n' >&2", 0, "", "common\n"),
        (
            "echo command terminated with exit code 1 >&2; sleep 0.2; echo it says >&2",
            0,
            "",
            "command terminated with exit code 1\nit says\n",
        ),
        ("kill -KILL $$", 137, "", ""),
    ],
)
def test_streams_and_status_are_its_own_without_kubectls_word_on_it(script: str, status: int, stdout: str, stderr: str) -> None:
    done = ran(script)
    assert (done.returncode, done.stdout, done.stderr) == (status, stdout, stderr)


def test_what_ends_this_ends_the_command() -> None:
    process = subprocess.Popen([sys.executable, "-c", RUN, "sh", "-c", "echo up; exec sleep 60"], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    with process, process.stdout:
        assert process.stdout.readline() == "up\n"
        process.terminate()
        assert process.wait(10) == 143
