"""Long-running programs that outlive this command: started once, recognized later, reliably stopped."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from localcluster import files, procfs, wait
from localcluster.say import CannotContinue

_LOG_LIMIT_BYTES = 50_000_000
_GOGC = "400"
"""Collect garbage when the heap has grown fivefold, not twofold: memory is plentiful here, and it saves the API server an eighth of its
CPU time."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Daemon:
    """A program with its log, and a pid file that distinguishes our process from a later one with the same number.

    The pid file holds pid, start time and boot, and a fingerprint of the command line and its configuration files. So `start` restarts
    a program whose configuration changed and leaves every other one alone.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        folder: Path,
        configuration: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
        ports: Sequence[tuple[str, int]] = (),
    ) -> None:
        self.name = name
        self.argv = [str(word) for word in argv]
        self.log = folder / "logs" / f"{name}.log"
        self.ports = ports
        self._record = folder / "pids" / f"{name}.json"
        self._configuration = configuration
        self._environment = environment or {}
        self._child: subprocess.Popen[bytes] | None = None

    def pid(self) -> int | None:
        """Return the process id, or None if the program isn't running. A pid file of a killed process or another boot is ignored."""
        if self._child is not None:
            self._child.poll()
        try:
            record = json.loads(self._record.read_text())
        except (FileNotFoundError, ValueError):
            return self._adopt()
        started = procfs.start_time(record["pid"])
        if started is not None and started == record["start"] and record["boot"] == procfs.boot_id():
            return int(record["pid"])
        return self._adopt()

    def started_at(self) -> float:
        """Return the start's Unix time from the pid file, or 0 if there is no pid file."""
        try:
            return float(json.loads(self._record.read_text())["at"])
        except (FileNotFoundError, ValueError):
            return 0.0

    def start(self) -> bool:
        """Start the program with this command line and configuration. Return False if it was running like that already.

        Raises CannotContinue if another process uses one of its ports.
        """
        if self.pid() is not None:
            if json.loads(self._record.read_text())["fingerprint"] == self._fingerprint():
                return False
            self.stop()
        self.check_ports()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".log.old"))
        # Pods inherit containerd's limit of open files. Soft limits of 1024 break real workloads.
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": f"{Path(self.argv[0]).parent}:{_PATH}", "HOME": "/root", "GOGC": _GOGC, **self._environment},
                start_new_session=True,
            )
        self._note(self._child.pid, fingerprint=self._fingerprint())
        return True

    def check_ports(self) -> None:
        """Raise CannotContinue if another process listens on one of its ports."""
        for address, port in self.ports:
            for listening, inode in procfs.listeners(port):
                if address == "0.0.0.0" or listening in (address, "0.0.0.0", "::"):  # noqa: S104 (a comparison)
                    raise CannotContinue(
                        f"port {port} on {address}, which {self.name} needs, is in use by {procfs.owner(inode)};"
                        " stop that and run this again."
                    )

    def stop(self, *, seconds: float = 20) -> None:
        """Send SIGTERM, then SIGKILL if it does not exit in time. Return when the process is gone."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            if not wait.until(lambda: self.pid() != pid, seconds=seconds):
                os.kill(pid, signal.SIGKILL)
                wait.until(lambda: self.pid() != pid, seconds=10)
        self._record.unlink(missing_ok=True)

    def check_alive(self) -> None:
        """Raise CannotContinue with the log's last line if the program is not running."""
        if self.pid() is None:
            raise CannotContinue(f"{self.name} stopped by itself; {self.last_words()}")

    def last_words(self) -> str:
        """Return the log file's name and last line, for messages. For a crashed Go program, use the line with the cause."""
        lines = self.log.read_text(errors="replace").splitlines()[-500:] if self.log.exists() else []
        last = lines[-1] if lines else "(nothing)"
        if last.startswith("\t"):
            last = next((line for line in reversed(lines) if line.startswith(("panic:", "fatal error:"))), last)
        return f"its log {self.log} ends with: {last.strip()[:400]}"

    def _adopt(self) -> int | None:
        """Find our process if the tool was killed before it wrote the pid. No other process has exactly this command line."""
        for pid in procfs.processes():
            if procfs.command_line(pid) == self.argv:
                # The configuration that it was started with is unknown, and an empty fingerprint makes `start` restart it.
                self._note(pid, fingerprint="")
                return pid
        return None

    def _note(self, pid: int, *, fingerprint: str) -> None:
        record = {"pid": pid, "start": procfs.start_time(pid), "boot": procfs.boot_id(), "at": time.time(), "fingerprint": fingerprint}
        files.write(self._record, json.dumps(record))

    def _fingerprint(self) -> str:
        """Return a hash of everything that determines its behavior: command line, environment, configuration files."""
        digest = hashlib.sha256(json.dumps([self.argv, sorted(self._environment.items())]).encode())
        for path in self._configuration:
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]
