"""What people bring, unchanged: each folder of tests/cases against its expected result."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from . import cases
from .cases import Seen
from .conftest import Cluster

Check = Callable[[Seen], bool]


@pytest.fixture(scope="module")
def tried(deployed: Cluster) -> Iterator[dict[str, Future[Seen]]]:
    own = deployed.within("e2e-cases")
    deployed.kubectl("delete", "namespace", own.namespace, "--ignore-not-found")
    own.create_namespace()
    yield cases.start_all(own)
    deployed.kubectl("delete", "namespace", own.namespace, "--wait=false")


def ready(*warnings: str) -> Check:
    """The session is Ready, and its warnings contain these words."""
    return lambda seen: seen.ready and all(words in seen.warned for words in warnings)


def not_ready(*words: str) -> Check:
    """It fails, and the cause contains these words."""
    return lambda seen: not seen.ready and all(word in seen.failure for word in words)


def invalid(*words: str, never: str = "\0") -> Check:
    """It is Ready, and the tool check finds a fault and reports these words."""
    return lambda seen: (
        seen.ready and seen.verdict.startswith("Invalid") and all(w in seen.verdict for w in words) and never not in seen.verdict
    )


def outputs(**expected: Any) -> Check:
    """The flow is valid, and `flow test` prints at least these outputs."""

    def check(seen: Seen) -> bool:
        printed = json.loads(seen.test.out) if seen.test and seen.test.code == 0 else {}
        return seen.verdict.startswith("Valid") and printed | expected == printed

    return check


def prints(pattern: str) -> Check:
    """The case's command prints this pattern."""
    return lambda seen: seen.command is not None and re.search(pattern, seen.command.out) is not None


WISHES: dict[str, tuple[Check, ...]] = {
    "01-azure-extra": (ready(),),
    "02-azure-monitor-alone": (ready(), prints("both")),
    "05-requirements-named-but-missing": (ready("requirements.txt"), outputs(answer="a")),
    "06-requirements-in-parent": (ready("additional_includes"), outputs(answer="a"), prints("rapidfuzz")),
    "10-includes-of-one-name": (ready("common/__init__.py"), outputs(answer="a12")),
    "11-relative-import": (invalid("relative"),),
    "12-sibling-module": (invalid("additional_includes", "../rag"),),
    "15-dotenv": (outputs(answer="https://x.example.com"),),
    "16-bom-crlf-japanese": (outputs(answer="世界"),),
    "17-variable-in-requirement": (lambda seen: prints("3.9.7")(seen) or not_ready("FUZZ_VERSION")(seen),),
    "19-windows-freeze": (not_ready("pywin32", "Windows", "sys_platform == 'win32'"),),
    "22-pin-of-foreign-promptflow-package": (ready(), prints(r"0\.1\.5")),
    "23-prompty-with-unknown-connection": (invalid("nowhere"),),
    # The package lacks yaml, which the runtime image now has.
    "24-package-tool-cannot-load": (lambda seen: seen.verdict.startswith("Valid"),),
    "25-module-gone-from-package": (invalid("langchain", "evaluation", "1."),),
    "26-conda-file-and-setup-sh": (ready("conda_file", "setup_sh"), outputs(answer="a")),
    "27-entry-in-dag-file": (lambda seen: seen.verdict.startswith("Valid"), lambda seen: seen.test is not None and seen.test.code == 0),
    "29-openai-of-2023": (not_ready("APIConnectionError", "openai==0.28.1", "line 1 of requirements.txt", "leave out the version"),),
    "31-unreachable-extra-index": (ready("nowhere.example.invalid"),),
    "32-conflicting-pins-across-includes": (not_ready("langchain-openai==0.3.0", "langchain-core==0.1.23"),),
    "34-prompty-without-parameters": (invalid("parameters"),),
    "35-aggregation-and-metrics": (outputs(grade="1"), prints(r'"count": 2')),
    "38-dataclass-output": (outputs(n=1, t="x"),),
    "39-image-input": (lambda seen: seen.test is not None and "Image" in seen.test.out and "data:image/png" in seen.test.out,),
    "44-config-module-left-out-of-git": (invalid("config.py", never="add config"),),
    "45-flex-return-annotation": (invalid("Out"),),
    "46-own-parameter-of-the-model-call": (invalid("max_tokens"),),
    "48-old-pin-beside-promptflow": (lambda seen: ready("pillow")(seen) or not_ready("promptflow", "pillow", "remove")(seen),),
    "50-azure-monitor-by-pip": (ready(), prints("both")),
}


def test_every_case_has_a_wish() -> None:
    assert set(WISHES) == set(cases.NAMES)


@pytest.mark.xdist_group("cases")
@pytest.mark.parametrize("name", cases.NAMES)
def test_case(tried: dict[str, Future[Seen]], name: str) -> None:
    seen = tried[name].result()
    for number, check in enumerate(WISHES[name]):
        assert check(seen), (
            f"wish {number}: ready={seen.ready} {seen.verdict} | {seen.failure} | {seen.warned} | {seen.test} | {seen.command}"
        )
