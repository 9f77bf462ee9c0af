"""The list of programs that the project's code starts, and the message if one of them is missing."""

import pytest

from localcluster import debian, programs
from localcluster.say import CannotContinue


def found(source: str) -> list[str]:
    return [word for _, word in programs.started(source)]


@pytest.mark.parametrize(
    "source",
    [
        'import subprocess\nsubprocess.run(["ps", "-ef"], check=True)',
        'import subprocess\nsubprocess.Popen(("ps",))',
        'from shell import run\nrun("ps", "-ef")',
        'import shutil\nshutil.which("ps")',
        'command = ["ps", "-ef", name]',
        'command = ["sh", "-c", "sleep 5; ps -ef | cat"]',
        'import os\nos.execvp("ps", ["ps"])',
    ],
)
def test_a_started_program_is_found(source: str) -> None:
    assert "ps" in found(source)


@pytest.mark.parametrize("source", ['names = ["sleep", "run"]', 'pod.run("fetch", "--all")', "run(program)", 'words = [name, "-c"]'])
def test_other_words_are_left_alone(source: str) -> None:
    assert found(source) == []


def test_a_program_that_no_package_of_the_list_has_is_told_with_its_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("checkout")
    for folder in programs.FOLDERS:
        (root / folder).mkdir(parents=True)
    (root / "tests" / "one.py").write_text('import subprocess\n\nsubprocess.run(["/usr/sbin/tcpdump", "-i"])\nsubprocess.run(["git"])\n')
    assert programs.unlisted(root) == ["tests/one.py:3: /usr/sbin/tcpdump"]


NOT_THERE = debian.Package("flowsession-none", ("flowsession-none", "sh"))


def test_what_is_missing_is_one_sentence_with_the_package_and_the_way_out() -> None:
    assert debian.lacking([NOT_THERE]) == (
        "this machine lacks flowsession-none (Debian package flowsession-none); run `make packages`, or install them by hand."
    )
    assert debian.lacking([debian.Package("dash", ("sh",))]) == ""


def test_whoever_cannot_install_it_is_told_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda program, path=None: None if "flowsession" in program else f"/usr/bin/{program}")
    with pytest.raises(CannotContinue, match="sudo apt-get install flowsession-none"):
        debian.ensure([NOT_THERE])
