"""Requirements files as people have them, each with its verdict (corpus/verdicts.yaml), compared with pip's own parser."""

from pathlib import Path

import pytest
import yaml
from pip._internal.exceptions import InstallationError, RequirementsFileParseError
from pip._internal.network.session import PipSession
from pip._internal.req.req_file import parse_requirements

from flowsession.model.resolved import Resolved, Unresolved
from flowsession.requirements import review as requirements
from unit.builders import DAG, from_folder

CORPUS = Path(__file__).parent / "corpus"
VERDICTS = yaml.safe_load((CORPUS / "verdicts.yaml").read_text())
EACH = pytest.mark.parametrize("name", VERDICTS)
NO_REVIEW = {"latin-1"}
"""Files that are refused before their lines are read."""


def folder(name):
    base = CORPUS / name
    return {str(path.relative_to(base)): path.read_bytes() for path in sorted(base.rglob("*")) if path.is_file()}


def review(name):
    files = folder(name)
    return requirements.review(requirements.text_of("requirements.txt", files["requirements.txt"]), path="requirements.txt", files=files)


def test_the_corpus_is_large_and_complete():
    assert len(VERDICTS) >= 60
    assert {path.name for path in CORPUS.iterdir() if path.is_dir()} == set(VERDICTS)


@pytest.mark.parametrize("name", [name for name in VERDICTS if name not in NO_REVIEW])
def test_the_verdict(name):
    found, expected = review(name), VERDICTS[name]
    told = [[f"{one.file}:{one.line} {one.code}" for one in kind] for kind in (found.errors, found.warnings)]
    assert told == [expected.get("errors", []), expected.get("warnings", [])]
    assert found.count == expected["count"]
    assert all(
        len(one.message) < 400 and "ghp_" not in one.message and "user:pass" not in one.message for one in found.warnings + found.errors
    )


@EACH
def test_what_an_environment_makes_of_it(name):
    files, expected = folder(name), VERDICTS[name]
    items = [{"key": key, "path": path} for key, path in enumerate_keys({"flow.dag.yaml": DAG, **files})]
    found = from_folder(dict(zip((item["key"] for item in items), [DAG, *files.values()], strict=True)), configMap={"items": items})
    if "errors" not in expected:
        assert isinstance(found, Resolved), found
        assert found.requirements_count == expected["count"]
        return
    assert isinstance(found, Unresolved)
    first = expected["errors"][0]
    if name not in NO_REVIEW:
        assert found.reason == "RequirementsRejected"
        assert found.message.startswith(first.split()[0].replace(":", " line ") + ": ")
    assert first.split()[0].partition(":")[0] in found.message


def enumerate_keys(files):
    return [(f"key{number}", path) for number, path in enumerate(files)]


@pytest.mark.parametrize("name", [name for name in VERDICTS if name not in {"airflow-constraints", *NO_REVIEW}])
def test_pips_parser_agrees(name):
    """What pip can't parse is refused. If nothing is refused, pip counts the same requirements."""
    found = review(name)
    try:
        parsed = list(parse_requirements(str(CORPUS / name / "requirements.txt"), session=PipSession()))
    except RequirementsFileParseError:
        assert found.errors
        return
    except InstallationError:
        assert found.errors
        return
    if not found.errors:
        assert sum(not one.constraint for one in parsed) == found.count
