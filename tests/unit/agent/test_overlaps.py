"""A layer over the image imports as a single site-packages with both would: real imports, in this process, of made-up distributions."""

import contextlib
import importlib
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsession_agent.install import report
from flowsession_agent.install.overlaps import EXTENDING, Overlaps
from flowsession_agent.install.venvs import Layer

Files = Mapping[str, str]


def install(site: Path, name: str, files: Files, version: str = "1", *, recorded: bool = True) -> None:
    """Write a distribution as an installer leaves it."""
    info = site / f"{name}-{version}.dist-info"
    for path, content in {**files, f"{info.name}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"}.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(content)
    if recorded:
        (info / "RECORD").write_text("".join(f"{path},,\n" for path in (*files, f"{info.name}/METADATA", f"{info.name}/RECORD")))


def modules(*paths: str, said: str = "") -> dict[str, str]:
    return {path: said or f"WHO = {path!r}\n" for path in paths}


def names(files: Iterable[str]) -> set[str]:
    return {path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in files if path.endswith(".py")}


@contextlib.contextmanager
def path_of(*sites: Path) -> Iterator[None]:
    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0].startswith("zq_")]:
            del sys.modules[name]
        importlib.invalidate_caches()

    before, dont_write = sys.path[:], sys.dont_write_bytecode
    sys.path[:0] = map(str, sites)
    sys.dont_write_bytecode = True
    forget()
    try:
        yield
    finally:
        sys.path[:] = before
        sys.dont_write_bytecode = dont_write
        forget()


def imported(wanted: Iterable[str], *sites: Path) -> dict[str, str]:
    """Import the modules and return, for each that can be imported, what it says of itself."""
    found = {}
    with path_of(*sites):
        for name in sorted(wanted):
            try:
                found[name] = getattr(importlib.import_module(name), "WHO", "")
            except ImportError:
                continue
    return found


class World:
    """An image's folder, a layer's, and one that holds both."""

    def __init__(self, folder: Path) -> None:
        self.image, self.one = folder / "image", folder / "one"
        self.layer = cast(Layer, SimpleNamespace(path=str(folder / "layer"), site=str(folder / "layer" / "site")))
        self.site = Path(self.layer.site)
        for site in (self.image, self.site, self.one):
            site.mkdir(parents=True)

    def bring(self) -> tuple[list[str], list[str]]:
        overlaps = Overlaps(self.layer, [str(self.image)])
        warnings = overlaps.bring()
        return sorted(one.name for one in overlaps.brought), warnings


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_regular_package_of_the_layer_over_the_image_s_folder(world: World) -> None:
    """azure-monitor-opentelemetry, and its exporter in the image."""
    install(
        world.image,
        "exporter",
        modules("zq_a/mon/ot/exporter/__init__.py", "zq_a/mon/ot/exporter/log.py", "zq_a/mon/ot/exporter/table.txt"),
    )
    install(world.image, "stranger", modules("zq_a/core/__init__.py"))
    install(world.site, "distro", modules("zq_a/mon/ot/__init__.py", "zq_a/mon/ot/_configure.py"))
    assert world.bring() == (["exporter"], [])
    wanted = {"zq_a.mon.ot", "zq_a.mon.ot.exporter.log", "zq_a.core"}
    assert set(imported(wanted, world.site, world.image)) == wanted
    assert (world.site / "zq_a/mon/ot/exporter/table.txt").is_file(), "its data come with it"


def test_a_regular_package_of_the_image_over_the_layer_s_folder(world: World) -> None:
    """azure-core in the image, and azure-core-tracing-opentelemetry, which adds a module to it."""
    install(world.image, "core", modules("zq_a/core/__init__.py", "zq_a/core/tracing/__init__.py"))
    install(world.site, "tracing", modules("zq_a/core/tracing/ext/__init__.py"))
    assert world.bring() == (["core"], [])
    wanted = {"zq_a.core.tracing.ext", "zq_a.core"}
    assert set(imported(wanted, world.site, world.image)) == wanted


def test_what_was_brought_may_hide_more(world: World) -> None:
    install(world.image, "core", modules("zq_a/core/__init__.py", "zq_b/__init__.py"))
    install(world.image, "more", modules("zq_b/more.py"))
    install(world.image, "unconcerned", modules("zq_c/__init__.py"))
    install(world.site, "tracing", modules("zq_a/core/ext.py"))
    assert world.bring() == (["core", "more"], [])
    assert set(imported({"zq_b.more", "zq_a.core.ext"}, world.site, world.image)) == {"zq_b.more", "zq_a.core.ext"}


def test_the_layer_s_own_version_is_not_touched(world: World) -> None:
    install(world.image, "One.Two", modules("zq_a/__init__.py", "zq_a/gone.py"), "1")
    install(world.site, "one_two", modules("zq_a/__init__.py"), "2")
    assert world.bring() == ([], [])
    assert not (world.site / "zq_a/gone.py").exists()
    assert imported({"zq_a.gone"}, world.site, world.image) == {}


def test_a_folder_of_the_layer_where_its_older_version_in_the_image_had_a_package(world: World) -> None:
    install(world.image, "proto", modules("zq_a/__init__.py", "zq_a/proto.py", said="WHO = 'old'\n"), "3")
    install(world.image, "rest", modules("zq_a/rest/__init__.py"))
    install(world.site, "proto", modules("zq_a/proto.py", said="WHO = 'new'\n"), "6")
    assert world.bring() == ([], [])
    assert imported({"zq_a.proto", "zq_a.rest"}, world.site, world.image)["zq_a.proto"] == "new"
    assert "zq_a.rest" in imported({"zq_a.rest"}, world.site, world.image)


def test_packages_that_extend_themselves_need_nothing(world: World) -> None:
    """Prompt flow's own `promptflow/__init__.py` does that."""
    install(world.image, "core", modules("zq_a/__init__.py", said=EXTENDING) | modules("zq_a/core.py"))
    install(world.site, "more", modules("zq_a/more/__init__.py"))
    assert world.bring() == ([], [])
    assert set(imported({"zq_a.core", "zq_a.more"}, world.site, world.image)) == {"zq_a.core", "zq_a.more"}


def test_bytecode_comes_along_and_scripts_stay(world: World) -> None:
    install(world.image, "exporter", modules("zq_a/exporter.py", "../bin/tool"))
    import py_compile

    compiled = Path(py_compile.compile(str(world.image / "zq_a/exporter.py"), doraise=True))
    install(world.site, "distro", modules("zq_a/__init__.py"))
    world.bring()
    copy = world.site / "zq_a/__pycache__" / compiled.name
    assert copy.read_bytes() == compiled.read_bytes()
    changed_at = (world.site / "zq_a/exporter.py").stat().st_mtime
    assert int.from_bytes(copy.read_bytes()[8:12], "little") == int(changed_at), "Python takes it for valid"
    assert not (world.site.parent / "bin").exists()


def test_without_a_record_there_is_a_warning(world: World) -> None:
    install(world.image, "exporter", modules("zq_a/exporter/__init__.py"), recorded=False)
    install(world.site, "distro", modules("zq_a/__init__.py"))
    brought, (warning,) = world.bring()
    assert brought == []
    assert "the image's zq_a.exporter is hidden by the session's zq_a" in warning


def test_the_list_of_packages_tells_it_as_the_image_s(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    install(world.image, "exporter", modules("zq_a/exporter.py"))
    install(world.site, "distro", modules("zq_a/__init__.py"))
    world.bring()
    monkeypatch.setattr(sys, "path", [str(world.site), str(world.image)])
    seen, image = report.scan(world.layer.path + "/")
    assert {name: found.in_layer for name, found in seen.items()} == {"distro": True, "exporter": False}
    assert set(image) == {"exporter"}


PATHS = st.lists(st.sampled_from(("zq_a", "zq_b", "zq_c")), min_size=1, max_size=3).map("/".join)
MODULE = st.builds(lambda path, package: f"{path}/__init__.py" if package else f"{path}.py", PATHS, st.booleans())
WHERE = st.sampled_from(["image", "layer", "replaced", "replaced by nothing"])
DISTRIBUTION = st.tuples(st.sets(MODULE, min_size=1, max_size=4), WHERE)


@given(st.lists(DISTRIBUTION, min_size=2, max_size=5), st.sets(PATHS, max_size=2))
@settings(max_examples=60, deadline=None)
def test_as_from_one_site_packages(distributions: list[tuple[set[str], str]], extending: set[str]) -> None:
    """What the image could import before, and what the session installed, is imported as if all were in one folder."""
    taken: set[str] = set()
    before: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        for number, (paths, where) in enumerate(distributions):
            own = {path for path in paths if names([path]).isdisjoint(names(taken))}  # two distributions sharing a module never work well
            taken |= own
            files = {
                path: (EXTENDING if path.removesuffix("/__init__.py") in extending else "") + f"WHO = '{number} {path}'\n" for path in own
            }
            if where == "image":
                install(world.image, f"d{number}", files)
            elif where.startswith("replaced"):
                install(world.image, f"d{number}", dict.fromkeys(own, "WHO = 'older'\n"), "0")
                files = {} if where == "replaced by nothing" else dict([*files.items()][:1])
            if where != "image":
                install(world.site, f"d{number}", files)
                before |= names(files)
            install(world.one, f"d{number}", files)
        before |= set(imported(names(taken), world.image))
        world.bring()
        expected = {name: who for name, who in imported(names(taken), world.one).items() if who and name in before}
        found = imported(expected, world.site, world.image)
        assert found == expected
