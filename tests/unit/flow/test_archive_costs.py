"""Processor time that a stranger's archive costs the operator's one thread: the worst input within each limit, and input just above it."""

import gzip
import io
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable

import pytest

from flowsession.flow import archive
from flowsession.flow.archive import (
    BLOCK,
    DEEPEST,
    MOST_HEADERS,
    MOST_HOPS,
    MOST_IN_A_ROW,
    MOST_LINKS,
    MOST_RECORDS,
    ArchiveError,
)
from flowsession_protocol.limits import ARCHIVE_FILES, FLOW_BYTES, PATH_BYTES

CONFIG_MAP = 1024 * 1024
"""Bytes that a ConfigMap holds."""

BOUND = 1.0
"""Seconds of processor time. Input within the limits takes up to 0.13 s; input beyond them took up to hours."""


def spent(data: bytes) -> tuple[float, str]:
    """Return the processor seconds of unpacking, and the reason for a refusal."""
    assert len(data) <= CONFIG_MAP
    began = time.process_time()
    try:
        archive.unpack(data)
    except ArchiveError as error:
        return time.process_time() - began, str(error)
    return time.process_time() - began, ""


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, target: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, target
    return info.tobuf(tarfile.USTAR_FORMAT, errors="surrogateescape")


def block(kind: bytes, content: bytes) -> bytes:
    """Return a header about the next member, with its content."""
    return header("x", kind, len(content)) + content + bytes(-len(content) % BLOCK)


def tar(*parts: bytes) -> bytes:
    return gzip.compress(b"".join(parts) + bytes(1024), 9)


def record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length += 1
    return str(length).encode() + body


FILE = header("a")
LARGEST_HEADER = 64 * 1024
PAX = (b"5 a=\n" * (LARGEST_HEADER // 5))[:65_535]
PAX_RECORDS = len(PAX) // 5
DEEP = "/".join(["d" * 19] * DEEPEST)[: PATH_BYTES - 24]


def deep(number: int) -> str:
    return f"{DEEP}/f{number:05}"


def long_names(kind: bytes) -> bytes:
    if kind == b"x":
        return tar(*(block(b"x", record("path", deep(n))) + FILE for n in range(ARCHIVE_FILES)))
    return tar(*(block(b"L", deep(n).encode()) + FILE for n in range(ARCHIVE_FILES)))


def linked(kind: bytes, target: str) -> bytes:
    return block(b"x", record("path", f"{'d/' * (DEEPEST - 1)}l{kind.decode()}") + record("linkpath", target)) + header(
        "x", tarfile.SYMTYPE
    )


def chained_links() -> bytes:
    """Return the most links that are allowed, chained, each with the longest path that is allowed."""
    folder = "d/" * 40
    around = "x/../" * ((PATH_BYTES - 20) // 5)
    parts = [block(b"L", f"{folder}end".encode()) + FILE]
    for n in range(MOST_LINKS):
        hop = n % (MOST_HOPS - 1)
        target = around + ("end" if hop == 0 else f"l{n - 1}")
        parts.append(block(b"x", record("path", f"{folder}l{n}") + record("linkpath", target)) + header("x", tarfile.SYMTYPE))
    return tar(*parts)


def links_to_folders() -> bytes:
    each = ARCHIVE_FILES // MOST_LINKS - 2
    files = (header(f"data/f{n}") for n in range(each))
    return tar(*files, *(header(f"link{n}", tarfile.SYMTYPE, target="data") for n in range(MOST_LINKS)))


EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"


def empty_blocks(size: int) -> bytes:
    """Return a deflate stream of `size` bytes that unpacks to nothing."""
    return EMPTY_BLOCK * (size // 5) + b"\x03\x00"


def gzip_of_nothing() -> bytes:
    return b"\x1f\x8b\x08" + bytes(7) + empty_blocks(CONFIG_MAP - 64) + struct.pack("<II", zlib.crc32(b""), 0)


def zipped(names: list[str], *, extra: bytes = b"", content: bytes = b"", shared: bool = False) -> bytes:
    """Make a zip by hand, as no packer would write it. `shared`: all members are the same bytes."""
    out, directory, at = io.BytesIO(), io.BytesIO(), 0
    crc = zlib.crc32(zlib.decompress(content, -15)) if content else 0
    for name in names:
        raw = name.encode()
        fields = (20, 0, 8 if content else 0, 0, 0x21, crc, len(content), 0, len(names[0].encode()) if shared else len(raw))
        if not shared or out.tell() == 0:
            at = out.tell()
            out.write(struct.pack("<IHHHHHIIIHH", 0x04034B50, *fields, 0) + raw + content)
        central = (0x02014B50, 20, *fields, len(extra), 0, 0, 0, 0, at)
        directory.write(struct.pack("<IHHHHHHIIIHHHHHII", *central) + raw + extra)
    start = out.tell()
    out.write(directory.getvalue())
    out.write(struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, len(names), len(names), out.tell() - start, start, 0))
    return out.getvalue()


def extras(length: int, members: int) -> bytes:
    return zipped([f"f{n}" for n in range(members)], extra=(b"\x99\x99\x00\x00" * (length // 4))[:length])


def one_file(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("a", bytes(FLOW_BYTES))
        return buffer.getvalue()
    return tar(header("a", size=FLOW_BYTES), bytes(FLOW_BYTES))


def zip_of_links() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("d/" * 40 + "end", b"")
        for n in range(MOST_LINKS):
            info = zipfile.ZipInfo("d/" * 40 + f"l{n}")
            info.external_attr, info.create_system = 0o120777 << 16, 3
            packed.writestr(info, "x/../" * 200 + ("end" if n % 7 == 0 else f"l{n - 1}"))
    return buffer.getvalue()


LET_IN: dict[str, Callable[[], bytes]] = {
    "records of pax headers": lambda: tar(block(b"x", PAX), block(b"x", PAX[: 5 * (MOST_RECORDS - PAX_RECORDS)]), FILE),
    "headers about headers": lambda: tar((block(b"x", b"") * MOST_IN_A_ROW + FILE) * (MOST_HEADERS // (MOST_IN_A_ROW + 1))),
    "long names of GNU": lambda: long_names(b"L"),
    "long names of pax": lambda: long_names(b"x"),
    "bytes of global headers": lambda: tar(block(b"g", record("comment", "c" * 65_000)) * 120, FILE),
    "bytes of pax headers": lambda: tar(block(b"x", record("comment", "c" * 65_000)) * 120, FILE),
    "bytes of long names": lambda: tar(block(b"L", b"a"), block(b"L", b"n" * LARGEST_HEADER) * 120, FILE),
    "members of a tar": lambda: tar(*(header(f"f{n}") for n in range(ARCHIVE_FILES))),
    "links through links": chained_links,
    "links to folders": links_to_folders,
    "bytes of a tar": lambda: one_file("tar"),
    "bytes of a zip": lambda: one_file("zip"),
    "members of a zip": lambda: zipped([f"f{n}" for n in range(ARCHIVE_FILES)]),
    "long names of a zip": lambda: zipped([deep(n) for n in range(CONFIG_MAP // (2 * PATH_BYTES + 100))]),
    "extra fields of a zip": lambda: extras(archive.LARGEST_EXTRA, 900),
    "a zip of links": zip_of_links,
}

KEPT_OUT: dict[str, tuple[Callable[[], bytes], str]] = {
    "records of pax headers": (lambda: tar(block(b"x", PAX) * 230, FILE), "records"),
    "records of global headers": (lambda: tar(block(b"g", PAX) * 120, FILE), "records"),
    "headers about headers": (lambda: tar(block(b"x", b"") * (MOST_IN_A_ROW + 1), FILE), "headers"),
    "headers about members": (lambda: tar((block(b"x", b"") * 100 + FILE) * (MOST_HEADERS // 100)), "headers"),
    "headers of every kind": (lambda: tar((block(b"x", b"") + block(b"L", b"a") + block(b"K", b"a") + block(b"g", b"")) * 4000), "headers"),
    "a name of 64 KiB": (
        lambda: tar(*(block(b"L", b"a/" * (LARGEST_HEADER // 2 - 1) + b"ab") + FILE for _ in range(120))),
        "too long a name",
    ),
    "a link of 64 KiB": (lambda: tar(*(linked(b"%d" % n, "a/../" * 13_000) for n in range(MOST_LINKS))), "a path of more than"),
    "bytes of a tar": (lambda: tar(*[header("a", size=FLOW_BYTES), bytes(FLOW_BYTES)] * 9), "more than"),
    "a gzip that unpacks to nothing": (gzip_of_nothing, "no sound"),
    "members of a zip": (lambda: zipped([f"f{n}" for n in range(2 * ARCHIVE_FILES)]), "more than"),
    "entries of a zip": (lambda: zipped(["f"] * (2 * ARCHIVE_FILES + 1)), "more than"),
    "extra fields of a zip": (lambda: extras(65_532, 15), "extra fields"),
    "shared members of a zip": (
        lambda: zipped(["f"] * ARCHIVE_FILES, content=empty_blocks(CONFIG_MAP - 100 * ARCHIVE_FILES), shared=True),
        "shares its bytes",
    ),
}


@pytest.mark.parametrize("limit", LET_IN)
def test_the_worst_that_a_limit_lets_in(limit):
    seconds, refused = spent(LET_IN[limit]())
    assert refused == ""
    assert seconds < BOUND


@pytest.mark.parametrize("limit", KEPT_OUT)
def test_what_a_limit_keeps_out_is_refused_soon(limit):
    make, why = KEPT_OUT[limit]
    seconds, refused = spent(make())
    assert why in refused
    assert seconds < BOUND
