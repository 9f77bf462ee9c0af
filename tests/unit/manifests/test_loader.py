"""The tiny program that starts the agent in images without one: it checks the agent's hash, and refuses a Python that is too old."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowsession.manifests import session_pod
from flowsession.reconcile.session.start import pod_of
from unit.builders import resolved, session_snapshot

OLD = sorted(
    python for python in Path.home().glob(".pyenv/versions/*/bin/python") if python.parents[1].name.startswith(("2.", "3.6", "3.7", "3.8"))
)
"""Interpreters too old for a session, if this machine has any."""

AGENT = b"import os, sys\nprint('agent', sys.flags.isolated, os.path.basename(sys.argv[0]))\n"


@pytest.fixture
def loader() -> str:
    command = session_pod.manifest(pod_of(session_snapshot(), resolved(baseImage="python:3.12"), 1))["spec"]["containers"][0]["command"]
    assert command[:3] == ["python3", "-I", "-c"]
    return command[3]


def load(loader: str, home: Path, *, python: str = sys.executable, sha256: str | None = None) -> subprocess.CompletedProcess[str]:
    agent = home / "mounted.pyz"
    agent.write_bytes(AGENT)
    return subprocess.run(
        [python, "-c", loader, str(agent), sha256 or hashlib.sha256(AGENT).hexdigest()],
        env={"PATH": os.environ["PATH"], "FLOWSESSION_HOME": str(home / "session")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_it_runs_a_checked_copy(loader, tmp_path):
    done = load(loader, tmp_path)
    assert (done.returncode, done.stdout) == (0, "agent 1 agent.pyz\n"), done.stderr
    assert (tmp_path / "session" / "agent.pyz").read_bytes() == AGENT


def test_it_refuses_another_agent_than_the_operators(loader, tmp_path):
    done = load(loader, tmp_path, sha256="0" * 64)
    assert done.returncode == 65
    assert "is not the one that the operator shipped" in done.stderr


def test_a_python_that_is_too_old_is_told(loader, tmp_path):
    done = load(f"import sys; sys.version_info = (3, 8, 18); sys.version = '3.8.18 (main)'\n{loader}", tmp_path)
    assert done.returncode == 64
    assert "Python 3.8.18 in this image is too old: a session needs 3.9 or newer" in done.stderr


def test_every_real_old_python_can_say_so(loader, tmp_path):
    for python in OLD:
        done = load(loader, tmp_path, python=str(python))
        assert (done.returncode, "is too old" in done.stderr) == (64, True), (python, done.stderr)


def test_in_a_session_that_has_packages_the_image_s_own_python_runs_the_agent(loader, tmp_path):
    """After a restart of the container, the session's venv may come first in PATH."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    show = AGENT + b"print(sys.prefix == sys.base_prefix)\n"
    (tmp_path / "mounted.pyz").write_bytes(show)
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "python", "-I", "-c", loader, tmp_path / "mounted.pyz", hashlib.sha256(show).hexdigest()],
        env={"PATH": os.environ["PATH"], "FLOWSESSION_HOME": str(tmp_path / "session")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout.splitlines() == ["agent 1 agent.pyz", "True"], done.stderr
