"""Requirements of the image's prompt flow, as constraints on what a session installs."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from flowsession_agent.install import kept
from flowsession_agent.install.base import Base
from flowsession_agent.install.requirement_lines import Line


def image(site: Path, **distributions: tuple[str, ...]) -> Base:
    for name, requires in distributions.items():
        folder = site / f"{name}-1.0.dist-info"
        folder.mkdir()
        needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\n{needs}\nRequires-Dist: of-the-description>1\n")
    family = {name.replace("_", "-"): "1.0" for name in distributions if name.startswith("promptflow")}
    return cast(Base, SimpleNamespace(sites=[str(site)], promptflow=family))


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return image(
        tmp_path,
        promptflow=("promptflow-core==1.0", "promptflow-azure==1.0 ; extra == 'azure'"),
        promptflow_core=("pillow (>=12,<13)", "sdk[all]>=1,<2", 'old>=1 ; python_version < "3.8"', "any"),
        sdk=("api==1.38",),
        any=("below>3",),
        stranger=("pillow<12",),
    )


def lines(*texts: str) -> list[Line]:
    return [Line(file="requirements.txt", number=number, text=text) for number, text in enumerate(texts, 1)]


def test_what_prompt_flow_needs_directly_or_not(base: Base) -> None:
    assert kept.needs(base, []) == ["api==1.38", "below>3", 'old>=1 ; python_version < "3.8"', "pillow >=12,<13", "sdk>=1,<2"]


def test_a_line_s_own_version_counts_and_what_the_image_s_needs_does_not(base: Base) -> None:
    found = kept.needs(base, lines("Pillow==11.0.0", "sdk<1", "any ; python_version > '3'", "below"))
    assert found == ["below>3", 'old>=1 ; python_version < "3.8"']


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("promptflow\nsix\n", "\nsix\n"),
        ("six\nPromptFlow_Core  # ours\n", "six\n\n"),
        ("promptflow[azure]\nsix\n", None),
        ("promptflow==0.9\nsix\n", None),
        ("promptflow \\\n  --hash=sha256:0\nsix\n", None),
        ("promptflow-rag\nsix\n", None),
        ("# nothing else\npromptflow\n", None),
    ],
)
def test_lines_that_ask_for_what_the_image_has_are_left_out(base: Base, text: str, expected: str | None) -> None:
    assert kept.without_image_promptflow(text, base) == (text if expected is None else expected)


def test_an_extra_that_the_image_has(tmp_path: Path) -> None:
    base = image(tmp_path, promptflow=(), promptflow_azure=())
    assert kept.without_image_promptflow("promptflow[azure]\nsix\n", base) == "\nsix\n"
