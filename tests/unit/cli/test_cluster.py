"""How kubectl is called, and how its stream of objects is read."""

import io
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from flowsession_cli import cluster
from flowsession_cli.errors import CliError


def test_documents_come_as_they_are_printed_even_in_pieces():
    first, second = {"type": "ADDED", "object": {"name": "ü" * 40_000}}, {"type": "DELETED", "object": {}}
    script = f"import sys; sys.stdout.write({json.dumps(first, ensure_ascii=False, indent=2)!r} + chr(10) + {json.dumps(second)!r})"
    process = subprocess.Popen([sys.executable, "-X", "utf8", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert list(cluster._documents(process)) == [first, second]


def test_a_watch_that_fails_says_why():
    script = "import sys; sys.stderr.write('Unable to connect to the server: no route'); sys.exit(1)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with pytest.raises(cluster.CliError, match="doesn't answer"):
        list(cluster._documents(process))


def test_the_users_options_go_to_kubectl():
    chosen = cluster.Cluster(namespace="team", context="prod", kubeconfig="/k")
    assert chosen.command("get", "x") == ["kubectl", "--kubeconfig=/k", "--context=prod", "--namespace=team", "get", "x"]
    assert cluster.Cluster().command("get") == ["kubectl", "get"]


def test_a_review_asks_for_no_more_than_itself(monkeypatch):
    """`kubectl create` of a review lists the cluster's CRDs first, which only administrators may do."""
    called = []
    answer = '{"status": {"userInfo": {"username": "ada"}}}'
    monkeypatch.setattr(cluster.Cluster, "call", lambda self, *words, stdin: called.append((words, json.loads(stdin))) or answer)
    assert cluster.Cluster().user() == "ada"
    ((words, body),) = called
    assert words == ("create", "--raw", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "-f", "-")
    assert body == {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}


def install_kubectl(folder, monkeypatch, script):
    """Let this shell script be the kubectl that is found."""
    (folder / "kubectl").write_text(f"#!/bin/sh\n{script}")
    (folder / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_what_a_login_program_asks_is_shown_while_it_waits(tmp_path, monkeypatch):
    """Otherwise a call would hang for no visible reason."""
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.01)
    done = tmp_path / "done"
    asks = f"echo 'open https://login and enter ABC' >&2\nwhile [ ! -e {done} ]; do sleep 0.05; done\necho yes\n"
    install_kubectl(tmp_path, monkeypatch, asks)
    shown = io.BytesIO()  # capsys loses what is written while it is read
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(shown, write_through=True))
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(cluster.Cluster().call, "get", "x")
        deadline = time.monotonic() + 30
        while b"ABC" not in shown.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        done.touch()
        assert answer.result() == "yes\n"
    assert shown.getvalue() == b"open https://login and enter ABC\n"


def test_a_failure_is_told_once_however_long_the_call_took(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 60.0)
    install_kubectl(tmp_path, monkeypatch, "echo 'Error from server (NotFound): pods \"x\" not found' >&2\nexit 1\n")
    with pytest.raises(CliError, match="not found"):
        cluster.Cluster().call("get", "pod", "x")
    assert capsys.readouterr().err == ""


def test_without_kubectl_it_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(cluster.CliError, match="kubectl is not on the PATH"):
        cluster.Cluster().call("version")
    assert cluster.Cluster().names("pods") == []
