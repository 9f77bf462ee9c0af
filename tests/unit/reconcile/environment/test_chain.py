"""FlowEnvironment: what it resolves to, what its status says, and when its sources are read again."""

from dataclasses import replace

import pytest

from flowsession.model.plan import Fetch
from flowsession.model.resolved import Resolved, Unresolved
from flowsession.reconcile.environment import chain as environments
from flowsession.reconcile.environment import resolve as resolution
from flowsession.settings import InstallerDefaults, PackageCache, Settings
from unit.builders import (
    DAG,
    NOW,
    RUNTIME,
    applied,
    condition,
    config_map,
    environment_snapshot,
    from_folder,
    from_text,
    resolved,
    spec,
    stamp,
    verdict,
)

FOLDER = {"flow.dag.yaml": DAG, "requirements.txt": b"pandas\nnumpy\n", "main.py": b"print()"}
WITH_IMAGE = {"flow.dag.yaml": b"environment: {image: from/flow:1}\nnodes: []\n"}
SOURCE = {"configMap": {"name": "flow"}}


def decide(snapshot, resolution, now=NOW):
    return environments.decide(snapshot, resolution, now)


# -- resolving


@pytest.mark.parametrize(
    ("files", "base_image", "image"),
    [
        (WITH_IMAGE, "", "from/flow:1"),
        (WITH_IMAGE, "from/spec:2", "from/spec:2"),
        (FOLDER, "", RUNTIME),
        (FOLDER, "from/spec:2", "from/spec:2"),
    ],
    ids=["the flow's", "the spec overrides the flow", "the default", "the spec's"],
)
def test_which_image(files, base_image, image):
    assert from_folder(files, baseImage=base_image).base_image == image


def test_an_overridden_image_is_warned_of_by_name():
    (warning,) = from_folder(WITH_IMAGE, baseImage="from/spec:2").warnings
    assert (warning.file, warning.code) == ("flow.dag.yaml", "Overridden")
    assert "from/flow:1" in warning.message and "from/spec:2" in warning.message


def test_the_same_image_twice_is_no_warning():
    assert from_folder(WITH_IMAGE, baseImage="from/flow:1").warnings == ()


@pytest.mark.parametrize(
    ("text", "files", "count", "path"),
    [
        (None, FOLDER, 2, "requirements.txt"),
        ("scipy\n", FOLDER, 1, None),
        ("", FOLDER, 0, None),
        (None, {"flow.dag.yaml": DAG}, 0, None),
    ],
    ids=["the folder's", "the spec's text wins", "an empty text is none", "nothing"],
)
def test_which_requirements(text, files, count, path):
    found = from_folder(files, requirementsText=text)
    assert (found.requirements_count, found.requirements_path) == (count, path)


def test_a_source_that_names_none_is_refused_where_the_api_server_took_it():
    found = resolution.resolve(spec(source={}), {}, Settings())
    assert isinstance(found, Unresolved)
    assert found.reason == "SourceInvalid"
    assert "spec.source names no source: a source is one of configMap, archive, git" in found.message
    assert "leave source out where there is no flow folder" in found.message
    plan = decide(environment_snapshot(spec=spec(source={})), found)
    assert [event.reason for event in plan.events] == ["SourceInvalid"]
    status = applied({}, plan.status.status)
    assert verdict(status, "Ready") == ("False", "SourceInvalid")
    assert verdict(status, "Stalled") == ("True", "SourceInvalid")


def test_without_a_flow_folder():
    found = from_text("pandas\n")
    assert (found.files, found.flow, found.flow_revision, found.requirements_count) == (None, None, "none", 1)


@pytest.mark.parametrize(
    ("files", "text", "keeps"), [(None, None, False), (None, "# nothing\n", False), (None, "pandas", True), (FOLDER, "", True)]
)
def test_a_volume_only_where_there_is_something_to_keep(files, text, keeps):
    assert resolved(requirements=text, files=files).keeps_something is keeps


def test_config_map_items_say_which_keys_and_where_to():
    items = [{"key": "flow.dag.yaml", "path": "flow.dag.yaml"}, {"key": "data", "path": "./data/x.csv"}]
    found = from_folder({"flow.dag.yaml": DAG, "data": b"1", "other": b"2"}, configMap={"items": items})
    assert dict(found.files) == {"flow.dag.yaml": DAG, "data/x.csv": b"1"}


@pytest.mark.parametrize("flow_path", ["flows/chat", "./flows/chat", "flows/chat/", "flows/chat//"])
def test_the_flow_folder_may_lie_deeper(flow_path):
    items = [{"key": "dag", "path": "flows/chat/flow.dag.yaml"}, {"key": "x", "path": "x.py"}]
    found = from_folder({"dag": DAG, "x": b""}, configMap={"items": items}, flowPath=flow_path)
    assert dict(found.files) == {"flow.dag.yaml": DAG}


@pytest.mark.parametrize("flow_path", [".", "./", ""])
def test_the_flow_folder_is_the_source(flow_path):
    assert isinstance(from_folder(FOLDER, flowPath=flow_path), Resolved)


@pytest.mark.parametrize(
    ("files", "fields", "reason", "words"),
    [
        pytest.param(
            None, {}, "SourceNotFound", ["ConfigMap 'flow' of spec.source.configMap does not exist", "create it"], id="no ConfigMap"
        ),
        pytest.param(
            FOLDER,
            {"configMap": {"items": [{"key": "nope", "path": "x"}]}},
            "SourceNotFound",
            ["ConfigMap 'flow' has no key 'nope'", "spec.source.configMap.items", "it has: flow.dag.yaml, main.py, requirements.txt"],
            id="no such key",
        ),
        pytest.param(
            FOLDER, {"flowPath": "sub"}, "FlowInvalid", ["no folder 'sub' (spec.flowPath)", "it holds: flow.dag.yaml"], id="no such folder"
        ),
        pytest.param({}, {}, "FlowInvalid", ["it holds: nothing"], id="an empty ConfigMap"),
        pytest.param({"flow.dag.yaml": b"- a"}, {}, "FlowInvalid", ["flow.dag.yaml is a list"], id="not a mapping"),
        pytest.param(
            {**FOLDER, "requirements.txt": b"pandas\nnumpy ==\n"},
            {},
            "RequirementsRejected",
            ["requirements.txt line 2: 'numpy =='"],
            id="bad line",
        ),
        pytest.param(
            {**FOLDER, "requirements.txt": b"numpy\n" * 200_000},
            {},
            "RequirementsRejected",
            ["requirements.txt has 1,200,000 bytes; at most 1,000,000 are read", "lock fewer platforms"],
            id="over 1 MB",
        ),
        pytest.param(
            {**FOLDER, "requirements.txt": b"-r a.txt\n./x\n", "a.txt": b"\nb ==\n"},
            {},
            "RequirementsRejected",
            ["a.txt line 2: 'b =='", "; requirements.txt line 2: './x'"],
            id="bad line in an included file",
        ),
        pytest.param(
            {**FOLDER, "requirements.txt": b"\xff\xfe\xff"}, {}, "FlowInvalid", ["requirements.txt is not text"], id="binary requirements"
        ),
        pytest.param(
            FOLDER, {"requirementsText": "a b"}, "RequirementsRejected", ["spec.requirementsText line 1: 'a b'"], id="bad text in the spec"
        ),
        pytest.param(FOLDER, {"requirementsText": "! \n" * 8}, "RequirementsRejected", ["line 5", "(and 3 more)"], id="many bad lines"),
    ],
)
def test_what_cannot_be_resolved_says_what_where_and_what_to_do(files, fields, reason, words):
    found = from_folder(files, **fields)
    assert isinstance(found, Unresolved)
    assert found.reason == reason
    for word in words:
        assert word in found.message


def test_utf16_requirements_are_read_as_pip_reads_them():
    assert from_folder({**FOLDER, "requirements.txt": "pandas\n".encode("utf-16")}).requirements_text == "pandas\n"


def test_nothing_is_resolved_while_something_was_not_read():
    assert resolution.resolve(spec(source=SOURCE), {}, Settings()) is None
    bundled = spec(source=SOURCE, installer={"caBundleConfigMapName": "ca"})
    assert resolution.resolve(bundled, {"flow": config_map(FOLDER)}, Settings()) is None


# -- the installer


@pytest.mark.parametrize(
    ("files", "words"),
    [(None, "does not exist; create it with the certificates under ca.crt"), ({"tls.crt": b""}, "has no key ca.crt")],
)
def test_a_missing_ca_bundle_is_named(files, words):
    found = resolution.resolve(spec(installer={"caBundleConfigMapName": "ca"}), {"ca": config_map(files, name="ca")}, Settings())
    assert isinstance(found, Unresolved)
    assert found.reason == "SourceNotFound"
    assert "ConfigMap 'ca' of spec.installer.caBundleConfigMapName" in found.message
    assert words in found.message


def test_the_environments_ca_bundle_joins_the_operators():
    settings = Settings(installer=InstallerDefaults(ca_bundle="OPERATOR"))
    maps = {"ca": config_map({"ca.crt": b"OWN"}, name="ca")}
    found = resolution.resolve(spec(installer={"caBundleConfigMapName": "ca"}), maps, settings)
    assert found.installer["caBundle"] == "OPERATOR\nOWN"
    for text, sent in (("pandas\n", "OPERATOR\nOWN"), ("", "")):
        found = resolution.resolve(spec(requirementsText=text, installer={"caBundleConfigMapName": "ca"}), maps, settings)
        assert found.wire["installer"]["caBundle"] == sent, "only where something is installed"


@pytest.mark.parametrize(
    ("own", "key", "expected"),
    [
        ({}, "tool", "Pip"),
        ({"tool": "Uv"}, "tool", "Uv"),
        ({}, "timeoutSeconds", 77),
        ({"timeoutSeconds": 5}, "timeoutSeconds", 5),
        ({}, "indexURL", "https://operator/simple"),
        ({"indexURL": "https://own/simple"}, "indexURL", "https://own/simple"),
        ({}, "extraIndexURLs", ["https://operator/extra"]),
        ({"extraIndexURLs": []}, "extraIndexURLs", []),
        ({}, "onlyBinary", False),
        ({"onlyBinary": True}, "onlyBinary", True),
        ({}, "environment", {"HTTPS_PROXY": "http://proxy"}),
    ],
)
def test_what_the_environment_leaves_out_comes_from_the_operator(own, key, expected):
    defaults = {
        "tool": "Pip",
        "timeoutSeconds": 77,
        "indexURL": "https://operator/simple",
        "extraIndexURLs": ["https://operator/extra"],
        "environment": {"HTTPS_PROXY": "http://proxy"},
    }
    settings = Settings.model_validate({"installer": defaults})
    assert resolved(settings=settings, installer=own).wire["installer"][key] == expected


def test_the_agent_learns_where_the_package_cache_has_each_index():
    cache = PackageCache(url="http://cache:8080", indexes=("https://pypi.org/simple/", "https://mirror/simple"))
    assert resolved(settings=Settings(package_cache=cache)).wire["installer"]["cache"] == {
        "https://pypi.org/simple/": "http://cache:8080/5a06749b2297be54/simple",
        "https://mirror/simple": "http://cache:8080/bf0222858183d3d9/simple",
    }
    assert resolved().wire["installer"]["cache"] == {}
    assert resolved(settings=Settings(package_cache=PackageCache(indexes=("https://mirror",)))).wire["installer"]["cache"] == {}


def test_the_body_that_the_agent_gets():
    wire = resolved(files={"flow.dag.yaml": DAG, "r.txt": b"\xff"}, requirements="pandas\n").wire
    assert wire["files"]["r.txt"] == "/w=="
    assert wire["requirements"] == {"text": "pandas\n", "path": None, "shown": "spec.requirementsText"}
    assert resolved(requirements="# none\n").wire["requirements"] is None
    assert resolved(requirements="# none\n").wire["files"] is None
    assert from_folder(FOLDER).wire["requirements"]["path"] == "requirements.txt"


# -- revisions

SAME = pytest.mark.parametrize(
    ("fields", "packages", "flow"),
    [
        pytest.param({}, True, True, id="the same"),
        pytest.param({"files": dict(reversed(FOLDER.items()))}, True, True, id="keys in another order"),
        pytest.param({"files": {**FOLDER, "main.py": b"changed"}}, True, False, id="code"),
        pytest.param({"files": {**FOLDER, "new.py": b""}}, True, False, id="a new file"),
        pytest.param({"files": {**FOLDER, "requirements.txt": b"pandas\nscipy\n"}}, False, False, id="requirements"),
        pytest.param({"files": {**FOLDER, "requirements.txt": b"-r r.txt", "r.txt": b"pandas"}}, False, False, id="an included file"),
        pytest.param({"baseImage": "other:1"}, False, True, id="image"),
        pytest.param({"installer": {"onlyBinary": True}}, False, True, id="installer"),
        pytest.param({"requirementsText": "pandas\nnumpy\n"}, True, True, id="the same lines from the spec"),
        pytest.param({"requirementsText": ""}, False, True, id="no requirements"),
        pytest.param(
            {"settings": Settings(installer=InstallerDefaults(index_url="https://mirror"))}, True, True, id="the operator's settings"
        ),
        pytest.param(
            {"settings": Settings(package_cache=PackageCache(url="http://cache", indexes=("https://mirror",)))}, True, True, id="a cache"
        ),
    ],
)


@SAME
def test_revisions_change_with_what_they_stand_for_and_only_then(fields, packages, flow):
    before, after = from_folder(FOLDER), from_folder(**{"files": FOLDER, **fields})
    assert (before.packages_revision == after.packages_revision) is packages
    assert (before.flow_revision == after.flow_revision) is flow


def test_a_change_in_an_included_file_is_an_install():
    files = {**FOLDER, "requirements.txt": b"-r a.txt\n-c b.txt\n", "a.txt": b"pandas\n", "b.txt": b"pandas<3\n"}
    before = from_folder(files)
    assert before.requirements_count == 1
    for name in ("a.txt", "b.txt"):
        assert from_folder({**files, name: b"numpy\n"}).packages_revision != before.packages_revision
    assert before.wire["requirements"] == {"text": "-r a.txt\n-c b.txt\n", "path": "requirements.txt", "shown": "requirements.txt"}


def test_a_pinned_prompt_flow_is_told_and_left_to_the_agent_which_knows_what_its_image_has():
    found = from_folder({**FOLDER, "requirements.txt": b"promptflow==1.10.0\npandas\n"})
    assert found.wire["requirements"]["text"] == "promptflow==1.10.0\npandas\n"
    assert [(one.file, one.line, one.code) for one in found.warnings] == [("requirements.txt", 1, "PinnedPromptflow")]


# -- a requirements file that is not in the flow folder


def naming(path, **texts):
    """What a flow in the folder `flow` of a source with these files resolves to. In file names `__` stands for `/`."""
    files = {"flow__flow.dag.yaml": f"environment: {{python_requirements_txt: {path}}}\n", **texts}
    items = [{"key": name, "path": name.replace("__", "/")} for name in files]
    return from_folder({name: text.encode() for name, text in files.items()}, configMap={"items": items}, flowPath="flow")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("dev.txt", "the flow folder has no requirements file 'dev.txt', so nothing of it is installed; add it or correct the name"),
        ("env\\dev.txt", "write / instead of"),
        ("/etc/passwd", "'/etc/passwd', so nothing of it is installed; add it or correct the name: it must be relative to the flow folder"),
        ("sub", "no requirements file 'sub'"),
        ("../dev.txt", "the requirements file '../dev.txt' is not in the source, so nothing of it is installed"),
        ("../../../etc/passwd", "is not in the source"),
        ("a/../../dev.txt", "'../dev.txt' is not in the source"),
        ("..", "is not in the source"),
        ("x" * 5000, "...'"),
    ],
)
def test_a_named_requirements_file_that_is_not_there_is_a_warning_as_with_prompt_flow(path, words):
    found = naming(path, **{"flow__requirements.txt": "pandas\n", "flow__sub__x.txt": "", "other.txt": "numpy\n"})
    assert isinstance(found, Resolved), found
    assert (found.requirements_count, found.requirements_path, found.wire["requirements"]) == (0, None, None)
    (warning,) = found.warnings
    assert (warning.file, warning.code) == ("flow.dag.yaml", "RequirementsMissing")
    assert words in warning.message
    assert len(warning.message) < 400


def test_a_requirements_file_beside_the_flow_folder_is_used_and_the_cloud_s_way_is_told():
    found = naming("../env/../requirements.txt", **{"requirements.txt": "rapidfuzz\n", "flow__requirements.txt": "pandas\n"})
    assert isinstance(found, Resolved), found
    assert found.wire["requirements"] == {"text": "rapidfuzz\n", "path": None, "shown": "../requirements.txt"}
    assert (found.requirements_count, found.requirements_path) == (1, "../requirements.txt")
    (warning,) = found.warnings
    assert (warning.file, warning.code) == ("flow.dag.yaml", "RequirementsOutside")
    assert "add it to additional_includes and name it 'requirements.txt'" in warning.message
    assert naming("../requirements.txt", **{"requirements.txt": "numpy\n"}).packages_revision != found.packages_revision


def test_what_is_wrong_beside_the_flow_folder_is_told_with_its_place():
    found = naming("../requirements.txt", **{"requirements.txt": "pandas\n-r base.txt\n", "base.txt": "", "flow__base.txt": ""})
    assert isinstance(found, Unresolved)
    assert found.message.startswith("../requirements.txt line 2: '-r base.txt': no file lies beside these lines; put the requirements")


def test_without_requirements_the_installers_settings_are_no_reason_to_install():
    assert resolved(requirements="").packages_revision == resolved(requirements="# x\n", installer={"tool": "Pip"}).packages_revision


# -- the plan


def test_first_everything_named_is_read():
    snapshot = environment_snapshot(spec=spec(source=SOURCE, installer={"caBundleConfigMapName": "ca"}))
    plan = decide(snapshot, None)
    assert plan.fetches == (Fetch("team", "flow"), Fetch("team", "ca"))
    assert not plan.writes


def test_what_was_resolved_is_written_once():
    snapshot = environment_snapshot(spec=spec(source=SOURCE), config_maps={"flow": config_map(FOLDER)}, sessions=2)
    resolution = from_folder(FOLDER)
    plan = decide(snapshot, resolution)
    status = dict(plan.status.status)
    assert verdict(status, "Ready") == ("True", "Resolved")
    assert condition(status, "Ready")["message"] == f"dag flow, 2 requirements, image {RUNTIME}"
    assert (status["baseImage"], status["requirements"], status["requirementsFile"], status["sessions"]) == (
        RUNTIME,
        2,
        "requirements.txt",
        2,
    )
    assert status["flow"] == {"kind": "dag", "nodes": 2}
    assert status["observedGeneration"] == 1
    assert plan.events == ()
    assert not decide(replace(snapshot, status=status), resolution, NOW + 1000).writes


def test_a_problem_is_told_once_and_what_was_resolved_before_stays():
    before = environment_snapshot()
    status = dict(decide(before, resolved()).status.status)
    plan = decide(replace(before, status=status), Unresolved("FlowInvalid", "flow.dag.yaml is a list"))
    assert [(event.warning, event.reason) for event in plan.events] == [(True, "FlowInvalid")]
    broken = applied(status, plan.status.status)
    assert verdict(broken, "Ready") == ("False", "FlowInvalid")
    assert broken["packagesRevision"] == status["packagesRevision"]
    again = decide(replace(before, status=broken), Unresolved("FlowInvalid", "flow.dag.yaml is a list"))
    assert (again.status, again.events) == (None, ())


def test_another_problem_is_told_again():
    snapshot = environment_snapshot()
    broken = dict(decide(snapshot, Unresolved("FlowInvalid", "line 1")).status.status)
    plan = decide(replace(snapshot, status=broken), Unresolved("FlowInvalid", "line 2"))
    assert [event.message for event in plan.events] == ["line 2"]


def test_healing_drops_what_no_longer_holds():
    snapshot = environment_snapshot(spec=spec(source=SOURCE), config_maps={"flow": config_map(FOLDER)})
    status = dict(decide(snapshot, from_folder(FOLDER)).status.status)
    plan = decide(environment_snapshot(status=status), resolved(requirements=""))
    healed = applied(status, plan.status.status)
    assert "flow" not in healed and "flowRevision" not in healed and "requirementsFile" not in healed
    assert healed["requirements"] == 0


def test_a_changed_spec_is_acknowledged_by_its_generation():
    status = dict(decide(environment_snapshot(), resolved()).status.status)
    plan = decide(environment_snapshot(status=status, generation=2), resolved())
    assert plan.status.status["observedGeneration"] == 2
    assert condition(applied(status, plan.status.status), "Ready")["observedGeneration"] == 2
    assert condition(applied(status, plan.status.status), "Ready")["lastTransitionTime"] == stamp(NOW)


@pytest.mark.parametrize(("age", "written"), [(0.0, False), (9.9, False), (10.0, True), (500.0, True)])
def test_counts_alone_are_written_at_most_every_ten_seconds(age, written):
    status = dict(decide(environment_snapshot(), resolved()).status.status)
    plan = decide(environment_snapshot(status=status, sessions=5, written_at=NOW - age), resolved())
    assert (plan.status is not None) is written
    assert written or plan.look_again_at == pytest.approx(NOW - age + 10.0)


def test_a_count_goes_along_with_what_is_written_anyway():
    status = dict(decide(environment_snapshot(), resolved()).status.status)
    plan = decide(environment_snapshot(status=status, sessions=5, written_at=NOW, generation=2), resolved())
    assert plan.status.status["sessions"] == 5


# -- reading again


def test_one_that_is_watched_does_not_keep_others_from_being_read_again():
    both = spec(source=SOURCE, installer={"caBundleConfigMapName": "ca"})
    maps = {"flow": config_map(FOLDER), "ca": config_map({"ca.crt": b""}, name="ca", read_at=NOW - 300.0, watched=False)}
    plan = environments.decide(environment_snapshot(spec=both, config_maps=maps), resolution.resolve(both, maps, Settings()), NOW)
    assert plan.fetches == (Fetch("team", "ca"),)


@pytest.mark.parametrize(
    ("files", "watched", "age", "fetched"),
    [
        pytest.param(FOLDER, True, 10_000.0, False, id="a watched one never"),
        pytest.param(FOLDER, False, 299.0, False, id="an unwatched one not yet"),
        pytest.param(FOLDER, False, 300.0, True, id="an unwatched one after 5 minutes"),
        pytest.param(None, False, 1.0, False, id="a missing one not at once"),
        pytest.param(None, False, 2.0, True, id="a missing one after 2 seconds"),
    ],
)
def test_when_a_config_map_is_read_again(files, watched, age, fetched):
    view = config_map(files, read_at=NOW - age, watched=watched)
    snapshot = environment_snapshot(spec=spec(source=SOURCE), config_maps={"flow": view})
    plan = decide(snapshot, from_folder(files))
    assert plan.fetches == ((Fetch("team", "flow"),) if fetched else ())
    if not fetched and not watched:
        assert plan.look_again_at == pytest.approx(NOW - age + (300.0 if files else 2.0))


@pytest.mark.parametrize(("missing_for", "pause"), [(4.0, 2.0), (40.0, 10.0), (400.0, 100.0), (4000.0, 300.0)])
def test_the_longer_it_is_missing_the_slower_it_is_looked_for(missing_for, pause):
    view = config_map(None, read_at=NOW)
    snapshot = environment_snapshot(spec=spec(source=SOURCE), config_maps={"flow": view})
    problem = from_folder(None)
    status = dict(decide(snapshot, problem, NOW - missing_for).status.status)
    plan = decide(replace(snapshot, status=status), problem)
    assert plan.look_again_at == pytest.approx(NOW + pause)


def test_every_named_config_map_is_needed_once_for_each_use():
    found = resolution.needed_config_maps(spec(source=SOURCE, installer={"caBundleConfigMapName": "ca"}))
    assert found == ("flow", "ca")
    assert resolution.needed_config_maps(spec()) == ()


# -- package lists


def test_an_environment_at_rest_writes_nothing():
    status = dict(decide(environment_snapshot(), resolved()).status.status)
    plan = decide(environment_snapshot(status=status), resolved(), NOW + 1000)
    assert not plan.writes
