"""Requirements as the tools get them: variables substituted as by pip, and prompt flow's packages unpinned if the image has them."""

import errno
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from flowsession_agent.install.base import Base
from flowsession_agent.install.ends import InstallError
from flowsession_agent.install.rewriting import Rewriting
from flowsession_agent.server.order import Requirements
from flowsession_agent.session import flow_folder
from flowsession_agent.session.flow_folder import without_copies
from flowsession_agent.settings import Home
from flowsession_protocol.variables import SECRET_VARIABLES

VERSIONS = {"promptflow": "1.18.5", "promptflow-core": "1.18.5", "promptflow-tools": "1.6.1", "pip": "26.0"}
BASE = cast(Base, SimpleNamespace(promptflow={name: version for name, version in VERSIONS.items() if name != "pip"}, sites=[]))
ENVIRON = {"FUZZ_VERSION": "3.9.7", "KEY": "hunter2", "LINES": "a\nb", "MARK": "x #y", "EMPTY": "", SECRET_VARIABLES: "KEY,OTHER"}


def rewriting(folder: Path, text: str, *, path: str | None = None, environ: Mapping[str, str] = ENVIRON) -> Rewriting:
    home = Home(str(folder))
    Path(home.flow).mkdir(exist_ok=True)
    return Rewriting(Requirements(text=text, path=path, shown=path or "the text"), home=home, environ=environ, base=BASE)


def rewritten(folder: Path, text: str) -> str:
    return Path(rewriting(folder, text).file).read_bytes().decode()


@pytest.mark.parametrize(
    ("text", "installed"),
    [
        ("promptflow==1.10.0\n", "promptflow\n"),
        ("numpy\r\npromptflow[azure] >= 1, < 2 # why\r\nscipy", "numpy\r\npromptflow[azure]\r\nscipy"),
        ("promptflow (==1.0)\n", "promptflow\n"),
        ("PromptFlow_Core<2", "PromptFlow_Core\n"),
        ("promptflow==1.0 ; python_version < '3.12'", "promptflow ; python_version < '3.12'\n"),
        ("promptflow==1.0;python_version < '3.12' --config-settings=x=y", "promptflow ; python_version < '3.12' --config-settings=x=y\n"),
        ("promptflow \\\n  == \\\n  1.0\nscipy\n", "\n\n\nscipy\n"),
        ("promptflow-tools @ git+https://example.com/x.git;a ; python_version > '3'\n", "promptflow-tools ; python_version > '3'\n"),
        ("git+https://example.com/x.git#egg=promptflow_core\n", "promptflow-core\n"),
    ],
)
def test_the_images_prompt_flow_is_kept(tmp_path: Path, text: str, installed: str) -> None:
    found = rewriting(tmp_path, text)
    assert Path(found.file).read_bytes().decode() == installed
    (warning,) = found.warnings
    assert "was installed without its version: the image has promptflow" in warning
    assert found.note == f" {warning.replace('was installed', 'was taken')}."


def test_what_the_image_has_asks_for_nothing_beside_other_lines(tmp_path: Path) -> None:
    assert rewritten(tmp_path, "promptflow==1.0\npromptflow\npillow==11.0.0\n") == "\n\npillow==11.0.0\n"


@pytest.mark.parametrize(
    "text",
    [
        "promptflow-azure-ai-language==0.1.5\n",
        "promptflow-azure==1.0\n",
        "promptflow[azure]\nnot-promptflow==1\n",
        "promptflow ; python_version > '3'\n",
        "promptflow==1.18.5 --hash=sha256:00\n",
        "# promptflow==1.0\n",
        "",
    ],
)
def test_what_the_image_has_not_and_what_has_no_version_stays(tmp_path: Path, text: str) -> None:
    found = rewriting(tmp_path, text)
    assert Path(found.file).read_text() == text
    assert (found.warnings, Path(found.file).name) == ([], "requirements.txt")


def test_the_warning_names_the_line_s_place_and_no_password(tmp_path: Path) -> None:
    text = "numpy\npromptflow @ git+https://user:word@example.com/x.git\n"
    (warning,) = rewriting(tmp_path, text).warnings
    assert warning.startswith("'promptflow @ git+https://****@example.com/x.git' (line 2 of the text) was installed")


def test_included_files_are_rewritten_beside_themselves_which_stay(tmp_path: Path) -> None:
    folder = tmp_path / "flow" / "env"
    folder.mkdir(parents=True)
    files = {
        "all.txt": "-r base.txt\n-c more/limits.txt\n-r ${WHICH}\n",
        "base.txt": "numpy\n",
        "more/limits.txt": "promptflow==1.0\npandas<3\n",
        "dev.txt": "\n\nrapidfuzz==${FUZZ_VERSION}\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    found = rewriting(tmp_path, files["all.txt"], path="env/all.txt", environ={**ENVIRON, "WHICH": "dev.txt"})
    assert without_copies(Path(found.file).read_text()) == "-r base.txt\n-c more/limits.txt\n-r dev.txt\n"
    assert [path.read_text() for path in (folder / "more").glob(".flowsession.*.limits.txt")] == ["\npandas<3\n"]
    beside = rewriting(tmp_path, files["all.txt"], path="env/all.txt", environ={**ENVIRON, "WHICH": "dev.txt"})
    assert beside.file != found.file, "another session that uses the same claim"
    beside.close()
    assert Path(found.file).exists()
    assert [(line.name, line.first) for line in found.lines if line.name == "rapidfuzz"] == [("rapidfuzz", 3)]
    found.close()
    assert {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.txt")} == files


def test_an_included_file_may_have_a_space_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "flow"
    folder.mkdir()
    (folder / "my base.txt").write_text("promptflow==1.0\nnumpy\n")
    (folder / "all.txt").write_text("-r 'my base.txt'\n")
    found = rewriting(tmp_path, "-r 'my base.txt'\n", path="all.txt")
    assert without_copies(Path(found.file).read_text()) == "-r 'my base.txt'\n"
    assert [line.name for line in found.lines] == ["", "numpy"]


def test_a_comment_goes_on_behind_a_backslash_as_for_pip(tmp_path: Path) -> None:
    found = rewriting(tmp_path, "numpy # not \\\npromptflow==1.0\n")
    assert (found.warnings, [line.name for line in found.lines]) == ([], ["numpy"])


@pytest.mark.parametrize(
    ("text", "installed"),
    [
        ("rapidfuzz==${FUZZ_VERSION}\n", "rapidfuzz==3.9.7\n"),
        ("x==${FUZZ_VERSION} # ${FUZZ_VERSION}\n", "x==3.9.7\n"),
        ("--extra-index-url https://example.com/${FUZZ_VERSION}/\n", "--extra-index-url https://example.com/3.9.7/\n"),
        # Left as pip leaves them: not set, empty, not a variable.
        ("x==${NO_SUCH} ${EMPTY} $FUZZ_VERSION ${fuzz_version}\n", "x==${NO_SUCH} ${EMPTY} $FUZZ_VERSION ${fuzz_version}\n"),
        # Left to pip, which substitutes values after removing comments and joining lines.
        ("x==${LINES}\ny==${MARK}\n", "x==${LINES}\ny==${MARK}\n"),
        # Both tools substitute these, and mask them.
        ("-i https://${KEY}@example.com/\n", "-i https://${KEY}@example.com/\n"),
        ("-i https://me:${KEY}@example.com/${FUZZ_VERSION}\n", "-i https://me:${KEY}@example.com/3.9.7\n"),
        ("# ${KEY}\nx # ${KEY}\n", "# ${KEY}\nx # ${KEY}\n"),
    ],
)
def test_variables_get_their_values_as_by_pip(tmp_path: Path, text: str, installed: str) -> None:
    assert rewritten(tmp_path, text) == installed


@pytest.mark.parametrize("line", ["x==${KEY}", "-i https://example.com/${KEY}/simple", "x @ https://example.com/${KEY}", "${KEY}"])
def test_a_secret_s_value_is_refused_where_it_would_be_shown(tmp_path: Path, line: str) -> None:
    with pytest.raises(InstallError) as caught:
        rewritten(tmp_path, f"numpy\n{line}\n")
    message = caught.value.failure.message
    assert message.startswith("${KEY} (line 2 of the text) has its value from a Secret")
    assert "hunter2" not in message
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["requirements.txt"]
    assert (tmp_path / "requirements.txt").read_text() == f"numpy\n{line}\n"


def test_in_a_folder_that_can_only_be_read_the_tools_get_the_file_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    (tmp_path / "flow").mkdir()
    (tmp_path / "flow" / "requirements.txt").write_text("promptflow==1.0\nnumpy\n")
    monkeypatch.setattr(flow_folder, "put", refuse)
    found = rewriting(tmp_path, "promptflow==1.0\nnumpy\n", path="requirements.txt")
    assert (found.file, found.warnings) == (str(tmp_path / "flow" / "requirements.txt"), [])
