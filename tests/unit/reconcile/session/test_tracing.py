"""Tracing: where spans of tests and runs are sent, what the pod gets, and which changes need a reset."""

import json
import re
from dataclasses import replace

import pytest

from flowsession.api.environment import OTLP_ENDPOINT, FlowEnvironmentSpec
from flowsession.manifests import session_pod as pods
from flowsession.model.plan import Deliver
from flowsession.model.resolved import Resolved, Tracing
from flowsession.reconcile.environment.resolve import resolve
from flowsession.reconcile.session.start import pod_of
from flowsession.settings import Settings, TracingDefaults
from unit.builders import agent, condition, decide, pod, resolved, session_snapshot, settled_snapshot, status_after

HERE, THERE = "http://otel.observability:4318", "https://otlp.example.com/in"
TRACED = replace(resolved(), tracing=Tracing(HERE, "otlp", content=True))
CHART = TracingDefaults(otlp_endpoint=HERE, headers_secret_name="otlp")
SILENT = TracingDefaults(otlp_endpoint=HERE, capture_message_content=False)


def manifest(environment: Resolved) -> dict:
    return pods.manifest(pod_of(session_snapshot(environment=environment), environment, 1))


def told(made: dict) -> dict:
    (container,) = made["spec"]["containers"]
    return next(json.loads(item["value"]) for item in container["env"] if item["name"] == "FLOWSESSION_TRACING")


def test_the_pod_knows_the_endpoint_and_whose_spans_they_are_and_the_kubelet_brings_the_headers():
    made = manifest(TRACED)
    assert {"name": "tracing", "secret": {"secretName": "otlp", "optional": True}} in made["spec"]["volumes"]
    mount = {"name": "tracing", "mountPath": "/opt/flowsession-tracing", "readOnly": True}
    assert mount in made["spec"]["containers"][0]["volumeMounts"]
    snapshot = session_snapshot()
    assert told(made) == {
        "endpoint": HERE,
        "content": True,
        "headers": "/opt/flowsession-tracing",
        "secret": "otlp",
        "resource": {
            "flowsession.session": snapshot.name,
            "flowsession.environment": snapshot.spec.environment_ref.name,
            "enduser.id": snapshot.spec.user,
            "k8s.namespace.name": snapshot.namespace,
            "k8s.pod.name": made["metadata"]["name"],
        },
    }


def test_without_headers_no_secret_is_mounted_and_without_an_endpoint_nothing_of_it_is_there():
    made = manifest(replace(TRACED, tracing=Tracing(HERE, "", content=False)))
    assert "tracing" not in [volume["name"] for volume in made["spec"]["volumes"]]
    assert "headers" not in told(made)
    assert "tracing" not in json.dumps(manifest(resolved())).lower()


@pytest.mark.parametrize(
    ("own", "chart", "found"),
    [
        (None, TracingDefaults(), None),
        (None, CHART, Tracing(HERE, "otlp", content=True)),
        ({}, CHART, Tracing(HERE, "otlp", content=True)),
        ({"otlpEndpoint": ""}, CHART, None),
        ({"otlpEndpoint": THERE}, CHART, Tracing(THERE, "", content=True)),  # the chart's headers are for the chart's endpoint
        ({"otlpEndpoint": THERE, "headersSecretName": "mine"}, TracingDefaults(), Tracing(THERE, "mine", content=True)),
        ({"captureMessageContent": False}, CHART, Tracing(HERE, "otlp", content=False)),
        ({"captureMessageContent": False}, TracingDefaults(), None),
        ({"captureMessageContent": True}, SILENT, Tracing(HERE, "", content=False)),
        ({"otlpEndpoint": THERE}, SILENT, Tracing(THERE, "", content=True)),
        ({"otlpEndpoint": THERE, "captureMessageContent": False}, CHART, Tracing(THERE, "", content=False)),
    ],
)
def test_an_environments_own_endpoint_counts_and_else_the_charts(own: dict | None, chart: TracingDefaults, found: Tracing | None):
    given = resolve(FlowEnvironmentSpec.model_validate({"tracing": own} if own is not None else {}), {}, Settings(tracing=chart))
    assert isinstance(given, Resolved)
    assert given.tracing == found


def test_a_running_session_takes_up_other_tracing_by_a_reset_only():
    for mine, wanted in (("", TRACED), (pods.tracing_of(TRACED.tracing), resolved())):
        snapshot = settled_snapshot(environment=wanted, pods=(pod(tracing=mine),), agent=agent(environment=wanted))
        found = condition(status_after(snapshot), "InSync")
        assert (found["status"], found["reason"]) == ("False", "TracingChanged"), mine
        assert "reset-requested-at" in found["message"]
        assert not isinstance(decide(snapshot).call, Deliver)
    same = settled_snapshot(environment=TRACED, pods=(pod(tracing=pods.tracing_of(TRACED.tracing)),), agent=agent(environment=TRACED))
    assert condition(status_after(same), "InSync")["status"] == "True"


def test_it_is_content_that_others_may_not_change_unasked_but_needs_no_install():
    plain, own = (resolve(FlowEnvironmentSpec.model_validate(each), {}, Settings()) for each in ({}, {"tracing": {"otlpEndpoint": THERE}}))
    by_chart = resolve(FlowEnvironmentSpec(), {}, Settings(tracing=CHART))
    assert isinstance(plain, Resolved) and isinstance(own, Resolved) and isinstance(by_chart, Resolved)
    assert own.content != plain.content == by_chart.content  # the chart belongs to the platform team, not to an author
    assert own.packages_revision == plain.packages_revision


@pytest.mark.parametrize(("url", "good"), [(HERE, True), (THERE, True), ("", True), ("otel:4318", False), ("ftp://otel", False)])
def test_an_endpoint_is_an_http_url(url: str, good: bool):
    assert bool(re.search(OTLP_ENDPOINT, url)) is good


@pytest.mark.parametrize("url", ["https://user:key@otlp.example.com", "https://otlp.example.com/?key=1", "https://otlp.example.com/#a"])
def test_an_endpoint_holds_no_credentials(url: str):
    assert not re.search(OTLP_ENDPOINT, url)
