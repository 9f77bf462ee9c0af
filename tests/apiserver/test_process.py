"""The operator as people start it: the command, its own Secret, its exit, and its messages when it can't work."""

import base64
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from apiserver.api import Object, eventually
from apiserver.lab import Lab
from apiserver.operator_process import NAMESPACE, environment

SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/flowsession-agent-keys"


@pytest.fixture
def command(lab: Lab) -> Iterator[subprocess.Popen[str]]:
    """Run `python -m flowsession` in its own process group."""
    words, environ = lab.operator.command()
    process = subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_the_command_serves_and_ends_on_sigterm_with_0(lab: Lab, command: subprocess.Popen[str]) -> None:
    lab.create_environment()
    lab.create_session()
    lab.until_ready(seconds=30)
    command.send_signal(signal.SIGTERM)
    output, _ = command.communicate(timeout=60)
    assert command.returncode == 0, output[-2000:]
    assert "Traceback" not in output


def test_the_key_is_made_once_and_only_its_public_half_leaves(lab: Lab) -> None:
    lab.api.delete(SECRET)
    lab.operator.start()
    made = lab.api.get(SECRET)
    pem = base64.b64decode(made["data"]["private.pem"]).decode()
    lab.operator.restart()
    assert lab.api.get(SECRET)["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    lab.create_environment()
    lab.create_session()
    lab.until_ready()
    spec = str(lab.the_pod())
    assert "PRIVATE KEY" not in spec
    assert pem.splitlines()[1] not in spec
    assert pem.splitlines()[1] not in lab.operator.last_words()


def test_killed_while_the_key_is_made(lab: Lab) -> None:
    lab.api.delete(SECRET)
    fault = lab.recorder.inject(lambda r: r.line == "POST secrets", lab.recorder.kill_after)
    lab.operator.start(wait=False)
    assert fault.done.wait(60)
    made = lab.api.get(SECRET)
    lab.operator.start()
    assert lab.api.get(SECRET)["metadata"]["uid"] == made["metadata"]["uid"]


@pytest.mark.parametrize(
    ("pem", "says"),
    [("not a key", "flowsession-agent-keys"), ("", "flowsession-agent-keys")],
)
def test_a_spoilt_key_is_one_sentence(lab: Lab, pem: str, says: str) -> None:
    lab.api.delete(SECRET)
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "flowsession-agent-keys"}, "stringData": {"private.pem": pem}}
    lab.api.post(f"/api/v1/namespaces/{NAMESPACE}/secrets", body)
    try:
        lab.operator.start(wait=False)
        eventually(lambda: not lab.operator.running, what="it gives up")
        assert says in lab.operator.last_words()
        assert "Traceback" not in lab.operator.last_words()
    finally:
        lab.api.delete(SECRET)


def test_no_cluster_is_one_sentence(lab: Lab) -> None:
    words, _ = lab.operator.command()
    environ = environment(KUBECONFIG="/nonexistent", HOME="/nonexistent")
    found = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=90, check=False)
    assert found.returncode == 1
    assert "set KUBECONFIG" in found.stderr
    assert "Traceback" not in found.stderr


def test_an_api_server_that_is_away_for_a_moment_ends_nothing(started: Lab) -> None:
    started.create_environment()
    started.until_environment("Resolved")
    started.recorder.inject(
        lambda r: r.namespace == started.namespace, started.recorder.answer(503, "ServiceUnavailable", "injected"), times=4
    )
    started.recorder.cut_watches("computesessions", "pods")
    started.create_session()
    started.until_ready()
    assert started.operator.running


def test_what_is_watched_is_heard_in_the_event_loop_and_not_in_threads(started: Lab) -> None:
    """Cache and queue belong to one thread, so a hundred concurrent changes leave both consistent."""
    started.create_environment()
    started.until_environment("Resolved")
    path = started.path("computesessions")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: started.create_session(f"s{n}"), range(30)))
        names = [item["metadata"]["name"] for item in started.api.get(path)["items"]]
        for turn in range(3):
            list(pool.map(lambda name, turn=turn: started.api.patch(f"{path}/{name}", {"metadata": {"labels": {"t": f"x{turn}"}}}), names))
    for name in names:
        started.until_ready(name, seconds=30)
    assert started.operator.lines("error") == []
    names_of_all = [Path(task, "comm").read_text().strip() for task in Path(f"/proc/{started.operator.pid}/task").iterdir()]
    threads = [name for name in names_of_all if name != "libuv-worker"]  # these resolve names and read files, and run none of our code
    assert len(threads) <= 4, f"{len(threads)} threads: handlers run in kopf's pool"


def test_crds_of_another_version_are_named_in_the_log(started: Lab) -> None:
    """An unreadable object is logged, and the others are served."""
    started.create_environment()
    path = started.path("computesessions")
    body = {"apiVersion": "flowsession.dev/v1alpha1", "kind": "ComputeSession", "metadata": {"name": "ada"}, "spec": {"user": "x"}}
    body["spec"] = {"user": "ada", "environmentRef": {"name": "env"}, "tomorrowsField": 1}
    started.api.post(path, body)
    started.until_ready()


def test_the_log_tells_each_sessions_life_in_one_line_a_step(started: Lab) -> None:
    started.create_environment()
    started.create_session()
    pod = started.until_ready()["status"]["podName"]
    started.api.delete(started.path("computesessions", "ada"))
    key = f"{started.namespace}/ada"

    def lines() -> list[Object]:
        found = [line for line in started.operator.lines("info") if line.get("key") == key and line["message"].startswith("session ")]
        assert [line["message"] for line in found] == ["session started", "session ended"], found
        return found

    start, end = eventually(lines)
    assert {"user": "ada@example.com", "environment": "env", "why": "its first start", "pod": pod}.items() <= start.items()
    assert start["seconds"] >= 0
    assert {"reason": "Deleted", "user": "ada@example.com"}.items() <= end.items()
