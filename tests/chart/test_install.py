"""The chart, installed by the real Helm into a real API server, including one that knows none of our kinds yet."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster import binaries
from localcluster.controlplane import ControlPlane
from localcluster.ports import free_port

CHART = Path(__file__).resolve().parents[2] / "charts" / "flowsession"
SIZES: dict[str, Any] = {
    "sizes": {
        "catalogue": ["Standard_D2s_v5", "Standard_D4s_v5", "Standard_NC*_T4_v3"],
        "override": {"Standard_D2s_v5": {"nodeSelector": {"pool": "a"}}},
        "extra": [{"azureName": "kind-small", "capacity": {"cpu": "1", "memory": "1Gi"}}],
    }
}
NAMES = {
    "standard-d2s-v5", "standard-d4s-v5", "standard-nc4as-t4-v3", "standard-nc8as-t4-v3", "standard-nc16as-t4-v3", "standard-nc64as-t4-v3",
    "kind-small",
}  # fmt: skip


TOO_EARLY = 'no matches for kind "VMSize"'


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    """Yield a fresh API server, with nothing of ours in it."""
    binaries.build(binaries.KUBERNETES)
    binaries.build(binaries.HELM)
    folder = Path(tempfile.mkdtemp(prefix="fs-helm-"))
    found = ControlPlane(
        folder, etcd_port=free_port(), etcd_peer_port=free_port(), apiserver_port=free_port(), components=("etcd", "kube-apiserver")
    )
    try:
        found.start()
        yield found
    finally:
        found.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def helm(plane: ControlPlane, tmp_path: Path) -> Callable[..., str]:
    def run(verb: str, *arguments: str, values: dict[str, Any] | None = None) -> str:
        command = [str(binaries.HELM.binary("helm")), verb, "flowsession", "-n", "default", *arguments]
        if values is not None:
            file = tmp_path / "values.yaml"
            file.write_text(yaml.safe_dump(values))
            command += [str(CHART), "-f", str(file)]
        # Helm caches the API server's kinds in files, so a first install needs a new HOME.
        environment = {"KUBECONFIG": str(plane.kubeconfig), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
        if verb == "install" and TOO_EARLY in result.stderr:
            # A slow API server may not serve the new kinds yet when Helm gets to the sizes: docs/sizes.md says to run it once more.
            command[1:2] = ["upgrade", "--install"]
            result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


@pytest.fixture
def kubectl(plane: ControlPlane, tmp_path: Path) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        command = [str(binaries.KUBERNETES.binary("kubectl")), f"--kubeconfig={plane.kubeconfig}", f"--cache-dir={tmp_path}/kubectl"]
        result = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=60)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


def sizes(kubectl: Callable[..., str]) -> dict[str, Any]:
    return {item["metadata"]["name"]: item for item in yaml.safe_load(kubectl("get", "vmsizes", "-o", "yaml"))["items"]}


def test_from_zero_to_sizes_and_on_by_upgrades(helm: Callable[..., str], kubectl: Callable[..., str]) -> None:
    helm("install", values=SIZES)
    first = sizes(kubectl)
    assert first.keys() == NAMES, "the first install brings kinds and sizes at once"
    assert first["standard-d2s-v5"]["spec"]["nodeSelector"] == {"pool": "a"}
    assert first["standard-nc4as-t4-v3"]["spec"]["autoSelect"] is False

    helm("upgrade", values=SIZES)
    second = sizes(kubectl)
    assert {name: item["metadata"]["uid"] for name, item in second.items()} == {
        name: item["metadata"]["uid"] for name, item in first.items()
    }

    smaller = {"sizes": {**SIZES["sizes"], "catalogue": ["Standard_D2s_v5"], "extra": []}}
    helm("upgrade", values=smaller)
    assert sizes(kubectl).keys() == {"standard-d2s-v5"}, "what is not selected any more goes"
    classes = kubectl("get", "priorityclasses", "-o", "name")
    assert "flowsession-standard-d2s-v5" in classes
    assert "flowsession-standard-d4s-v5" not in classes

    helm("uninstall")
    assert sizes(kubectl) == {}
    helm("install", values=SIZES)
    assert sizes(kubectl).keys() == NAMES, "and once more, with the kinds that an uninstall keeps"


def test_an_uninstall_right_after_the_first_install_can_be_installed_again(helm: Callable[..., str], kubectl: Callable[..., str]) -> None:
    helm("install", values=SIZES)
    helm("uninstall")
    helm("install", values=SIZES)
    assert sizes(kubectl).keys() == NAMES


def test_every_size_of_the_catalogue_is_accepted(helm: Callable[..., str], kubectl: Callable[..., str]) -> None:
    table = yaml.safe_load((CHART / "files" / "aks-sizes.yaml").read_text())
    helm("install", values={})
    helm("upgrade", values={"sizes": {"catalogue": ["*"]}})
    assert {item["spec"]["azureName"] for item in sizes(kubectl).values()} == set(table)
