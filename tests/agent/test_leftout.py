"""What is not saved with edits: files with names of secrets, and files that an ignore file names, as git itself decides."""

import re
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsession_agent.edits.left_out import Ignore, looks_secret


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        "a/.env",
        ".ENV",
        ".env.local",
        ".env.kept",
        ".env.kept2",
        "id_rsa",
        "a/id_ed25519",
        "server.pem",
        "tls/server.key",
        "cert.pfx",
        ".netrc",
        ".npmrc",
        ".ssh/config",
        "x/.azure/token.json",
        ".streamlit/secrets.toml",
        "key.pem.kept",
    ],
)
def test_names_of_secrets(path: str) -> None:
    assert looks_secret(path)


@pytest.mark.parametrize(
    "path",
    [
        "env.py",
        ".env.example",
        ".env.sample",
        "keyboard.py",
        "a.pem.py",
        "monkey",
        "environment.yaml",
        "id_rsa.pub",
        "kept.py",
        ".envrc",
        "secrets.py",
    ],
)
def test_names_of_others(path: str) -> None:
    assert not looks_secret(path)


def ignored_by_git(folder: Path, paths: list[str]) -> set[str]:
    """Return which of the paths git ignores."""
    git = ["git", "-c", "core.excludesFile=/dev/null", "-C", str(folder)]
    subprocess.run([*git, "init", "-q"], check=True)
    said = subprocess.run(
        [*git, "check-ignore", "--no-index", "-z", "--stdin"], input="\0".join(paths).encode(), capture_output=True, check=False
    )
    return {path for path in said.stdout.decode().split("\0") if path}


def ignored_by_us(folder: Path, paths: list[str]) -> set[str]:
    ignore = Ignore(str(folder))
    ignore.begin()
    return {path for path in paths if ignore.names(path, folder=False)}


PATHS = [
    "a.txt",
    "b.txt",
    "a.log",
    "sub/a.txt",
    "sub/a.log",
    "sub/deep/a.txt",
    "sub/deep/b.log",
    "build/x",
    "build/sub/y",
    "docs/build/z",
    "out.txt",
    "*.txt",
    "#x",
    "!x",
    "[x]",
    "x-1",
    "x-2",
    "data/1.csv",
    "data/keep.csv",
    "data/sub/2.csv",
    "aXb",
    "a/b/c",
    "a/c",
    "ab.txt",
]
CASES = [
    "*.log",
    "/a.txt",
    "build/",
    "build",
    "/build/",
    "sub/*.txt",
    "sub/**",
    "**/build",
    "**/deep/*.txt",
    "a/**/c",
    "data/*\n!data/keep.csv",
    "data/\n!data/keep.csv",
    "*.csv\n!keep.csv",
    "\\#x\n\\!x",
    "# comment\n\na.txt  ",
    "x-[12]",
    "x-[!1]",
    "a?b",
    "*",
    "*\n!*.txt",
    "**",
    "/**",
    "sub/deep",
    "\\*.txt",
    "[x",
    "[]x]",
    "a\\",
    "!",
    "/",
    "!a.txt\na.txt",
    "a.txt\n!a.txt",
    "sub/\n!sub/a.txt",
    "deep/",
    "build//",
    "//build",
    "sub//deep",
]


@pytest.mark.parametrize("rules", CASES)
def test_an_ignore_file_means_what_git_says(rules: str, tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text(rules)
    assert ignored_by_us(tmp_path, PATHS) == ignored_by_git(tmp_path, PATHS)


WORDS = st.lists(st.sampled_from(["a", "b", "*", "**", "?", "/", "sub", "[ab]", ".txt", "!"]), min_size=1, max_size=6).map("".join)
# Without `a**/b`: gitignore(5) says that these are ordinary asterisks, but git 2.39 lets them match folders too.
RULE = WORDS.filter(lambda rule: not re.search(r"[^/!]\*\*|\*\*[^/]", rule))
PATH = st.lists(st.sampled_from(["a", "b", "sub", "a.txt", "ab"]), min_size=1, max_size=4).map("/".join)


@given(st.lists(RULE, min_size=1, max_size=4), st.lists(PATH, min_size=1, max_size=20, unique=True))
def test_generated_ignore_files_mean_what_git_says(tmp_path_factory: pytest.TempPathFactory, rules: list[str], paths: list[str]) -> None:
    folder = tmp_path_factory.mktemp("git")
    (folder / ".gitignore").write_text("\n".join(rules))
    assert ignored_by_us(folder, paths) == ignored_by_git(folder, paths), rules


def test_azures_ignore_file_comes_first(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("a.txt")
    (tmp_path / ".amlignore").write_text("b.txt")
    assert ignored_by_us(tmp_path, ["a.txt", "b.txt"]) == {"b.txt"}


def test_a_changed_ignore_file_is_read_again(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("a.txt")
    ignore = Ignore(str(tmp_path))
    ignore.begin()
    assert ignore.names("a.txt", folder=False)
    (tmp_path / ".gitignore").write_text("other")
    ignore.begin()
    assert not ignore.names("a.txt", folder=False)
    (tmp_path / ".gitignore").unlink()
    ignore.begin()
    assert ignore.name == ""


@pytest.mark.parametrize("rule", ["*a" * 90 + "b", "/".join(["**"] + ["a*"] * 60), "a" * 65000, "*\n" * 32000])
def test_the_worst_ignore_file_takes_bounded_time_and_is_not_followed(rule: str, tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text(f"{rule}\n" * 200)
    ignore = Ignore(str(tmp_path))
    paths = [f"{'a' * 200}/{'a' * 200}/{'a' * 200}{n}" for n in range(5000)]
    started = time.process_time()
    ignore.begin()
    for path in paths:
        ignore.names(path, folder=False)
    assert time.process_time() - started < 5
    assert ignore.problem
