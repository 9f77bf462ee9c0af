"""A server in the session with a connected client is work, and finding out that none has one is cheap."""

from pathlib import Path

import pytest

from flowsession_agent.session import connections

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ROW = "   0: 0100007F:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"
AGENT = ROW.format(port=8765, state=connections.LISTEN, inode=1)
SERVER = ROW.format(port=5000, state=connections.LISTEN, inode=2)
CLIENT = ROW.format(port=5000, state=connections.ESTABLISHED, inode=3)


class Proc:
    """A /proc with one process of the session, which holds the server's socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "net").mkdir()
        descriptors = folder / "7" / "fd"
        descriptors.mkdir(parents=True)
        (descriptors / "3").symlink_to("socket:[2]")

    def has(self, *rows: str, name: str = "tcp") -> None:
        (self.folder / "net" / name).write_text(HEAD + "".join(rows))

    def counts(self, four: int | None, six: int | None = None) -> None:
        for name, head, count in (("sockstat", "TCP", four), ("sockstat6", "TCP6", six)):
            if count is not None:
                (self.folder / "net" / name).write_text(f"sockets: used 9\n{head}: inuse {count} orphan 0 tw 0\nUDP: inuse 0\n")

    def served(self, *pids: int) -> str:
        return connections.served(str(self.folder), list(pids))


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


@pytest.mark.parametrize(("four", "six"), [(3, None), (3, 0), (2, 1), (1, 2), (None, None)])
def test_a_server_with_a_client_is_found_however_they_are_counted(proc: Proc, four: int | None, six: int | None) -> None:
    proc.has(AGENT, SERVER, CLIENT)
    proc.counts(four, six)
    assert proc.served(7) == "server :5000"


def test_a_kernel_that_does_not_count_the_second_kind_is_no_kernel_without_it(proc: Proc) -> None:
    proc.has(AGENT)
    proc.has(SERVER, CLIENT, name="tcp6")
    proc.counts(1)
    assert proc.served(7) == "server :5000"


def test_listening_alone_is_no_work(proc: Proc) -> None:
    proc.has(AGENT, SERVER)
    proc.counts(2, 1)
    assert proc.served(7) == ""


@pytest.mark.parametrize(("pids", "in_use"), [((), 9), ((7,), 2)])
def test_the_lists_are_not_asked_for_where_nothing_can_be_served(proc: Proc, pids: tuple[int, ...], in_use: int) -> None:
    proc.has(AGENT, SERVER, CLIENT)  # would be found if they were read
    proc.counts(in_use, 0)
    assert proc.served(*pids) == ""


def test_others_in_the_namespace_are_not_the_sessions(proc: Proc) -> None:
    proc.has(AGENT, ROW.format(port=6000, state=connections.LISTEN, inode=8), ROW.format(port=6000, state=connections.ESTABLISHED, inode=9))
    assert proc.served(7) == ""
