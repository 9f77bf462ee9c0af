"""Running kubectl in place of this program."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from flowsession_cli import executing
from flowsession_cli.errors import CliError

RUN = "import sys; from flowsession_cli import executing; sys.exit(executing.run(sys.argv[1:]))"


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Restores the signal handlers."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


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
        ("echo 'env: what' >&2; echo command terminated with exit code 1 >&2; exit 1", 1, "", "env: what\n"),
        ("echo env: a >&2; echo env: b >&2; echo last >&2", 0, "", "env: a\nenv: b\nlast\n"),
        ("echo >&2; echo command terminated with exit code 1 >&2; exit 1", 1, "", "\n"),
        (
            "echo 'error: Internal error occurred: no' >&2; echo command terminated with exit code 1 >&2; exit 1",
            1,
            "",
            "error: Internal error occurred: no\n",
        ),
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


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (
            'error: unable to upgrade connection: pods "a" is forbidden: User "ada" cannot create resource "pods/exec" in API group ""'
            ' in the namespace "team"',
            1,
            "ada may not create pods/exec in namespace team: the cluster's role edit has that right",
        ),
        ('error: Internal error occurred: failed: exec: "vi": executable file not found in $PATH', 127, "the session has no program vi"),
        ('error: Internal error occurred: failed: exec: "/x y": stat /x y: no such file or directory', 127, "no program /x y"),
        ('error: Internal error occurred: failed: exec: "./a": permission denied', 126, "the session may not run ./a: chmod +x"),
        ("env: ‘vi’: No such file or directory", 127, "the session has no program vi: kubectl flow sh"),
        ("env: can’t execute ./a: Permission denied".replace("can’t", "can'\\''t"), 126, "the session may not run ./a: chmod +x"),
    ],
)
def test_what_could_not_run_is_one_sentence(words: str, status: int, said: str) -> None:
    ends = f"echo command terminated with exit code {status} >&2; exit {status}" if words.startswith("env") else "exit 1"
    with pytest.raises(CliError) as caught:
        executing.run(["sh", "-c", f"echo '{words}' >&2; {ends}"])
    assert said in str(caught.value)
    assert caught.value.code == status


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_whoever_is_ended_says_so_once_kubectl_has_ended(number: signal.Signals) -> None:
    script = (
        "import signal, sys; from flowsession_cli import executing; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "sys.exit(executing.run(sys.argv[1:], lambda number: print('ended by', number, flush=True)))"
    )
    waits = "trap 'echo gone; exit 3' HUP TERM INT; echo up; i=0; while [ $((i += 1)) -lt 100 ]; do sleep 0.1; done"
    process = subprocess.Popen([sys.executable, "-c", script, "sh", "-c", waits], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    with process, process.stdout:
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        assert process.stdout.read() == f"gone\nended by {number.value}\n"
        assert process.wait(10) == 3


def test_kubectls_way_to_end_at_the_second_interrupt_is_that_of_one() -> None:
    heeded = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {RUN}"  # the tests may run where SIGINT is ignored
    script = "trap 'exit 1' INT; echo up; i=0; while [ $((i += 1)) -lt 50 ]; do sleep 0.1; done"
    process = subprocess.Popen([sys.executable, "-c", heeded, "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    with process, process.stdout:
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
