"""Which requirements the installed packages satisfy: versions, markers, extras, links, constraints, and prompt flow's own packages."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement

from flowsession_agent.install.satisfied import Judge, linked, links_of
from flowsession_protocol.masking import masked

COMMIT = "0123456789abcdef"


def found(name: str, version: str, *requires: str) -> Any:
    return SimpleNamespace(name=name, version=version, requires=list(requires))


INSTALLED = {
    "pandas": found("pandas", "2.2.3", "numpy>=1.26", 'odfpy>=1.4; extra == "excel"'),
    "numpy": found("numpy", "2.1.0"),
    "flask-cors": found("Flask_Cors", "4.0.0rc1"),
    "uvicorn": found(
        "uvicorn", "0.30", 'httptools>=0.6; extra == "standard"', 'uvloop; sys_platform == "win32" and extra == "standard"', "colorama;"
    ),
    "httptools": found("httptools", "0.6.1"),
    "httpx": found(
        "httpx", "0.27", 'uvicorn[standard]; extra == "serve"', 'httptools>=0.7; extra == "Fast_Path"', 'all[all]; extra == "all"'
    ),
    "tool": found("tool", "1.0"),
    "wheel-of-url": found("wheel_of_url", "2.0"),
    "promptflow": found("promptflow", "1.18.5", 'promptflow-azure<2; extra == "azure"'),
    "promptflow-tools": found("promptflow-tools", "1.6.0"),
}
RECORDS: dict[str, dict[str, Any]] = {
    "tool": {"url": "https://github.com/o/tool.git", "vcs_info": {"vcs": "git", "requested_revision": "v1", "commit_id": COMMIT}},
    "wheel-of-url": {"url": "https://files.example/wheel_of_url-2.0-py3-none-any.whl", "archive_info": {}},
}
LINKS = {name: links_of(record) for name, record in RECORDS.items()}


def judged(*lines: str, constraints: tuple[str, ...] = ()) -> tuple[list[str], int]:
    told = [{"text": text, "place": f"line {number} of r.txt", "constraint": False} for number, text in enumerate(lines, 1)]
    told += [{"text": text, "place": f"line {number} of c.txt", "constraint": True} for number, text in enumerate(constraints, 1)]
    classify = Judge(INSTALLED, Requirement, links=LINKS, keeps=["promptflow", "promptflow-tools"])
    return classify.unsatisfied(json.loads(json.dumps(told))), classify.asked


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("pandas", ""),
        ("pandas>=2,<3", ""),
        ("Pandas ~= 2.2.0", ""),
        ("pandas==2.2.3 --hash=sha256:abc", ""),
        ("pandas>=3", "pandas 2.2.3 is installed"),
        ("pandas==2.2.2 --hash=sha256:abc", "pandas 2.2.3 is installed"),
        ("flask.cors>=3", ""),
        ("openpyxl", "it is not installed"),
        ('pywin32; sys_platform == "win32"', ""),
        ('openpyxl; python_version >= "3"', "it is not installed"),
        ("uvicorn[standard]", ""),
        ("uvicorn[nonsense]", ""),
        ("httpx[serve]", ""),
        ("httpx[all]", "its extra 'all' needs all, and it is not installed"),
        ("httpx[fast-path]", "its extra 'fast-path' needs httptools>=0.7, and httptools 0.6.1 is installed"),
        ("pandas[excel]>=2", "its extra 'excel' needs odfpy>=1.4, and it is not installed"),
        ("promptflow==1.10", ""),
        ("promptflow[azure]>=1.2", "its extra 'azure' needs promptflow-azure<2, and it is not installed"),
        ("promptflow-tools @ git+https://github.com/microsoft/promptflow", ""),
        ("promptflow==1.10 --hash=sha256:abc", "promptflow 1.18.5 is installed"),
        ("promptflow-vectordb", "it is not installed"),
        ("git+https://github.com/o/tool.git@v1#egg=tool", ""),
        ("tool @ git+https://user:word@github.com/o/tool.git@v1", ""),
        (f"tool @ git+https://github.com/o/tool.git@{COMMIT}", ""),
        ("tool @ git+https://github.com/o/tool.git", "tool 1.0 is installed, not from there"),
        ("tool @ git+https://github.com/o/tool.git@v2", "tool 1.0 is installed, not from there"),
        ("tool @ git+https://github.com/o/tool.git@v1#subdirectory=a", "tool 1.0 is installed, not from there"),
        ("git+https://github.com/o/other.git#egg=other", "it is not installed"),
        ("https://files.example/wheel_of_url-2.0-py3-none-any.whl", ""),
        ("https://files.example/wheel_of_url-2.1-py3-none-any.whl", "it is not installed"),
        ("pandas @ https://files.example/pandas.whl", "pandas 2.2.3 is installed, not from there"),
        ("tool==1.0", ""),
        ("pandas==${NO_SUCH_VARIABLE_HERE}", "it can't be compared"),
    ],
)
def test_a_line_is_judged_as_by_pip(line: str, problem: str) -> None:
    said, _ = judged("numpy", line)
    if not problem:
        assert said == []
        return
    (told,) = said
    assert told.startswith(repr(masked(line).partition(" --hash")[0]) + " (line 2 of r.txt): " + problem)


def test_variables_are_put_in_and_shown_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANTED", "3.0")
    monkeypatch.setenv("HAS", "2.2.3")
    assert judged("pandas==${HAS}", "pandas==${WANTED}")[0] == ["'pandas==${WANTED}' (line 2 of r.txt): pandas 2.2.3 is installed"]


def test_only_what_applies_here_is_counted() -> None:
    assert judged("pandas", 'pywin32; sys_platform == "win32"', "openpyxl") == (["'openpyxl' (line 3 of r.txt): it is not installed"], 2)


def test_constraints_count_for_what_is_asked_for_and_what_that_needs() -> None:
    constraints = ("numpy<2", "tool<1", "openpyxl==1", "pandas>=2")
    assert judged("pandas", constraints=constraints)[0] == ["constraint 'numpy<2' (line 1 of c.txt): numpy 2.1.0 is installed"]
    assert judged("uvicorn", constraints=constraints)[0] == []


def test_logins_are_not_shown() -> None:
    said, _ = judged("tool @ git+https://me:secret@github.com/o/tool.git@v2")
    assert "secret" not in said[0]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("git+https://Host/o/r@v1", "git+https://a:b@host/o/r@v1#egg=x", True),
        ("git+ssh://git@host/o/r", "git+ssh://host/o/r", True),
        ("https://host/a.whl#sha256=12", "https://host/a.whl", True),
        ("https://host/A.whl", "https://host/a.whl", False),
        ("git+https://host/o/r", "https://host/o/r", False),
        ("git+https://host/o/r@v1", "git+https://host/o/r@v2", False),
    ],
)
def test_links_are_compared_without_logins_and_fragments(one: str, other: str, same: bool) -> None:
    assert (linked(one) == linked(other)) == same
