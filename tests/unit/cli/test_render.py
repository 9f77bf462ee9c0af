"""Screens at 40, 80 and 120 columns, and plain lines in a pipe."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from flowsession_cli import render
from flowsession_cli.commands import sessions
from unit.cli.fakes import condition, event, ready_status

NOW = render.seconds_of("2026-11-29T10:10:00Z")
SNAPSHOTS = Path(__file__).with_name("snapshots")


def session(name="ticket-triage", **status):
    return {
        "metadata": {"name": name, "namespace": "default", "creationTimestamp": "2026-11-29T09:00:00Z"},
        "spec": {"user": "alice@example.com", "environmentRef": {"name": "ticket-triage"}, "idle": {"action": "Delete"}},
        "status": ready_status() | {"vmSize": "Standard_D2s_v5", "expiresAt": "2026-11-29T10:55:30Z"} | status,
    }


def started():
    picture = render.StartPicture("chat")
    picture.began = render.seconds_of("2026-11-29T10:09:50Z")
    stages = [("Scheduled", "50", 0.2), ("ImagePulled", "50", 1.1), ("AgentReady", "51", 0.9), ("PackagesInstalled", "52", None)]
    message = "installing 3 requirements of requirements.txt: pandas==2.3.3, scikit-learn and rapidfuzz, by uv under the rules of pip"
    picture.session = {
        "status": {
            "phase": "Installing",
            "stages": [
                {"name": name, "startedAt": f"2026-11-29T10:09:{second}Z"} | ({"seconds": took} if took is not None else {})
                for name, second, took in stages
            ],
            "conditions": [condition("Ready", "False", "Starting", message)],
        }
    }
    return picture.at(NOW)


def screen(draw, width):
    out = Console(file=io.StringIO(), width=width, highlight=False, force_terminal=False, emoji=False, markup=False)
    draw(out)
    return "\n".join(line.rstrip() for line in out.file.getvalue().splitlines()) + "\n"


def listed(out):
    rows = [sessions.row(session(), NOW), sessions.row(session("a", phase=None, vmSize="", expiresAt=None), NOW)]
    render.table(out, sessions._HEADS, rows)


def status_of(out):
    found = session(
        packages={"count": 97},
        install={"tool": "uv"},
        edits={"count": 2, "files": ["classify.py", "route.py"], "savedAt": "2026-11-29T10:09:00Z"},
        cost={"perHour": "0.096", "accrued": "0.05", "since": "2026-11-29T09:10:00Z"},
        lastActivity={"at": "2026-11-29T10:05:30Z", "what": "exec python train.py"},
        baseImage="registry.example.com/flowsession-runtime:0.1.0@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    )
    run = {"metadata": {"name": "answers"}, "status": {"phase": "Running", "progress": "37/40, 2 failed"}}
    render.fields(out, sessions.screen(found, [run], NOW))


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("draw", [listed, status_of, lambda out: out.print(started())], ids=["ls", "status", "start"])
def test_screens(draw, width, request):
    """To update a screen after an intended change, delete its file and run the test twice."""
    snapshot = SNAPSHOTS / f"{request.node.callspec.id}.txt"
    found = screen(draw, width)
    if not snapshot.exists():
        snapshot.parent.mkdir(exist_ok=True)
        snapshot.write_text(found)
        pytest.fail("there was no snapshot; one is written, look at it")
    assert found == snapshot.read_text()
    assert max(map(len, found.splitlines())) <= width


def test_a_pipe_gets_whole_lines_without_colour(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "")
    stream = io.StringIO()
    render.table(render.console(stream), ("NAME", "STATUS"), [("x" * 200, "Running")])
    assert stream.getvalue() == f"NAME{' ' * 199}STATUS\n{'x' * 200}   Running\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (119, "119s"), (121, "2m1s"), (1800, "30m"), (7200, "2h"), (200000, "2d"), (-3, "0s")]
)
def test_spans(seconds, text):
    assert render.span(seconds) == text


def test_events_are_folded():
    told = [event("x", "A", "same", minute=1), event("x", "B", "other", minute=2), event("x", "A", "same", minute=3)]
    assert [row[1:] for row in render.folded(told, 5)] == [("B", "other"), ("A", "same (2 times)")]
    assert len(render.folded(told, 1)) == 1


def test_stages_of_an_earlier_start_are_not_shown():
    stages = [{"name": "Scheduled", "startedAt": "2026-11-29T10:00:00Z"}, {"name": "Scheduled", "startedAt": "2026-11-29T10:09:58Z"}]
    assert render.own_stages({"stages": stages}, NOW) == stages[1:]
