"""The findings about a requirements file's lines before an installer sees them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsession.requirements.review import review


@pytest.mark.parametrize(
    "line",
    [
        "pandas",
        "pandas==2.3.3",
        "Pandas >= 2, < 3 ; python_version >= '3.9'",
        "scikit_learn[extra,more]~=1.5",
        "pkg @ https://example.com/pkg-1.0-py3-none-any.whl",
        "https://example.com/pkg-1.0.tar.gz",
        "pandas==2.3.3 --config-settings=x=y",
        "pandas @ https://example.com/pandas-2.whl#sha256=00",
        "pandas==2.3.3 --hash=sha256:abc --hash=sha256:def",
        "pandas  # why not",
        "promptflow",
    ],
)
def test_good_lines_count_and_are_not_judged(line):
    found = review(line)
    assert (found.count, found.errors, found.warnings) == (1, (), ())


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://example.com",
        "-i https://example.com --extra-index-url=https://other.example.com",
        "-f https://example.com/x",
        "--only-binary :all:",
        "--prefer-binary",
        "--use-feature=fast-deps",
        "--no-index",
    ],
)
def test_options_are_the_installers_affair(line):
    found = review(line)
    assert (found.count, found.errors, found.warnings) == (0, (), ())


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("pandas ==", "InvalidRequirement", ["'pandas =='", "write name==version"]),
        ("two words", "InvalidRequirement", ["'two words'"]),
        ("pandas=1.0", "InvalidRequirement", ["'pandas=1.0'"]),
        ("!", "InvalidRequirement", ["'!'"]),
        ("./local", "LocalPath", ["./local", "publish it to an index"]),
        ("../up", "LocalPath", ["build it into your image"]),
        ("/abs/pkg.whl", "LocalPath", ["/abs/pkg.whl"]),
        ("file:///abs/pkg.whl", "LocalPath", ["local file"]),
        ("wheels/pkg-1.0-py3-none-any.whl", "LocalPath", ["local file"]),
        ("-e .", "Editable", ["editable", "build it into your image"]),
        ("--editable=./pkg", "Editable", ["editable"]),
        ("-f ./wheels", "LocalPath", ["local folder"]),
        ("--find-links=/wheels", "LocalPath", ["local folder"]),
        (".[dev]", "LocalPath", ["local file or folder"]),
        ("~/pkg", "LocalPath", ["local file or folder"]),
        ("packages/mine", "LocalPath", ["local file or folder"]),
        ("C:\\wheels\\x.whl", "LocalPath", ["local file or folder"]),
        ("wheels\\x.whl", "LocalPath", ["local file or folder"]),
        ("pkg @ file:///x.whl", "LocalPath", ["local file or folder"]),
        ("pkg @ ./x.whl", "LocalPath", ["local file or folder"]),
        ("git+file:///repo#egg=x", "LocalPath", ["local repository"]),
        ("-e git+https://user:token@example.com/r.git#egg=x", "Editable", ["https://****@example.com"]),
        ("python=3.11", "InvalidRequirement", ["write python==3.11"]),
        ("numpy=1.26.4=py311h64a7726_0", "InvalidRequirement", ["write numpy==1.26.4"]),
        ("a" * 3000, "InvalidRequirement", ["longer than 2,000 characters"]),
        ("pkg==1 --hash=md5:00", "InvalidHash", ["'md5:00'", "sha256"]),
        ("-r 'open", "InvalidOption", ["a quotation mark is not closed"]),
        ("--index-url", "InvalidOption", ["--index-url has no value"]),
        ("--upgrade", "CommandLineOption", ["of pip's command line, not of its files", "remove it"]),
        ("--proxy=http://u:p@h", "CommandLineOption", ["http://****@h", "installer.proxy of the chart"]),
        ("--cert x.pem", "CommandLineOption", ["spec.installer.caBundleConfigMapName"]),
    ],
)
def test_bad_lines_are_named_with_the_way_out(line, code, words):
    found = review(f"numpy\n\n{line}\n")
    assert [(finding.line, finding.code) for finding in found.errors] == [(3, code)]
    for word in words:
        assert word in found.errors[0].message


@pytest.mark.parametrize("line", ["promptflow==1.18.5", "promptflow-tools>=1", "PromptFlow_Core<2"])
def test_a_pinned_prompt_flow_is_warned_of(line):
    (warning,) = review(line).warnings
    assert (warning.line, warning.code) == (1, "PinnedPromptflow")
    assert "remove the version" in warning.message


@pytest.mark.parametrize("text", ["", "\n\n", "# only\n  # comments\n", "\\\n", "   \n\t\n"])
def test_nothing_is_nothing(text):
    assert review(text).count == 0
    assert review(text).errors == ()


def test_a_continued_line_has_the_number_of_its_first():
    found = review("numpy\npandas \\\n  == \\\n  \nscipy\n")
    assert [finding.line for finding in found.errors] == [2]
    assert found.count == 3


def test_an_address_keeps_its_fragment():
    assert review("git+https://example.com/r.git#egg=x\nx#y\n").errors[0].line == 2


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end(end):
    assert [finding.line for finding in review(end.join(["a", "b ==", "c"])).errors] == [2]


@given(st.text(max_size=300))
def test_never_raises_and_places_are_right(text):
    found = review(text)
    last = len(text.splitlines())
    assert all(1 <= finding.line <= last for finding in (*found.errors, *found.warnings))
    assert found.count >= len({finding.line for finding in found.errors if finding.code == "InvalidRequirement"})


@given(st.lists(st.sampled_from(["pandas", "numpy>=1", "scipy==1.0"]), max_size=20), st.sampled_from(["\n", "\r\n"]))
def test_every_good_line_counts_once(lines, end):
    assert review(end.join(lines)).count == len(lines)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("git+https://example.com/r.git@v1#egg=x", "VcsLink", ["needs git in the image"]),
        ("x @ git+https://example.com/r.git", "VcsLink", ["needs git in the image"]),
        ("git+ssh://git@example.com/r.git", "VcsLink", ["git+ssh://****@example.com", "a key, which sessions have not: use https"]),
        ("hg+https://example.com/r#egg=x", "VcsLink", ["needs hg in the image"]),
        ("--pre", "PreReleases", ["pin those that are meant"]),
        ("--trusted-host pypi.corp", "TrustedHost", ["'--trusted-host pypi.corp'", "caBundleConfigMapName"]),
        ("--no-binary :all:", "SourceBuild", ["needs a compiler"]),
        ("--new-option=1", "UnknownOption", ["the installer may refuse it"]),
        ("pandas -i https://example.com", "IgnoredOption", ["'--index-url' behind a requirement is ignored by pip"]),
        ("--only-binary :all: pandas", "IgnoredOption", ["'pandas' belongs to no option"]),
        ("-c https://example.com/constraints.txt", "RemoteInclude", ["its changes are not seen"]),
        ("-r ${WHICH}.txt", "VariableInclude", ["its changes are not seen"]),
    ],
)
def test_what_is_unwise_is_warned_of(line, code, words):
    found = review(f"numpy\n{line}\n")
    assert [(finding.line, finding.code) for finding in found.warnings] == [(2, code)]
    assert found.errors == ()
    for word in words:
        assert word in found.warnings[0].message


# -- prompt flow's own versions


@pytest.mark.parametrize("line", ["promptflow-azure-ai-language==0.1.5", "promptflow-vectordb>=0.2", "not-promptflow==1"])
def test_packages_of_others_may_be_pinned(line):
    assert review(line).warnings == ()


def test_a_pin_with_a_hash_is_left_to_the_installer_and_the_warning_says_so():
    found = review("promptflow==1.18.5 --hash=sha256:00\n")
    assert "fails unless the image has that very version" in found.warnings[0].message


# -- variables, which pip substitutes anywhere in a line


@pytest.mark.parametrize(
    "line",
    [
        "rapidfuzz==${FUZZ_VERSION}",
        "${NAME}==1.0",
        "rapidfuzz${SPEC}",
        "rapidfuzz ${SPEC}",
        "x @ https://example.com/${NAME}.whl",
        "${A} ${B}",
    ],
)
def test_a_variable_is_the_installers_affair(line):
    found = review(line)
    assert (found.count, found.errors, found.warnings) == (1, (), ())


@pytest.mark.parametrize("line", ["rapidfuzz==${fuzz_version}", "rapidfuzz==$FUZZ_VERSION"])
def test_what_pip_does_not_take_for_a_variable_is_refused_with_the_form_that_it_does(line):
    (error,) = review(line).errors
    assert error.code == "InvalidRequirement"
    assert "write a variable as ${NAME}, in upper case" in error.message


def test_a_variable_hides_neither_what_is_local_nor_a_pinned_prompt_flow():
    assert [one.code for one in review("${HERE}/x.whl\n").errors] == ["LocalPath"]
    assert [one.code for one in review("promptflow==${VERSION}\n").warnings] == ["PinnedPromptflow"]


# -- included files


def including(**texts):
    files = {name.replace("__", "/") + ".txt": text.encode() for name, text in texts.items()}
    return review(texts["top"], path="top.txt", files=files)


def test_included_files_are_judged_and_counted():
    found = including(top="-r sub/a.txt\nnumpy\n", sub__a="--requirement=../b.txt\nbad ==\n", b="-rc.txt\nscipy\n", c="pandas\n")
    assert found.count == 4
    assert [(one.file, one.line, one.code) for one in found.errors] == [("sub/a.txt", 2, "InvalidRequirement")]
    assert set(found.included) == {"sub/a.txt", "b.txt", "c.txt"}


def test_constraints_are_judged_but_ask_for_nothing():
    found = including(top="-c a.txt\nnumpy\n", a="numpy<2\npromptflow==1.0\n./local\n")
    assert found.count == 1
    assert [(one.file, one.code) for one in (*found.errors, *found.warnings)] == [("a.txt", "LocalPath"), ("a.txt", "PinnedPromptflow")]


def test_the_same_file_as_requirements_and_as_constraints():
    assert including(top="-c a.txt\n-r a.txt\n", a="numpy\n").count == 1
    assert including(top="-r a.txt\n-r b.txt\n", a="-r c.txt\n", b="-r c.txt\n", c="numpy\n").count == 1


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("-r nope.txt", "IncludeMissing", ["there is no 'nope.txt' in the flow folder (there: a.txt, top.txt)"]),
        ("-c sub/nope.txt", "IncludeMissing", ["there: nothing"]),
        ("-r ../x.txt", "IncludeOutside", ["outside of the flow folder", "additional_includes"]),
        ("-r /etc/x.txt", "IncludeOutside", ["outside"]),
        ("-r C:\\x.txt", "IncludeOutside", ["outside"]),
        ("-r file:///x.txt", "IncludeOutside", ["outside"]),
        ("-r top.txt", "IncludeCycle", ["the file includes itself (top.txt -> top.txt)"]),
    ],
)
def test_a_file_that_cannot_be_included(line, code, words):
    (error,) = including(top=f"numpy\n{line}\n", a="").errors
    assert (error.file, error.line, error.code) == ("top.txt", 2, code)
    for word in words:
        assert word in error.message


def test_a_circle_is_named_with_its_way():
    (error,) = including(top="-r a.txt\n", a="-r b.txt\n", b="\n-r a.txt\n").errors
    assert (error.file, error.line, error.code) == ("b.txt", 2, "IncludeCycle")
    assert "a.txt -> b.txt -> a.txt" in error.message


def test_a_text_without_a_folder_includes_nothing():
    (error,) = review("-r other.txt\n").errors
    assert (error.code, "put the requirements into the flow folder" in error.message) == ("IncludeMissing", True)


def test_an_included_file_that_is_no_text_is_named():
    (error,) = review("-r a.txt", path="t.txt", files={"t.txt": b"-r a.txt", "a.txt": b"\xff\x00"}).errors
    assert (error.code, "a.txt is not text" in error.message) == ("NotText", True)


# -- hashes


HASH = "--hash=sha256:00"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (f"a==1 {HASH}\nb==1 {HASH}\n", []),
        (f"a==1 {HASH}\nb==1\n", [2]),
        (f"a==1 {HASH}\nb>=1 {HASH}\nc==1.* {HASH}", [2, 3]),
        (f"a==1 {HASH}\nb ; sys_platform == 'win32'\n", []),
        (f"a==1 {HASH}\nb @ https://example.com/b.whl#sha256=00\n", []),
        (f"a==1 {HASH}\nb @ https://example.com/b.whl\n", [2]),
        (f"a==1 {HASH}\ngit+https://example.com/b.git#egg=b\n", [2]),
        ("--require-hashes\na==1\n", [2]),
        (f"--no-require-hashes\na==1 {HASH}\nb\n", []),
        ("a==1\nb\n", []),
    ],
)
def test_one_hash_asks_for_all(text, lines):
    assert [(one.line, one.code) for one in review(text).errors] == [(line, "UnhashedRequirement") for line in lines]


# -- limits


@pytest.mark.parametrize(
    "text",
    ["a\n" * 1001, f"a=={'1' * 1000}\n" * 61, "-i x\n" * 50_001, "# " + "x" * 1_000_001, "a" + " --hash=sha256:00" * 50_001],
)
def test_too_much_is_not_read_to_its_end(text):
    assert [one.code for one in review(text).errors] == ["TooLarge"]


def test_a_file_that_includes_many_is_not_read_to_its_end():
    files = {f"{n}.txt": f"-r {n + 1}.txt\n".encode() for n in range(200)}
    assert [one.code for one in review("-r 0.txt", path="top.txt", files=files).errors] == ["TooLarge"]
