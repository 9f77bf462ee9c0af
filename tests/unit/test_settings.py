"""The operator's settings: defaults that work, and errors that name typos."""

import pytest
from pydantic import ValidationError

from flowsession.api.environment import InstallerTool
from flowsession.settings import AgentVia, Settings, load


def test_without_a_file_the_defaults_hold():
    found = load(None)
    assert found == Settings()
    assert found.agent_via is AgentVia.DIRECT
    assert (found.installer.tool, found.installer.timeout_seconds) == (InstallerTool.AUTO, 600)
    assert found.session.limits == {"memory": "2Gi"}


@pytest.mark.parametrize("text", ["", "{}", "# only a comment\n"])
def test_an_empty_file_is_the_defaults(tmp_path, text):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    assert load(path) == Settings()


def test_wire_names(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(
        """
        runtimeImage: registry/runtime:1
        agentVia: Proxy
        installer:
          {indexURL: "https://mirror/simple", extraIndexURLs: ["https://more"], environment: {HTTPS_PROXY: "http://p"}}
        session: {sizeName: small, runAsUser: 4242, terminationGracePeriodSeconds: 0, tolerations: [{operator: Exists}]}
        """
    )
    found = load(path)
    assert (found.runtime_image, found.agent_via) == ("registry/runtime:1", AgentVia.PROXY)
    assert (found.installer.index_url, found.installer.extra_index_urls) == ("https://mirror/simple", ("https://more",))
    assert (found.session.size_name, found.session.run_as_user, found.session.termination_grace_period_seconds) == ("small", 4242, 0)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("runtimImage: x", "runtimImage"),
        ("installer: {tool: Conda}", "installer.tool"),
        ("installer: {timeoutSeconds: 0}", "installer.timeoutSeconds"),
        ("session: {requests: [cpu]}", "session.requests"),
        ("session: {runAsUser: root}", "session.runAsUser"),
        ("agentVia: Tunnel", "agentVia"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, text, field):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(ValidationError) as caught:
        load(path)
    assert field in {".".join(str(part) for part in error["loc"]) for error in caught.value.errors()}


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.yaml")


def test_settings_do_not_change():
    with pytest.raises(ValidationError):
        Settings().runtime_image = "other"
