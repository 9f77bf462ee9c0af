"""Lists of packages that no session's status names any more are removed once they are old, and no others."""

import pytest

from flowsession.engine.package_lists import PRUNE_SECONDS, PackageLists
from flowsession.manifests import config_maps
from flowsession.manifests.common import Where
from flowsession.model import times
from unit.builders import NAMESPACE
from unit.world import World, _run

WHERE = Where(NAMESPACE, "env", "env-uid")


@pytest.fixture
def world() -> World:
    world = World(environment={"requirementsText": "pandas\n"})
    world.settle(until_ready=True)
    for name in ("old", "young"):
        world.api.put(config_maps.manifest(config_maps.PACKAGES, name, WHERE, {}))
    world.api.put(config_maps.manifest(config_maps.SOURCE, "another", WHERE, {}))
    world.clock.now += 10 * PRUNE_SECONDS
    for name in world.cache.own_config_maps.names():
        world.cache.own_config_maps.drop(name)
    for (kind, _, name), body in world.api.objects.items():
        if kind == "ConfigMap":
            body["metadata"]["creationTimestamp"] = times.stamp(world.clock() - (60.0 if name == "young" else 2 * PRUNE_SECONDS))
    return world


def names(world: World) -> set[str]:
    return {name for kind, _, name in world.api.objects if kind == "ConfigMap"}


def test_what_a_session_names_stays_and_what_is_young(world: World) -> None:
    before = names(world)
    lists = PackageLists(world.api, world.cache)  # type: ignore[arg-type]
    _run(lists.prune())
    assert before - names(world) == {"old"}
    assert len(names(world)) >= 3


def test_what_was_lately_found_for_a_session_stays(world: World) -> None:
    world.cache.own_config_maps.note((NAMESPACE, "old"), 171)
    _run(PackageLists(world.api, world.cache).prune())  # type: ignore[arg-type]
    assert "old" in names(world)


def test_it_is_looked_for_once_an_hour(world: World) -> None:
    lists = PackageLists(world.api, world.cache)  # type: ignore[arg-type]
    _run(lists.prune())
    asked = len(world.api.requests)
    world.clock.now += PRUNE_SECONDS - 1
    _run(lists.prune())
    assert len(world.api.requests) == asked
    world.clock.now += 1
    _run(lists.prune())
    assert len(world.api.requests) == asked + 1 + ("young" not in names(world))
