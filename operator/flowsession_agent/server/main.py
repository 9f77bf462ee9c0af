"""Start the agent: listen first, then load what serving needs, then serve both listeners, one thread per connection."""

from __future__ import annotations

import os
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowsession_agent.settings import Home


def serve() -> int:
    """Run the agent until the pod ends; return the exit code."""
    from flowsession_agent.errors import StartError
    from flowsession_agent.settings import read_settings

    try:
        settings = read_settings(os.environ)
        tcp = listen_tcp(settings.port)
        settings.home.make()
        os.chdir(settings.home.root)  # the folder that the container was started in may be gone
        unix = listen_unix(settings.home)
        from flowsession_agent.server.agent import Agent
        from flowsession_agent.server.listener import Listener
        from flowsession_agent.server.tokens import Keys

        keys = Keys(settings.public_keys)
    except StartError as error:
        return give_up(str(error))
    agent = Agent(settings)
    agent.environment.resume()
    Listener(tcp, agent=agent, keys=keys).open()
    Listener(unix, agent=agent, keys=None).open()
    from flowsession_agent.session import pid1

    return pid1.supervise(agent)


def listen_tcp(port: int) -> socket.socket:
    """Return a socket that listens on every address of the pod, including IPv6. Raises StartError."""
    from flowsession_agent.errors import StartError

    try:
        listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        return _listen(listener, ("::", port))
    except OSError:  # no IPv6 on this node
        try:
            return _listen(socket.socket(socket.AF_INET, socket.SOCK_STREAM), ("0.0.0.0", port))  # noqa: S104 - the pod's address
        except OSError as error:
            raise StartError(f"Can't listen on port {port} ({error.strerror}): is an agent running here already?") from error


def listen_unix(home: Home) -> socket.socket:
    """Return a socket that listens at `agent.sock` for this uid only. Raises StartError."""
    from flowsession_agent.errors import StartError

    try:
        if os.path.lexists(home.socket):
            os.unlink(home.socket)  # left by an earlier start on the same volume
        mask = os.umask(0o177)
        try:
            return _listen(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), home.socket)
        finally:
            os.umask(mask)
    except OSError as error:
        raise StartError(f"Can't listen at {home.socket} ({error.strerror or error}).") from error


def give_up(message: str) -> int:
    """Write why the agent can't start to the log and to the pod's termination message; return the exit code."""
    print(f"flowsession agent: {message}", file=sys.stderr, flush=True)
    if os.getpid() == 1:
        try:
            with open("/dev/termination-log", "w", encoding="utf-8") as file:
                file.write(message)
        except OSError:
            return 1
    return 1


def _listen(listener: socket.socket, address: object) -> socket.socket:
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)  # type: ignore[arg-type]
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener
