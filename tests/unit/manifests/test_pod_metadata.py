"""Which labels and annotations people may give to their sessions' pods."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from flowsession.manifests import pod_metadata
from flowsession.settings import PodMetadataRules
from unit.builders import session_spec

CHECKOUT = Path(__file__).parents[3]
APPARMOR = "container.apparmor.security.beta.kubernetes.io/session"
SECCOMP = "seccomp.security.alpha.kubernetes.io/pod"


def refused(rules: PodMetadataRules | None = None, **given: Any) -> str:
    return pod_metadata.refusal(session_spec(podMetadata=given), rules or PodMetadataRules())


@pytest.mark.parametrize("key", ["app", "app.kubernetes.io/name", "role", "kueue.x-k8s.io/managed", "istio.io/rev2"])
def test_labels_by_which_others_may_select(key):
    assert f"label {key}" in refused(labels={key: "x"})


@pytest.mark.parametrize("key", [APPARMOR, SECCOMP, "iam.amazonaws.com/role", "sidecar.istio.io/userVolume", "inject.istio.io/templates"])
def test_annotations_by_which_others_grant(key):
    said = refused(annotations={key: "x"})
    assert f"annotation {key}" in said and "session.podMetadata.annotations" in said


def test_what_queues_meshes_and_autoscalers_go_by():
    labels = {"kueue.x-k8s.io/queue-name": "team", "istio.io/rev": "stable"}
    annotations = {"sidecar.istio.io/proxyCPULimit": "1", "linkerd.io/inject": "enabled", "karpenter.sh/do-not-disrupt": "false"}
    assert refused(labels=labels, annotations=annotations) == ""
    assert refused() == ""


def test_a_pattern_for_all_does_not_take_confinement_off():
    everything = PodMetadataRules(labels=("*",), annotations=("*",))
    assert refused(everything, labels={"app": "x"}, annotations={"a": "b"}) == ""
    for key in (APPARMOR, SECCOMP):
        assert refused(everything, annotations={key: "unconfined"})
        assert refused(PodMetadataRules(annotations=(key,)), annotations={key: "unconfined"}) == ""


def test_many_are_counted():
    assert "and 2 more, which" in refused(labels={f"l{n}": "x" for n in range(5)})


def test_the_chart_has_the_same_defaults():
    values = yaml.safe_load((CHECKOUT / "charts/flowsession/values.yaml").read_text())
    assert PodMetadataRules.model_validate(values["session"]["podMetadata"]) == PodMetadataRules()
