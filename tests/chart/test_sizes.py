"""The chart's VM sizes: the catalogue's figures, the sizes that values select from it, and the objects made from them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowsession.api.quantity import parse
from flowsession.api.size import VMSizeSpec
from flowsession.reconcile.size.choice import canonical

CHART = Path(__file__).resolve().parents[2] / "charts" / "flowsession"
Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]
TABLE: dict[str, dict[str, Any]] = yaml.safe_load((CHART / "files" / "aks-sizes.yaml").read_text())
GIB = 2**30
SERVED = ("--api-versions", "flowsession.dev/v1alpha1/VMSize")


def only(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [m for m in manifests if (m["kind"], m["metadata"]["name"]) == (kind, name)]
    return found


def sizes(manifests: list[Manifest]) -> dict[str, Manifest]:
    return {m["spec"]["azureName"]: m for m in manifests if m["kind"] == "VMSize"}


# -- the catalogue


@pytest.mark.parametrize("name", TABLE)
def test_a_row_is_possible(name: str) -> None:
    """Azure's names give the number of processors and whether there is a temporary disk (from v5 on only with a d)."""
    row = TABLE[name]
    found = re.fullmatch(r"Standard_(D|E|F|L|M|NC|ND)(\d+)([a-z]*)(?:_[a-zA-Z0-9]+)*", name)
    assert found, name
    assert row["cpu"] == int(found[2])
    assert row.keys() <= {"cpu", "memory", "disk", "gpus", "price"}
    per_processor = parse(row["memory"]) / GIB / row["cpu"]
    low, high = {"D": (4, 4), "E": (7, 8), "F": (2, 4), "L": (8, 8), "M": (6, 32), "NC": (6, 10), "ND": (9, 20)}[found[1]]
    assert low <= per_processor <= high
    if found[1] in ("D", "E") and name[-2:] in ("v5", "v6"):
        assert ("disk" in row) == ("d" in found[3])
    assert ("gpus" in row) == found[1].startswith("N")
    assert "price" in row or name.endswith("v6") or "H100" in name or "H200" in name


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("Standard_D2s_v5", {"cpu": 2, "memory": "8Gi", "price": "0.096"}),
        ("Standard_D4ds_v5", {"cpu": 4, "memory": "16Gi", "disk": "150Gi", "price": "0.226"}),
        ("Standard_E64s_v4", {"cpu": 64, "memory": "504Gi", "price": "4.032"}),
        ("Standard_E96s_v5", {"cpu": 96, "memory": "672Gi", "price": "6.048"}),
        ("Standard_F72s_v2", {"cpu": 72, "memory": "144Gi", "disk": "576Gi", "price": "3.0456"}),
        ("Standard_NC4as_T4_v3", {"cpu": 4, "memory": "28Gi", "disk": "176Gi", "gpus": 1, "price": "0.526"}),
    ],
)
def test_well_known_sizes(name: str, row: dict[str, Any]) -> None:
    assert TABLE[name] == row


def test_bigger_sizes_of_a_series_cost_more_in_proportion() -> None:
    for name, row in TABLE.items():
        smallest = re.sub(r"^(Standard_[DEF])\d+", r"\g<1>2", name)
        if smallest in TABLE and "price" in row:
            assert parse(row["price"]) / row["cpu"] == parse(TABLE[smallest]["price"]) / TABLE[smallest]["cpu"], name


# -- sizes selected by values


def test_by_default_there_are_no_sizes(render: Render) -> None:
    assert not [m for m in render() if m["kind"] in ("VMSize", "PriorityClass")]


def test_a_size_of_the_catalogue(render: Render) -> None:
    manifests = render({"sizes": {"catalogue": ["Standard_D2ds_v5"]}}, options=SERVED)
    size = sizes(manifests)["Standard_D2ds_v5"]
    assert size["metadata"]["name"] == "standard-d2ds-v5"
    assert "annotations" not in size["metadata"]
    assert size["spec"] == {
        "azureName": "Standard_D2ds_v5",
        "capacity": {"cpu": "2", "memory": "8Gi", "ephemeral-storage": "75Gi"},
        "nodeSelector": {"node.kubernetes.io/instance-type": "Standard_D2ds_v5"},
        "pricePerHour": "0.113",
        "priorityClassName": "flowsession-standard-d2ds-v5",
        "sessionsPerNode": 4,
        "userIsolation": "Node",
    }
    name = size["spec"]["priorityClassName"]
    priority = only(manifests, "PriorityClass", name)
    assert (priority["value"], priority["preemptionPolicy"]) == (0, "Never")


def test_gpus_are_whole_and_never_chosen_unasked(render: Render) -> None:
    spec = sizes(render({"sizes": {"catalogue": ["Standard_NC64as_T4_v3"]}}))["Standard_NC64as_T4_v3"]["spec"]
    assert spec["capacity"]["nvidia.com/gpu"] == "4"
    assert (spec["sessionsPerNode"], spec["autoSelect"]) == (4, False)
    assert {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"} in spec["tolerations"]


def test_patterns_select_and_every_size_is_a_vmsize(render: Render) -> None:
    assert sizes(render({"sizes": {"catalogue": ["Standard_E?s_v5", "Standard_D*ads_v5"]}})).keys() == {
        name for name in TABLE if re.fullmatch(r"Standard_E.s_v5|Standard_D\d+ads_v5", name)
    }
    everything = sizes(render({"sizes": {"catalogue": ["*"]}}))
    assert everything.keys() == TABLE.keys()
    for name, manifest in everything.items():
        assert VMSizeSpec.model_validate(manifest["spec"]).azure_name == name
        assert manifest["metadata"]["name"] == canonical(name)


def test_an_override_replaces_members(render: Render) -> None:
    override = {"Standard_D2s_v5": {"nodeSelector": {"pool": "a"}, "priorityClassName": "mine", "autoSelect": False}}
    manifests = render({"sizes": {"catalogue": ["Standard_D2s_v5"], "override": override}})
    spec = sizes(manifests)["Standard_D2s_v5"]["spec"]
    assert spec["nodeSelector"] == {"pool": "a"}
    assert (spec["priorityClassName"], spec["autoSelect"], spec["pricePerHour"]) == ("mine", False, "0.096")
    assert not [m for m in manifests if m["kind"] == "PriorityClass"], "a class of one's own is one's own affair"


def test_numbers_become_the_strings_that_a_vmsize_has(render: Render) -> None:
    extra = {"azureName": "kind-small", "capacity": {"cpu": 1, "memory": "1Gi"}, "pricePerHour": 0.25, "requests": {"cpu": 0.5}}
    spec = sizes(render({"sizes": {"extra": [extra]}}))["kind-small"]["spec"]
    assert (spec["capacity"]["cpu"], spec["pricePerHour"], spec["requests"]["cpu"]) == ("1", "0.25", "0.5")


def test_sizes_that_the_catalogue_lacks(render: Render) -> None:
    extra = {"azureName": "kind-small", "capacity": {"cpu": "1", "memory": "1Gi"}, "sessionsPerNode": 8}
    manifests = render({"sizes": {"extra": [extra]}})
    assert sizes(manifests)["kind-small"]["spec"] == {**extra, "priorityClassName": "flowsession-kind-small"}
    only(manifests, "PriorityClass", "flowsession-kind-small")


def test_where_the_kind_is_not_served_yet_sizes_come_after_it(render: Render) -> None:
    values = {"sizes": {"catalogue": ["Standard_D2s_v5"]}}
    first = sizes(render(values))["Standard_D2s_v5"]["metadata"]["annotations"]
    assert first["helm.sh/hook"] == "post-install,post-upgrade"
    assert first["meta.helm.sh/release-name"] == "flowsession", "so that the next upgrade takes it over"
    others = sizes(render({**values, "crds": {"install": False}}))["Standard_D2s_v5"]["metadata"]
    assert "annotations" not in others, "who installs the kinds elsewhere has installed them"


def test_everybody_may_see_the_sizes_unless_told_otherwise(render: Render) -> None:
    binding = only(render(), "ClusterRoleBinding", "flowsession-sizes")
    assert binding["subjects"] == [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}]
    closed = render({"sizes": {"readableByAll": False}})
    assert not [m for m in closed if m["metadata"]["name"] == "flowsession-sizes"]
