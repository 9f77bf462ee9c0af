"""The session checks the flow's tools whenever its content changes, in parallel to other work, and reports faults within seconds."""

import json
import subprocess
import time

from .conftest import Cluster, environment, session

TOOL = "from promptflow.core import tool\n\n\n@tool\ndef shout(text: str) -> str:\n    return text.upper()\n"
WAIT = (
    "import time\nfrom promptflow.core import tool\n\n\n@tool\ndef wait(text: str) -> str:\n"
    "    open('/tmp/begun', 'w').close()\n    longest, last = 0.0, time.monotonic()\n    end = last + 60\n"
    "    while last < end:\n        time.sleep(0.05)\n        now = time.monotonic()\n"
    "        longest, last = max(longest, now - last), now\n"
    "    return f'{text}, the longest pause was {longest:.2f} s'\n"
)
DAG = """\
inputs:
  text: {type: string, default: hello}
outputs:
  answer: {type: string, reference: "${wait.output}"}
nodes:
- name: shout
  type: python
  source: {type: code, path: shout.py}
  inputs: {text: "${inputs.text}"}
- name: wait
  type: python
  source: {type: code, path: wait.py}
  inputs: {text: "${shout.output}"}
"""
OF_FLOW = environment("flow", source={"configMap": {"name": "flow"}})


def folder(**files: str) -> dict[str, object]:
    data = {"flow.dag.yaml": DAG, "shout.py": TOOL, "wait.py": WAIT} | {name.replace("_", "."): text for name, text in files.items()}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "flow", "labels": {"flowsession.dev/source": "true"}},
        "data": data,
    }


def told(cluster: Cluster, status: str, words: str = "") -> float:
    """Return the seconds until both the session and its environment have this status and message."""
    began = time.monotonic()

    def check() -> bool:
        found = [cluster.condition("s", "FlowValid"), cluster.condition("flow", "FlowValid", "flowenvironment")]
        return all(one.get("status") == status and words in one["message"] for one in found)

    cluster.until(f"FlowValid is {status} ({words}), on the session and on its environment", check, 60)
    return time.monotonic() - began


def test_a_change_that_breaks_a_node_is_named_while_a_run_goes_on(cluster: Cluster) -> None:
    cluster.apply(folder(), OF_FLOW, session(of="flow"))
    pod = cluster.until_ready("s")["podName"]
    print(f"\nFlowValid=True {told(cluster, 'True'):.1f} s after Ready")

    command = cluster.command("exec", pod, "--", "flow", "test", "--inputs", "text=work")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        cluster.until("the run is in its last tool", lambda: "begun" in cluster.exec(pod, "ls", "/tmp"))
        cluster.apply(folder(shout_py="import bs4\n" + TOOL))
        print(f"FlowValid=False {told(cluster, 'False', 'shout.py line 1'):.1f} s after a package is missing, beside a run")
        message = cluster.condition("s", "FlowValid")["message"]
        assert "node 'shout'" in message
        assert "add beautifulsoup4 to the requirements" in message
        cluster.apply(folder(flow_dag_yaml=DAG.replace("${shout.output}", "${shot.output}")))
        print(f"FlowValid=False {told(cluster, 'False', 'shot'):.1f} s after a reference is wrong, beside a run")
        assert "flow.dag.yaml line 13, node 'wait'" in cluster.condition("s", "FlowValid")["message"]
        cluster.apply(folder())
        print(f"FlowValid=True {told(cluster, 'True'):.1f} s after the repair, beside a run")
        assert run.poll() is None, "the run goes on still"
        output, errors = run.communicate(timeout=90)
    assert run.returncode == 0, errors
    answer = json.loads(output)["answer"]
    assert answer.startswith("WORK, the longest pause"), answer
    print(f"the run: {answer}")
    check = json.loads(cluster.exec(pod, "flow", "check", "--json"))
    print(f"the check alone took {check['seconds']} s without a run beside it")
    assert cluster.exec(pod, "flow", "edits") == "", "the check has left nothing in the flow folder"


def test_the_command_tells_all_and_is_quick(cluster: Cluster) -> None:
    cluster.apply(folder(wait_py=WAIT.replace("text: str", "text: str, more: int")), OF_FLOW, session(of="flow"))
    pod = cluster.until_ready("s")["podName"]
    print(f"\nFlowValid=False {told(cluster, 'False', 'more'):.1f} s after Ready")
    said = cluster.kubectl.attempt("exec", pod, "--", "flow", "check")
    assert said.returncode == 1
    assert "wait.py:6: node wait: its tool needs the input 'more'" in said.stdout


def test_a_missing_connection_is_named_with_the_way_out(cluster: Cluster) -> None:
    secret = "from promptflow.connections import CustomConnection\n" + TOOL.replace("text: str", "text: str, secret: CustomConnection")
    dag = DAG.replace("${wait.output}", "${shout.output}").partition("- name: wait")[0]
    cluster.apply(folder(flow_dag_yaml=dag.replace('"${inputs.text}"', '"${inputs.text}", secret: mine'), shout_py=secret), OF_FLOW)
    cluster.apply(session(of="flow"))
    cluster.until_ready("s")
    told(cluster, "False", "connection 'mine' is not known in this session")
    assert "add it to the environment's spec.connections with a Secret" in cluster.condition("s", "FlowValid")["message"]
