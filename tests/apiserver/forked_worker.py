"""A stand-in for the operator's worker, run as `python -IS` with this file and the zygote's socket in the abstract namespace. It has
the zygote fork the real worker, which saves half a second of imports. The worker uses this process's standard streams, and this process
ends as the worker does."""

import os
import socket
import sys


def main() -> None:
    with socket.socket(socket.AF_UNIX) as zygote:
        zygote.connect(f"\0{sys.argv[1]}")
        socket.send_fds(zygote, [b"?"], [0, 1, 2])
        status = int(zygote.recv(16))
    if os.WIFSIGNALED(status):
        os.kill(os.getpid(), os.WTERMSIG(status))
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
