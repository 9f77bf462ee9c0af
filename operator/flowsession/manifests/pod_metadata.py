"""Which labels and annotations of `spec.podMetadata` a session's pod may have: those that the chart lists."""

import fnmatch
from collections.abc import Iterable, Mapping

from flowsession.api.session import ComputeSessionSpec
from flowsession.settings import PodMetadataRules

REASON = "PodMetadataNotAllowed"

_CONFINEMENT = ("container.apparmor.security.beta.kubernetes.io/", "container.seccomp.security.alpha.kubernetes.io/", "seccomp.security.")
"""Prefixes of annotations that remove a pod's confinement: only patterns with the same prefix match these."""


def refusal(spec: ComputeSessionSpec, rules: PodMetadataRules) -> str:
    """Return why the pod can't have the spec's labels and annotations, and what to do; empty if it can.

    Services and NetworkPolicies select pods by label, and other controllers grant rights by annotation: a session must not give these to
    somebody who may not create pods.
    """
    given = spec.pod_metadata
    if given is None:
        return ""
    labels, annotations = _others(given.labels, rules.labels), _others(given.annotations, rules.annotations)
    named = [f"label {key}" for key in labels] + [f"annotation {key}" for key in annotations]
    if not named:
        return ""
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return (
        f"spec.podMetadata has {', '.join(named[:3])}{more}, which the platform team has not listed: take it out, or have it added to the"
        f" chart's session.podMetadata.{'labels' if labels else 'annotations'}"
    )


def _others(given: Mapping[str, str] | None, patterns: Iterable[str]) -> list[str]:
    return [key for key in sorted(given or {}) if not any(_meant(key, pattern) for pattern in patterns)]


def _meant(key: str, pattern: str) -> bool:
    confinement = next((prefix for prefix in _CONFINEMENT if key.startswith(prefix)), "")
    return pattern.startswith(confinement) and fnmatch.fnmatchcase(key, pattern)
