"""The deadline of a job that competes with other processes for the CPU."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """\
import json, os, subprocess, sys, threading, time
from flowsession_agent.session.children import Children
from flowsession_agent.session.job import Job

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
patient, code = json.loads(sys.argv[1])
children = Children()
job = Job(children, environ=os.environ, cwd="/", seconds=2, patient=patient)
others = [subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in range(4)]
over = threading.Event()

def reap():
    while not over.wait(0.05):
        children.reap()

threading.Thread(target=reap, daemon=True).start()
try:
    outcome = job.run([sys.executable, "-c", code])
finally:
    for other in others:
        other.kill()
print(json.dumps([outcome.timed_out, outcome.exit_code]), flush=True)
os._exit(0)
"""
COMPUTE = "import time\nwhile time.process_time() < 1.5: pass"
SLEEP = "import time\ntime.sleep(600)"


@pytest.mark.parametrize(("patient", "code", "timed_out"), [(False, COMPUTE, True), (True, COMPUTE, False), (True, SLEEP, True)])
def test_a_patient_job_counts_only_time_that_its_command_could_use(patient: bool, code: str, timed_out: bool) -> None:
    command = [sys.executable, "-c", PROGRAM, json.dumps([patient, code])]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "operator"}, check=True)
    assert json.loads(done.stdout) == [timed_out, 128 + 15 if timed_out else 0]
