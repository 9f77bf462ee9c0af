"""The local cluster's decisions that need no cluster: whose process it is, what must be rebuilt, and how the machine is configured."""

import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import context, files, network, nodes, package_index, pause, procfs, wait
from localcluster.daemons import Daemon
from localcluster.kubeconfig import Api
from localcluster.kubeconfig import write as write_kubeconfig
from localcluster.say import CannotContinue

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def daemon(folder: Path, *, argv: list[str] | None = None, configuration: list[Path] | None = None) -> Daemon:
    # The folder makes the command line unique, as every real component's is.
    return Daemon("sleeper", [*(argv or SLEEPER), str(folder)], folder=folder, configuration=configuration or [])


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Daemon]:
    one = daemon(tmp_path)
    one.start()
    yield one
    one.stop()


def test_a_daemon_is_started_once(running: Daemon, tmp_path: Path) -> None:
    pid = running.pid()
    assert daemon(tmp_path).start() is False
    assert daemon(tmp_path).pid() == pid


def test_a_stopped_daemon_leaves_no_process_and_no_pid_file(running: Daemon, tmp_path: Path) -> None:
    pid = running.pid()
    assert pid is not None
    running.stop()
    assert procfs.start_time(pid) is None
    assert list((tmp_path / "pids").iterdir()) == []


def test_a_pid_that_now_belongs_to_another_process_is_not_ours(running: Daemon, tmp_path: Path) -> None:
    record = tmp_path / "pids" / "sleeper.json"
    running.stop()
    start = procfs.start_time(os.getpid())
    assert start is not None
    record.write_text(json.dumps({"pid": os.getpid(), "start": start - 1, "boot": procfs.boot_id(), "at": 0, "fingerprint": "x"}))
    assert running.pid() is None
    record.write_text(json.dumps({"pid": os.getpid(), "start": start, "boot": "another", "at": 0, "fingerprint": "x"}))
    assert running.pid() is None


@pytest.mark.parametrize("text", ["", '{"pid": 1'])
def test_a_process_whose_pid_file_was_lost_is_found_by_its_words_and_restarted(running: Daemon, tmp_path: Path, text: str) -> None:
    pid = running.pid()
    record = tmp_path / "pids" / "sleeper.json"
    record.write_text(text) if text else record.unlink()
    assert running.pid() == pid
    assert running.start() is True, "nobody knows any more with what configuration it was started"
    assert running.pid() != pid


def test_a_changed_configuration_restarts_and_an_unchanged_one_does_not(tmp_path: Path) -> None:
    configuration = tmp_path / "config"
    configuration.write_text("one")
    one = daemon(tmp_path, configuration=[configuration])
    try:
        assert one.start() is True
        before = one.pid()
        assert one.start() is False
        configuration.write_text("two")
        assert one.start() is True
        assert one.pid() != before
    finally:
        one.stop()


def test_a_daemon_that_ends_by_itself_is_named_with_its_log_and_last_line(tmp_path: Path) -> None:
    one = daemon(tmp_path, argv=[sys.executable, "-c", "print('no such flag: --x')"])
    one.start()
    assert wait.until(lambda: one.pid() is None, seconds=10)
    with pytest.raises(
        CannotContinue, match=rf"sleeper stopped by itself; its log {tmp_path}/logs/sleeper.log ends with: no such flag: --x"
    ):
        one.check_alive()


def test_of_a_crashed_go_program_the_reason_is_told_and_not_the_stack(tmp_path: Path) -> None:
    one = daemon(tmp_path)
    one.log.parent.mkdir()
    one.log.write_text("I1 fine\npanic: store is broken\n\ngoroutine 1 [running]:\nmain.main()\n\t/main.go:75 +0x18d\n")
    assert one.last_words() == f"its log {one.log} ends with: panic: store is broken"


def test_a_daemon_that_ignores_the_kind_signal_is_killed(tmp_path: Path) -> None:
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    one = daemon(tmp_path, argv=[sys.executable, "-c", script])
    one.start()
    assert wait.until(lambda: "deaf" in one.log.read_text(), seconds=10)
    pid = one.pid()
    assert pid is not None
    one.stop(seconds=0.2)
    assert procfs.start_time(pid) is None


def test_a_port_in_use_names_the_program_that_uses_it(tmp_path: Path) -> None:
    script = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        taken = Daemon("apiserver", [*SLEEPER, str(tmp_path)], folder=tmp_path, ports=[("0.0.0.0", port)])
        with pytest.raises(CannotContinue, match=rf"port {port} on 0.0.0.0, which apiserver needs, is in use by \S+ \(pid {other.pid}\)"):
            taken.start()
        elsewhere = Daemon("apiserver", [*SLEEPER, str(tmp_path)], folder=tmp_path, ports=[("127.0.0.2", port)])
        elsewhere.check_ports()
        other.send_signal(signal.SIGKILL)


def test_a_process_that_is_gone_has_no_start_time() -> None:
    child = subprocess.Popen(["true"])
    assert wait.until(lambda: procfs.start_time(child.pid) is None, seconds=10), "a zombie counts as gone"
    child.wait()
    assert procfs.command_line(child.pid) == []


def test_a_file_is_written_whole_with_its_mode_and_left_alone_when_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    files.write(path, "one", mode=0o600)
    before = path.stat()
    files.write(path, "one", mode=0o600)
    assert (path.read_text(), path.stat().st_mode & 0o777, path.stat().st_ino) == ("one", 0o600, before.st_ino)
    files.write(path, "two")
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("path", "patterns", "ignored"),
    [
        ("a.py", [], False),
        ("a.py", ["*.py"], True),
        ("deep/a.py", ["*.py"], False),
        ("deep/a.py", ["**/*.py"], True),
        ("a.py", ["**/*.py"], True),
        ("deep/er/a.py", ["deep"], True),
        ("deep/er/a.py", ["/deep/"], True),
        ("deeper/a.py", ["deep"], False),
        ("operator/x/a.py", ["*", "!operator"], False),
        ("docs/a.md", ["*", "!operator"], True),
        ("operator/x/__pycache__/a.pyc", ["*", "!operator", "**/__pycache__"], True),
        ("images/runtime/Dockerfile.dockerignore", ["*", "!images/runtime", "images/runtime/Dockerfile*"], True),
        ("images/runtime/a.txt", ["*", "!images/runtime", "images/runtime/Dockerfile*"], False),
        ("a1", ["a?"], True),
        ("logs/deep/x", ["logs/**"], True),
    ],
)
def test_ignore_files_mean_what_docker_says(path: str, patterns: list[str], ignored: bool) -> None:
    assert context.ignored(path, patterns) is ignored


def test_an_image_tag_follows_what_the_build_can_see_and_nothing_else(tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch")
    (tmp_path / "Dockerfile.dockerignore").write_text("# ours\n*\n!src\n**/__pycache__\n")
    source = tmp_path / "src" / "a.py"
    source.parent.mkdir()
    source.write_text("1")
    tag = context.content_tag(dockerfile, tmp_path, {"BASE": "x:1"})

    (tmp_path / "README.md").write_text("not in the build")
    (tmp_path / "src" / "__pycache__").mkdir()
    (tmp_path / "src" / "__pycache__" / "a.pyc").write_text("2")
    assert context.content_tag(dockerfile, tmp_path, {"BASE": "x:1"}) == tag

    assert context.content_tag(dockerfile, tmp_path, {"BASE": "x:2"}) != tag
    source.chmod(0o755)
    assert context.content_tag(dockerfile, tmp_path, {"BASE": "x:1"}) != tag
    source.chmod(0o644)
    source.write_text("3")
    assert context.content_tag(dockerfile, tmp_path, {"BASE": "x:1"}) != tag


def test_the_pause_image_is_the_same_for_the_same_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWSESSION_CACHE", str(tmp_path))
    program = pause.PAUSE.binary("pause")
    program.write_bytes(b"ELF")
    archive = pause.archive()
    with tarfile.open(archive) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert manifest[0]["RepoTags"] == [pause.reference()]
    first = archive.read_bytes()
    archive.unlink()
    assert pause.archive().read_bytes() == first


def test_pip_configuration_is_read_as_pip_prints_it() -> None:
    output = ":env:.cert='/env.crt'\nglobal.cert='/etc/ca.crt'\nglobal.extra-index-url='\\nhttps://a.example/simple\\nhttps://b.example/simple'\nuser.x='1'\n"
    assert package_index.parse_pip_config_list(output) == {
        "cert": "/etc/ca.crt",
        "extra-index-url": "https://a.example/simple https://b.example/simple",
    }


def test_the_machines_index_settings_come_from_its_environment_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "ca.crt"
    bundle.write_text("certificates")
    for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        package_index, "_pip_configuration", lambda: {"index-url": "https://file.example", "timeout": "9", "cert": str(bundle)}
    )
    monkeypatch.setenv("PIP_INDEX_URL", "https://env.example/simple")
    monkeypatch.delenv("PIP_DEFAULT_TIMEOUT", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    settings = package_index.read()
    assert settings.pip_conf() == "[global]\nindex-url = https://env.example/simple\ntimeout = 9\n"
    environment = settings.environment(ca_bundle="/ca/ca.pem")
    assert environment["PIP_INDEX_URL"] == "https://env.example/simple"
    assert environment["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert environment["PIP_CERT"] == environment["SSL_CERT_FILE"] == "/ca/ca.pem"
    assert package_index.build_secrets(settings, tmp_path / "work") == {"pip.conf": tmp_path / "work" / "pip.conf", "ca.pem": bundle}


def test_resolvers_are_the_nameservers_three_at_most() -> None:
    text = "# nameserver 9.9.9.9\nsearch a.example\n" + "".join(
        f"nameserver {a}\n" for a in ("192.0.2.53", "192.0.2.54", "", "::1", "192.0.2.55")
    )
    assert nodes.nameservers(text) == ["192.0.2.53", "192.0.2.54", "::1"]


@pytest.mark.parametrize(
    ("routes", "overlap"),
    [
        ([{"dst": "default", "dev": "eth0"}, {"dst": "192.0.2.0/24", "dev": "eth0"}], False),
        ([{"dst": "10.244.1.7", "dev": "veth0a"}, {"dst": "10.245.0.1", "dev": "flowsession0"}], False),
        ([{"dst": "10.0.0.0/8", "dev": "tun0"}], True),
        ([{"dst": "10.96.0.0/12", "dev": "tun0"}], True),
    ],
)
def test_an_address_range_in_use_is_told_apart_from_our_own(
    routes: list[dict[str, str]], overlap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "run", lambda *_: json.dumps(routes))
    if overlap:
        with pytest.raises(CannotContinue, match=r"overlaps this machine's route to 10\..* by tun0"):
            network.check_free()
    else:
        network.check_free()


def test_a_kubeconfig_is_private_and_stands_alone(tmp_path: Path) -> None:
    ca = tmp_path / "ca.crt"
    ca.write_text("certificate")
    path = write_kubeconfig(tmp_path / "kubeconfig", Api("https://127.0.0.1:1", ca, "secret"), user="system:node:node-a")
    assert path.stat().st_mode & 0o777 == 0o600
    assert str(tmp_path) not in path.read_text()
