"""A packed flow folder: plain files are unpacked under their names, everything odd is refused by name, and nothing takes long."""

import gzip
import io
import os
import stat
import tarfile
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsession.flow import archive
from flowsession.flow.archive import MOST_LINKS, ArchiveError
from flowsession.model.resolved import Resolved, Unresolved
from flowsession.reconcile.environment import resolve as resolution
from flowsession.settings import Settings
from flowsession_protocol.limits import ARCHIVE_FILES, FLOW_BYTES, PATH_BYTES
from unit.builders import DAG, config_map, spec

SOURCE = {"archive": {"configMap": {"name": "flow", "key": "flow.tar.gz"}}}


def read(data):
    return archive.unpack(data).files


def tar(*members, form=tarfile.PAX_FORMAT, level=9):
    """Return a .tar.gz of (name, content) pairs and TarInfos."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=form, compresslevel=level) as packed:
        for member in members:
            info, content = (member, b"") if isinstance(member, tarfile.TarInfo) else (tarfile.TarInfo(member[0]), member[1])
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def link(name, target):
    return special(name, tarfile.SYMTYPE, target)


def pack_zip(*members, method=zipfile.ZIP_DEFLATED):
    """Return a .zip of (name or ZipInfo, content) pairs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return buffer.getvalue()


def zip_member(name, mode=0o100644, system=3):
    info = zipfile.ZipInfo(name)
    info.external_attr, info.create_system = mode << 16, system
    return info


def refused(data):
    with pytest.raises(ArchiveError) as caught:
        read(data)
    return str(caught.value)


FILES = (("flow.dag.yaml", DAG), ("data/a.csv", b"1,2\n"), ("empty", b""), ("é/ß.txt", b"x"))


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_tar_of_every_format(form):
    long = ("d" * 90 + "/" + "f" * 90, b"long")
    assert read(tar(*FILES, long, form=form)) == dict([*FILES, long])


@pytest.mark.parametrize("name", ["n" * 200, "a/" * 40 + "f" * 120, "ü" * 120])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_longer_than_a_header_holds(name, form):
    assert read(tar((name, b"1"), ("next", b"2"), form=form)) == {name: b"1", "next": b"2"}


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_zip(method):
    assert read(pack_zip(("data/", b""), *FILES, method=method)) == dict(FILES)


def test_a_folder_packed_as_a_dot_is_its_content():
    folder = special(".", tarfile.DIRTYPE)
    assert read(tar(folder, special("./data", tarfile.DIRTYPE), ("./data/a.csv", b"1"))) == {"data/a.csv": b"1"}


def test_what_git_archive_writes_first_is_no_file():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT, pax_headers={"comment": "a" * 40}) as packed:
        packed.addfile(tarfile.TarInfo("a"), io.BytesIO(b""))
    assert read(buffer.getvalue()) == {"a": b""}


def test_the_later_of_two_members_of_one_name_counts():
    assert read(tar(("a", b"1"), ("a", b"2"))) == {"a": b"2"}
    assert read(tar(("a", b"1"), ("b", b"2"), link("a", "b"))) == {"a": b"2", "b": b"2"}


def test_a_zip_made_on_windows_has_backslashes():
    assert read(pack_zip((zip_member("data\\a.csv", system=0), b"1"))) == {"data/a.csv": b"1"}
    assert read(pack_zip((zip_member("data\\a.csv"), b"1"))) == {"data\\a.csv": b"1"}


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("real.txt", {"link": b"r"}),
        ("./sub/../real.txt", {"link": b"r"}),
        ("sub", {"link/s.txt": b"s", "link/deep/d.txt": b"d"}),
        ("sub/deep", {"link/d.txt": b"d"}),
        ("other", {"link": b"r"}),
        ("folder/s.txt", {"link": b"s"}),
    ],
)
def test_links_become_what_they_point_at(target, found):
    members = [("real.txt", b"r"), ("sub/s.txt", b"s"), ("sub/deep/d.txt", b"d")]
    links = [("other", "real.txt"), ("folder", "sub"), ("link", target)]
    for data in (
        tar(*members, *(link(*one) for one in links)),
        pack_zip(*members, *((zip_member(name, stat.S_IFLNK | 0o777), goal) for name, goal in links)),
    ):
        files = read(data)
        assert {name: content for name, content in files.items() if name.startswith("link")} == found


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("../x", b"")], ["'../x'", "outside of the archive's folder"]),
        ([("a/../../x", b"")], ["'a/../../x'", "outside"]),
        ([("a/../x", b"")], ["'a/../x'", "outside"]),
        ([("/etc/passwd", b"")], ["'/etc/passwd'", "outside", "tar -czf flow.tar.gz -C FOLDER ."]),
        ([("a", b""), special("hard", tarfile.LNKTYPE, "a")], ["'hard' is a hard link"]),
        ([special("dev/null", tarfile.CHRTYPE)], ["'dev/null' is a device"]),
        ([special("disk", tarfile.BLKTYPE)], ["'disk' is a device"]),
        ([special("pipe", tarfile.FIFOTYPE)], ["'pipe' is a pipe"]),
        ([special("odd", b"Z")], ["'odd' is of the unknown type 'Z'"]),
        ([link("l", "/etc/passwd")], ["'l' points at '/etc/passwd', outside of the archive"]),
        ([link("a/l", "../../x")], ["'a/l' points at '../../x', outside"]),
        ([link("l", "nowhere")], ["'l' points at 'nowhere', which is not in the archive"]),
        ([link("l", "l")], ["'l' goes round in circles"]),
        ([link("l", "m"), link("m", "l")], ["goes round in circles"]),
        ([("a/x", b""), link("a/l", ".")], ["'a/l' points at a folder that holds links"]),
        ([("x", b""), link("l", ".")], ["'l' points at a folder that holds links"]),
        ([("a/x", b""), link("a/m", "x"), link("l", "a")], ["'l' points at a folder that holds links", "tar -h"]),
        ([("x" * 300, b"")], ["too long a name"]),
        ([("a/" * 600 + "x", b"")], ["too long a name"]),
        ([("a/" * 60 + "x", b"")], ["more than 50 folders deep"]),
        ([("x", b""), *(link(f"l{n}", "x") for n in range(101))], ["101 symbolic links"]),
        ([("\udcff", b"")], ["not UTF-8"]),
    ],
)
def test_what_is_odd_in_a_tar_is_refused_by_its_name(members, words):
    message = refused(tar(*members))
    for word in words:
        assert word in message, message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("../x", b"")], "'../x' lies outside"),
        ([(zip_member("..\\x", system=0), b"")], "'../x' lies outside"),
        ([("/x", b"")], "'/x' lies outside"),
        ([(zip_member("dev", stat.S_IFCHR), b"")], "'dev' is a device"),
        ([(zip_member("l", stat.S_IFLNK | 0o777), b"/etc/passwd")], "'l' points at '/etc/passwd'"),
        ([(zip_member("l", stat.S_IFLNK | 0o777), b"../x")], "outside of the archive"),
    ],
)
def test_what_is_odd_in_a_zip_is_refused_by_its_name(members, words):
    assert words in refused(pack_zip(*members))


def test_an_encrypted_zip_and_an_unusual_method_are_refused():
    data = bytearray(pack_zip(("secret.txt", b"x")))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert "'secret.txt' is encrypted" in refused(bytes(data))
    assert "'x' is packed by a method other than deflate" in refused(pack_zip(("x", b"x"), method=zipfile.ZIP_LZMA))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "neither"),
        (b"hello", "neither"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\xfd7zXZ\x00", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"H4sIAAAA", "base64 text of a .tar.gz"),
        (zlib.decompress(tar(*FILES), 31), "plain tar"),
        (b"\x1f\x8b\x08garbage", "no sound .tar.gz"),
        (tar(*FILES)[:-20], "cut short"),
        (tar(*FILES) + b"more", "something behind its end"),
        (gzip.compress(b"not a tar at all" * 100), "no sound .tar.gz"),
        (gzip.compress(b""), "no sound .tar.gz"),
        (pack_zip(*FILES)[:-10], "no sound .zip"),
        (b"PK\x05\x06", "no sound .zip"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_archive_says_what_it_is(data, words):
    assert words in refused(data)


def test_a_damaged_zip_is_refused():
    data = bytearray(pack_zip(("a", b"x" * 100), method=zipfile.ZIP_STORED))
    data[50] ^= 1
    assert "no sound .zip" in refused(bytes(data))


def test_padding_behind_the_end_is_none_of_our_affair():
    assert read(tar(("a", b"")) + b"\0" * 512) == {"a": b""}


def test_padding_that_is_left_out_at_the_end_is_not_missed():
    unpacked = gzip.decompress(tar(("a", b"1")))
    assert read(gzip.compress(unpacked[: 512 + 1])) == {"a": b"1"}


ONE_MIB = 1024 * 1024
ZEROS = b"\0" * 64 * ONE_MIB
MANY = [(f"d{n % 50}/f{n}.py", b"x") for n in range(ARCHIVE_FILES)]
NEARLY_ALL = FLOW_BYTES // ARCHIVE_FILES
WORST = {
    "a bomb of zeros": lambda: gzip.compress(ZEROS),
    "a tar bomb": lambda: tar(("zeros", ZEROS)),
    "a zip bomb": lambda: pack_zip(("zeros", ZEROS)),
    "as many files as may be, tar": lambda: tar(*MANY),
    "as many files as may be, GNU tar": lambda: tar(*MANY, form=tarfile.GNU_FORMAT),
    "as many files as may be, zip": lambda: pack_zip(*MANY),
    "too many files, tar": lambda: tar(*MANY, ("one more", b"")),
    "too many files, zip": lambda: pack_zip(*MANY, ("one more", b"")),
    "as many and as large as may be, tar": lambda: tar(*((name, b"x" * NEARLY_ALL) for name, _ in MANY)),
    "as many and as large as may be, zip": lambda: pack_zip(*((name, b"x" * NEARLY_ALL) for name, _ in MANY)),
    "long names": lambda: tar(*((f"{'p' * 200}/{'q' * 200}{n}", b"") for n in range(ARCHIVE_FILES))),
    "noise": lambda: tar(("noise", os.urandom(900_000)), ("zeros", b"\0" * 7_000_000)),
    "members in the list of a zip only": lambda: b"PK\x03\x04" + b"PK\x01\x02" * 250_000,
    "links to folders": lambda: tar(*((f"a/{n}", b"") for n in range(2500)), *(link(f"l{n}", "a") for n in range(MOST_LINKS))),
    "chains of links": lambda: tar(
        *(link(f"{'d/' * 40}l{n}", f"l{n + 1}") for n in range(MOST_LINKS)),
    ),
}


@pytest.mark.parametrize("name", WORST)
def test_whatever_an_archive_says_little_comes_of_it(name):
    """All sessions share the operator's one thread and its memory. bench/resolving.py has the times."""
    data = WORST[name]()
    assert len(data) <= ONE_MIB, "more than a ConfigMap holds"
    try:
        files = read(data)
    except ArchiveError:
        assert "as may be" not in name
        return
    assert "bomb" not in name and "too many" not in name
    assert sum(map(len, files.values())) <= FLOW_BYTES
    assert len(files) <= ARCHIVE_FILES


NAMES = st.lists(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=30), min_size=1, max_size=3
)
TREES = st.dictionaries(NAMES.filter(lambda parts: not {".", ".."} & set(parts)).map("/".join), st.binary(max_size=2000), max_size=8)


@given(TREES, st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_what_tarfile_packs_comes_out_as_it_was(tree, form):
    assert read(tar(*tree.items(), form=form)) == tree


@given(TREES)
def test_what_zipfile_packs_comes_out_as_it_was(tree):
    assert read(pack_zip(*((zip_member(name), content) for name, content in tree.items()))) == tree


@given(st.data())
def test_any_damage_is_an_archive_error_or_none(data):
    sound = bytearray(data.draw(st.sampled_from([zlib.decompress(tar(*FILES, link("l", "empty")), 31), pack_zip(*FILES)])))
    for _ in range(data.draw(st.integers(1, 8))):
        sound[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    packed = bytes(sound) if sound.startswith(b"PK") else gzip.compress(bytes(sound), 1)
    try:
        files = read(packed)
    except ArchiveError:
        return
    assert all(not name.startswith("/") and ".." not in name.split("/") for name in files)


# -- in an environment


def resolve(data, source=SOURCE, **fields):
    return resolution.resolve(spec(source=source, **fields), {"flow": config_map(data)}, Settings())


def test_an_environment_from_an_archive():
    found = resolve({"flow.tar.gz": tar(*FILES, ("requirements.txt", b"pandas\n"))})
    assert isinstance(found, Resolved)
    assert (found.requirements_count, found.files["data/a.csv"], found.flow.nodes) == (1, b"1,2\n", 2)


def test_the_flow_folder_inside_and_its_includes():
    dag = b"additional_includes: [../shared]\nnodes: []\n"
    found = resolve({"flow.tar.gz": tar(("top/flow/flow.dag.yaml", dag), ("top/shared/u.py", b"u"))}, flowPath="top/flow")
    assert set(found.files) == {"flow.dag.yaml", "shared/u.py"}


def test_a_folder_packed_with_its_name_is_told_the_way():
    found = resolve({"flow.tar.gz": tar(("my-flow/flow.dag.yaml", DAG))})
    assert "set flowPath: there is one in my-flow" in found.message


@pytest.mark.parametrize(
    ("data", "reason", "words"),
    [
        (None, "SourceNotFound", ["ConfigMap 'flow' of spec.source.archive.configMap does not exist"]),
        ({"other.zip": b""}, "SourceNotFound", ["has no key 'flow.tar.gz'", "it has: other.zip"]),
        ({"flow.tar.gz": b"?"}, "FlowInvalid", ["flow.tar.gz of ConfigMap 'flow': is no .tar.gz and no .zip"]),
        ({"flow.tar.gz": tar(("../x", b""))}, "FlowInvalid", ["flow.tar.gz of ConfigMap 'flow': member '../x'"]),
        ({"flow.tar.gz": tar(("a", b""), ("a/b", b""))}, "FlowInvalid", ["'a' of the source is a file, and 'a/b' needs it"]),
        ({"flow.tar.gz": tar()}, "FlowInvalid", ["it holds: nothing"]),
    ],
)
def test_what_is_wrong_with_it_is_told_with_the_place(data, reason, words):
    found = resolve(data)
    assert isinstance(found, Unresolved)
    assert found.reason == reason
    for word in words:
        assert word in found.message


def test_it_is_read_from_the_config_map_that_it_names():
    wanted = spec(source=SOURCE, installer={"caBundleConfigMapName": "ca"})
    assert resolution.needed_config_maps(wanted) == ("flow", "ca")
    assert resolution.resolve(wanted, {}, Settings()) is None


def test_packing_the_same_files_again_changes_no_revision():
    first, again = resolve({"flow.tar.gz": tar(*FILES)}), resolve({"flow.tar.gz": pack_zip(*FILES)})
    assert (first.flow_revision, first.packages_revision) == (again.flow_revision, again.packages_revision)


def test_a_header_that_was_changed_is_no_header():
    plain = bytearray(gzip.decompress(tar(("flow.dag.yaml", DAG))))
    plain[0] ^= 1
    assert "the header at byte 0 has a wrong checksum" in refused(gzip.compress(bytes(plain)))


def test_a_header_that_was_changed_ends_no_archive_in_silence():
    plain = bytearray(gzip.decompress(tar(("a", b"1"), ("b", b"2"))))
    plain[1024] ^= 1
    assert "the header at byte 1,024 has a wrong checksum" in refused(gzip.compress(bytes(plain)))


def sized(size):
    """Return a tar whose only member claims to have `size` bytes but has ten."""
    header = tarfile.TarInfo("a")
    header.size = size
    return gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + b"0123456789")


@pytest.mark.parametrize("size", [11, 600, 2**40, -512, -10_000])
def test_a_member_is_as_long_as_it_says(size):
    assert read(sized(10)) == {"a": b"0123456789"}
    assert "the member at byte 0 is cut short" in refused(sized(size))


def test_a_members_length_may_stand_in_a_pax_header():
    header = tarfile.TarInfo("a")
    header.pax_headers = {"size": "700"}
    assert "is cut short" in refused(gzip.compress(header.tobuf(tarfile.PAX_FORMAT) + bytes(600)))
    assert read(gzip.compress(header.tobuf(tarfile.PAX_FORMAT) + b"x" * 700 + bytes(1024))) == {"a": b"x" * 700}


def test_a_sparse_file_is_refused_by_its_name():
    header = bytearray(special("holes", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    assert "'holes' is a sparse file" in refused(gzip.compress(bytes(header) + bytes(1024)))
    member = tarfile.TarInfo("holes")
    member.pax_headers = {"GNU.sparse.size": "10", "GNU.sparse.map": "0,0"}
    assert "'holes' is a sparse file" in refused(gzip.compress(member.tobuf(tarfile.PAX_FORMAT) + bytes(1024)))


@pytest.mark.parametrize("over", [0, 1])
def test_what_a_link_makes_has_no_longer_path_than_any_other(over):
    name = "/".join(["l" * 200] * 4)
    file = "f" * 110 + "/" + "f" * (109 + over)
    assert len(name) + 1 + len(file) == PATH_BYTES + over
    data = tar((f"d/{file}", b"1"), link(name, "/".join([".."] * 3 + ["d"])))
    if over:
        assert "makes a path of more than 1024 bytes" in refused(data)
    else:
        assert read(data)[f"{name}/{file}"] == b"1"


@pytest.mark.parametrize("pack", [tar, pack_zip])
@pytest.mark.parametrize("over", [0, 1])
def test_all_files_together_have_a_size(pack, over):
    half = FLOW_BYTES // 2
    data = pack(("a", bytes(half)), ("b", bytes(half + over)))
    if over:
        assert "more than 8,388,608 bytes when unpacked, at 'b'" in refused(data)
    else:
        assert sum(map(len, read(data).values())) == FLOW_BYTES
