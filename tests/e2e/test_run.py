"""`make run`: a checkout's operator outside the cluster, which reaches agents through the API server's pod proxy."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.deploy import NAMESPACE, RELEASE

from .conftest import CHECKOUT, Cluster, environment, session

pytestmark = pytest.mark.whole_cluster


@pytest.fixture
def beside_the_cluster(deployed: Cluster, tmp_path: Path) -> Iterator[Path]:
    """Replace the operator in the cluster by `make run` and yield its log."""
    operators = deployed.within(NAMESPACE)
    operators.kubectl("scale", f"deployment/{RELEASE}", "--replicas=0")
    operators.until(
        "the operator in the cluster has ended", lambda: "replicas" not in (operators.get("deployment", RELEASE) or {})["status"]
    )
    log = tmp_path / "operator.log"
    environ = {**os.environ, "KUBECONFIG": str(deployed.target.kubeconfig)}
    with log.open("w") as out:
        process = subprocess.Popen(["make", "run"], cwd=CHECKOUT, env=environ, stdout=out, stderr=out, start_new_session=True)
    try:
        yield log
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)
        operators.kubectl("scale", f"deployment/{RELEASE}", "--replicas=1")
        operators.kubectl("rollout", "status", f"deployment/{RELEASE}", "--timeout=120s")


def test_a_session_starts_and_ends_by_the_operator_of_a_checkout(cluster: Cluster, beside_the_cluster: Path) -> None:
    cluster.apply(environment(), session("ada", idle=5))
    try:
        cluster.until("session ada is gone", lambda: not cluster.session("ada") or None)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{beside_the_cluster.read_text()[-4000:]}") from None
    reasons = [event["reason"] for event in cluster.events("ada")]
    assert "Idle" in reasons, "it was asked, and ended on its own word"
