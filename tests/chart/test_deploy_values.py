"""The package index settings of this machine that `make deploy` passes to the chart, as the operator sees them."""

import json
import subprocess
from pathlib import Path

from demo import deploy
from flowsession import settings
from localcluster import binaries
from localcluster.package_index import Settings


def installer_of(index: Settings, tmp_path: Path) -> settings.InstallerDefaults:
    binaries.build(binaries.HELM)
    values = tmp_path / "values.json"
    values.write_text(json.dumps(deploy.installer_values(index)))
    command = [str(binaries.HELM.binary("helm")), "template", "flowsession", str(deploy.CHART), "--values", str(values)]
    if index.ca_bundle:
        command += ["--set-file", f"installer.caBundle={index.ca_bundle}"]
    text = subprocess.run([*command, "--show-only", "templates/settings.yaml"], capture_output=True, text=True, check=True).stdout
    file = tmp_path / "settings.yaml"
    file.write_text("\n".join(line[4:] for line in text.partition("settings.yaml: |\n")[2].splitlines()))
    return settings.load(file).installer


def test_a_machine_without_settings_changes_nothing(tmp_path: Path) -> None:
    assert installer_of(Settings(pip={}, uv={}, proxy={}, ca_bundle=None), tmp_path) == settings.InstallerDefaults()


def test_indexes_proxy_and_certificates_reach_the_operator(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    index = Settings(
        pip={
            "index-url": "https://a.example.com/simple",
            "extra-index-url": "https://b.example.com https://c.example.com",
            "trusted-host": "a.example.com",
            "timeout": "60",
        },
        uv={"UV_EXTRA_INDEX_URL": "https://b.example.com", "UV_INSECURE_HOST": "a.example.com"},
        proxy={"https_proxy": "http://proxy.example.com:3128", "NO_PROXY": "10.0.0.0/8,localhost"},
        ca_bundle=bundle,
    )
    got = installer_of(index, tmp_path)
    assert got.index_url == "https://a.example.com/simple"
    assert got.extra_index_urls == ("https://b.example.com", "https://c.example.com")
    assert got.ca_bundle == bundle.read_text()
    assert got.environment == {
        "PIP_TRUSTED_HOST": "a.example.com",
        "PIP_DEFAULT_TIMEOUT": "60",
        "UV_INSECURE_HOST": "a.example.com",
        "HTTPS_PROXY": "http://proxy.example.com:3128",
        "NO_PROXY": "10.0.0.0/8,localhost",
    }


def test_uvs_own_index_counts_where_pip_has_none(tmp_path: Path) -> None:
    index = Settings(pip={}, uv={"UV_DEFAULT_INDEX": "https://u.example.com/simple"}, proxy={}, ca_bundle=None)
    assert installer_of(index, tmp_path).index_url == "https://u.example.com/simple"
