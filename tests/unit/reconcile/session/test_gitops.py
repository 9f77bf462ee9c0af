"""Warnings for sessions that Argo CD or Flux would recreate: suspend them instead of deleting them."""

from dataclasses import replace

import pytest

from flowsession.engine.store import objects
from flowsession.reconcile.session.gitops import REASON
from unit.builders import agent, decide, idle, pod, session_snapshot, state
from unit.reconcile.session.test_idle import ready, says

ADVICE = "Flux creates it again: set spec.idle.action to Suspend in what Flux applies"


def started(**fields):
    snapshot = session_snapshot(pod(), agent=agent(state(idle_seconds=0.0)), **fields)
    return [event for event in decide(snapshot).events if event.reason == REASON]


def test_a_start_warns_of_an_end_that_will_not_last():
    (event,) = started(applied_by="Flux")
    assert (event.warning, event.message) == (True, f"an idle end deletes this session, and {ADVICE}")


@pytest.mark.parametrize(("tool", "action"), [("", "Delete"), ("Flux", "Suspend"), ("Flux", "None")])
def test_an_end_that_lasts_is_no_cause_for_a_warning(tool, action):
    assert started(applied_by=tool, spec=idle(3600, action)) == []


def test_the_warning_of_the_end_has_it_too():
    (event,) = decide(replace(ready(55.0, says(55.0)), applied_by="Flux")).events
    assert f", and {ADVICE}; use it, or set the annotation" in event.message


@pytest.mark.parametrize(
    ("metadata", "tool"),
    [
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "team"}}, "Flux"),
        ({"labels": {"helm.toolkit.fluxcd.io/name": "team"}}, "Flux"),
        ({"labels": {"argocd.argoproj.io/instance": "team"}}, "Argo CD"),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "team:flowsession.dev/ComputeSession:a/b"}}, "Argo CD"),
        ({"labels": {"app.kubernetes.io/instance": "team"}}, ""),
        ({}, ""),
    ],
)
def test_who_applies_a_session_stands_in_its_metadata(metadata, tool):
    body = {
        "metadata": {"namespace": "a", "name": "b", "uid": "u", **metadata},
        "spec": {"user": "ada", "environmentRef": {"name": "env"}},
    }
    assert objects.session(body).applied_by == tool
