"""A TCP relay whose connections a test can break."""

import asyncio
import contextlib

from apiserver.background import Background


class Relay:
    """Relay connections to a port of this machine. `cut` breaks them and refuses new ones until `mend`."""

    def __init__(self, background: Background, target: int) -> None:
        self._background = background
        self._target = target
        self._place = ("127.0.0.1", 0)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        return self._place[1]

    def start(self, ip: str = "127.0.0.1", port: int = 0) -> None:
        self._place = (ip, port)
        self.reopen()

    def reopen(self) -> None:
        """Listen again at the same address."""
        self._background.run(asyncio.wait_for(self._listen(), 5))

    def cut(self) -> None:
        """Break all connections and refuse new ones."""
        self._background.run(self._cut())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._hand_on, *self._place)
        self._place = (self._place[0], self._server.sockets[0].getsockname()[1])

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, inner_writer}
        self._open |= ends
        try:
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        finally:
            self._open -= ends


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
