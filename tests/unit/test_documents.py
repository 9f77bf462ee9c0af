"""The documents match the code."""

import pytest
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

import documents
from flowsession import metrics

SAMPLE = """
Type `kubectl get csess` and not `kubectl exec`:
```console
$ kubectl get fenv   # all of them
NAME   READY
$ kubectl get csess |
    wc -l
```
```yaml
kubectl: nothing
```
"""


def test_commands_stand_after_a_prompt_and_in_sentences() -> None:
    assert documents.in_text(SAMPLE) == ["kubectl get csess", "kubectl get fenv", "kubectl get csess | wc -l"]


def _exposed(metric: MetricWrapperBase) -> str:
    name = str(next(iter(metric.describe())).name)
    return f"{name}_total" if isinstance(metric, Counter) else name


@pytest.mark.parametrize("name", sorted(_exposed(metric) for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)))
def test_every_metric_is_explained(name: str) -> None:
    assert f"| `{name}` |" in (documents.ROOT / "docs" / "metrics.md").read_text()
