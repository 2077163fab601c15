"""The pytest plugin, in test suites of its own: five lines hold a port, and a failure says all."""

import json
from pathlib import Path

import pytest
from PIL import Image
from verify.mistaken import picture

from _refsam_pytest import OPTIONS
from refsam.pytest_plugin import Settings

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
PLUGIN = ("-p", "no:refsam", "-p", "_refsam_pytest")
"""By its module: what is installed here may be older than the entry point."""

INI = """
[pytest]
addopts = -p no:cacheprovider -p no:hypothesispytest
filterwarnings = error
refsam_weights = tiny.safetensors
refsam_image = photo.png
refsam_point = 80,60
refsam_port = reference
"""

FIVE_LINES = """
    from refsam.testing import assert_port_holds

    def test_port(refsam_port):
        assert_port_holds(refsam_port)
"""

MISTAKEN = """
    import numpy as np
    import refsam

    def port(image, **prompts):
        model = refsam.load("tiny.safetensors", backend="reference")
        bgr = np.ascontiguousarray(image[..., ::-1])
        return dict(refsam.trace(model, bgr, stages="input_image,image_encoder,low_res_masks", **prompts))
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, standin: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A port's project: weights, a photograph, an ini file."""
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.syspath_prepend(pytester.path)
    (pytester.path / "tiny.safetensors").symlink_to(standin)
    Image.fromarray(picture(98, 150)).save(pytester.path / "photo.png")
    pytester.makefile(".ini", pytest=INI)
    return pytester


def run(suite: pytest.Pytester, *options: str) -> pytest.RunResult:
    return suite.runpytest_inprocess(*PLUGIN, *options)


def test_five_lines_hold_a_port(suite: pytest.Pytester) -> None:
    suite.makepyfile(FIVE_LINES)
    run(suite).assert_outcomes(passed=1)


def test_a_port_with_a_mistake_fails_and_the_message_says_all(suite: pytest.Pytester) -> None:
    suite.makepyfile(FIVE_LINES)
    suite.makepyfile(mistaken_port=MISTAKEN)
    result = run(suite, "--refsam-port", "mistaken_port:port", "--tb=short", "--refsam-report", "out")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "test_a_port_with*.py:4: in test_port",
            "    assert_port_holds(refsam_port)",
            "E   AssertionError: port 'mistaken_port:port' on 'photo' (150 x 98), point_coords [[][[]80, 60]],",
            "E     point_labels [[]1]: DIFFERS",
            "E   port 'mistaken_port:port' first differs at input_image",
            "E     stage 1 of 3",
            "E     shape (1, 3, 64, 64) float32",
            "E     budget 6e-08 (float32 against float64 on this input)",
            "E     relative L2 *, allowed 2.4e-07 (k 4); required k *",
            "E     NMSE *   PSNR * dB   cosine *   ulp *",
            "E     mismatched elements * / 12288 (*%)",
            "E     greatest difference * at (0, *, *, *):",
            "E       reference *, port *",
            "E   stages  (. holds  o just so  x X # differs  > a difference enters):",
            "E     input       >",
            "E     neck        #",
            "E     result      #",
            "E   required k  rel. L2  stage that does not hold:",
            "E   why:",
            "E     input_image: BGR explains 100 % of the difference",
            "E       BGR: give RGB; OpenCV reads BGR",
            "E   masks end to end:",
        ]
    )
    assert "refsam/testing.py" not in result.stdout.str(), "the traceback ends in the user's test"
    assert f"refsam: out{'/'}report.html" in result.stdout.str()
    document = json.loads((suite.path / "out" / "report.json").read_text())
    assert document["outcomes"][0]["explanations"][0]["names"] == ["BGR"]
    assert "BGR" in (suite.path / "out" / "report.html").read_text()
    assert (suite.path / "out" / "report.txt").read_text().startswith("port 'mistaken_port:port' on 'photo'")


def test_one_test_for_each_stage_and_picture(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        from refsam.testing import assert_port_holds

        def test_stage(refsam_port, refsam_stage):
            assert_port_holds(refsam_port, refsam_stage)
        """
    )
    Image.fromarray(picture(120, 90)).save(suite.path / "second.png")
    options = (
        "--refsam-image",
        "photo.png",
        "--refsam-image",
        "second.png",
        "--refsam-stages",
        "image_encoder.neck.*,low_res_masks",
    )
    result = run(suite, *options, "-v")
    result.assert_outcomes(passed=10)
    result.stdout.fnmatch_lines(["*::test_stage[[]photo-image_encoder.neck.1[]] PASSED*"])
    result.stdout.fnmatch_lines(["*::test_stage[[]second-low_res_masks[]] PASSED*"])


def test_stages_that_the_port_was_handed_are_skipped(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        from refsam.testing import assert_port_holds

        def test_stage(refsam_port, refsam_stage):
            assert_port_holds(refsam_port, refsam_stage)
        """
    )
    suite.makepyfile(
        encoder_port="""
        import refsam

        def port(input_image, **prompts):
            return {"image_encoder": refsam.load("tiny.safetensors").encode_image(input_image)}
        """
    )
    result = run(suite, "--refsam-port", "encoder_port:port", "-rs")
    assert result.parseoutcomes()["passed"] == 1
    assert set(result.parseoutcomes()) == {"passed", "skipped"}
    result.stdout.fnmatch_lines(["SKIPPED*the port shows no input_image of its own"])


def test_a_pattern_that_no_stage_has_is_no_run_without_tests(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_stage(refsam_port, refsam_stage): ...")
    result = run(suite, "--refsam-stages", "image_encoder,low_res_msks")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*refsam: no stage has a name like 'low_res_msks'; refsam trace lists them all"])


def test_stages_that_the_test_has_itself_and_the_reference(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import refsam
        from refsam.testing import assert_port_holds, assert_stage_close

        def test_mine(refsam_case, refsam_compare, refsam_reference, refsam_model):
            mine = refsam.trace(refsam_model, refsam_case.image, stages="image_encoder,low_res_masks", **refsam_case.prompts)
            assert_port_holds(refsam_compare(mine))
            assert_port_holds(refsam_compare(mine, name="again", precision="fp16"))
            assert_stage_close(mine["image_encoder"], refsam_reference, "image_encoder")
        """
    )
    result = run(suite, "--refsam-report", "out", "--refsam-stages", "image_encoder", "--refsam-precision", "float32")
    result.assert_outcomes(passed=1)
    outcomes = json.loads((suite.path / "out" / "report.json").read_text())["outcomes"]
    assert [(entry["port"], entry["precision"]) for entry in outcomes] == [("again", "fp16"), ("port", "float32")]


def test_stages_of_the_test_are_read_as_those_of_other_ports(suite: pytest.Pytester) -> None:
    """Halves tell their precision, and a framework's bfloat16 is widened."""
    suite.makepyfile(
        """
        import numpy as np
        import refsam
        from refsam.verify.precision import to_bf16

        class Tensor:
            dtype = "torch.bfloat16"

            def __init__(self, values):
                self.values = values

            def detach(self):
                return self

            def cpu(self):
                return self

            def float(self):
                return self.values

            def __array__(self, dtype=None, copy=None):
                raise TypeError("Got unsupported ScalarType BFloat16")

        def test_mine(refsam_case, refsam_compare, refsam_model):
            mine = refsam.trace(refsam_model, refsam_case.image, stages="image_encoder", **refsam_case.prompts)["image_encoder"]
            halves = refsam_compare({"image_encoder": mine.astype(np.float16)})
            assert halves and halves.verdict.report.precision == "fp16"
            assert "precision: fp16, as all floats are float16" in halves.notes
            assert not refsam_compare({"image_encoder": mine.astype(np.float16)}, precision="float32")
            coarser = refsam_compare({"image_encoder": Tensor(to_bf16(mine))})
            assert coarser and coarser.verdict.report.precision == "bf16"
        """
    )
    run(suite).assert_outcomes(passed=1)


def test_names_that_are_no_stages_are_a_warning(suite: pytest.Pytester) -> None:
    """It holds by the others, and a test that passes shows no report."""
    suite.makepyfile(
        """
        import pytest
        import refsam

        def test_mine(refsam_case, refsam_compare, refsam_model):
            mine = refsam.trace(refsam_model, refsam_case.image, stages="image_encoder,low_res_masks", **refsam_case.prompts)
            assert refsam_compare(mine)
            misspelt = {"image_encoder": mine["image_encoder"], "low_res_mask": -mine["low_res_masks"]}
            with pytest.warns(UserWarning, match="1 names of the port are no stages that were compared: 'low_res_mask'"):
                assert refsam_compare(misspelt)
        """
    )
    run(suite).assert_outcomes(passed=1)


def test_what_a_test_changes_in_place_is_not_the_truth(suite: pytest.Pytester) -> None:
    """The reference would be of the changed picture, and a port with this mistake would hold."""
    suite.makepyfile(
        """
        import refsam

        def test_mine(refsam_case, refsam_compare, refsam_model):
            refsam_case.image[...] = refsam_case.image[..., ::-1].copy()
            refsam_case.prompts["point_coords"] *= 0.5
            mine = refsam.trace(refsam_model, refsam_case.image, stages="input_image,transforms.*", **refsam_case.prompts)
            found = refsam_compare(mine)
            assert {"input_image", "transforms.point_coords"} <= {result.stage for result in found.verdict.report.failing}
        """
    )
    run(suite).assert_outcomes(passed=1)


def test_stages_without_names_are_refused_in_one_line(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_mine(refsam_compare): refsam_compare(([1], [2], [3]))")
    result = run(suite)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["refsam: refsam_compare was given a tuple; arrays by stage name are needed, a dict"])


def test_a_picture_that_comes_twice_is_in_the_report_once(suite: pytest.Pytester) -> None:
    """A session's fixtures are made anew for each picture, so the order of tests says how often."""
    Image.fromarray(picture(120, 90)).save(suite.path / "second.png")
    suite.makepyfile("def test_one(refsam_port): ...\ndef test_two(refsam_port): ...")
    suite.makeconftest(
        """
        import pytest

        @pytest.hookimpl(trylast=True)
        def pytest_collection_modifyitems(items):
            items.sort(key=lambda item: item.originalname)
        """
    )
    run(suite, "--refsam-image", "photo.png", "--refsam-image", "second.png", "--refsam-report", "out").assert_outcomes(passed=4)
    document = json.loads((suite.path / "out" / "report.json").read_text())
    assert [entry["picture"]["name"] for entry in document["outcomes"]] == ["photo", "second"]


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("refsam_weights = tiny.safetensors", "*the reference's weights, so they have to be named: --refsam-weights FILE*"),
        ("refsam_image = photo.png", "*there is no picture to put to the port: --refsam-image FILE*"),
        ("refsam_port = reference", "*there is no port: --refsam-port PATH*"),
    ],
)
def test_what_is_not_named_is_asked_for_and_never_made_up(suite: pytest.Pytester, missing: str, words: str) -> None:
    suite.makepyfile(FIVE_LINES)
    suite.makefile(".ini", pytest=INI.replace(missing, ""))
    result = run(suite)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([words])


def test_wrong_options_are_one_line(suite: pytest.Pytester) -> None:
    suite.makepyfile(FIVE_LINES)
    result = run(suite, "--refsam-point", "900,60")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["refsam: *900*"])
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ("file", "ERROR: refsam: the report: cannot make the folder *file: File exists"),
        ("taken", "ERROR: refsam: the report: cannot write *taken*report.html: it is a folder; name a file"),
    ],
)
@pytest.mark.parametrize("in_ini", [True, False])
def test_a_report_that_cannot_be_written_is_known_before_any_test(
    suite: pytest.Pytester, report: str, words: str, in_ini: bool
) -> None:
    suite.makepyfile("def test_nothing(): ...")
    (suite.path / "file").touch()
    (suite.path / "taken" / "report.html").mkdir(parents=True)
    if in_ini:
        suite.makefile(".ini", pytest=f"{INI}refsam_report = {report}\n")
    result = run(suite, *(() if in_ini else ("--refsam-report", report)))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([words])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_a_folder_is_not_taken_for_weights_of_its_name(tmp_path: Path) -> None:
    """As upstream's package mobile_sam beside the ini file; a file of the name is meant."""
    given, ini = {name: None for name, *_ in OPTIONS}, {name: [] if several else "" for name, *_, several in OPTIONS}
    (tmp_path / "mobile_sam").mkdir()
    (tmp_path / "own.safetensors").touch()
    for name, found in (("mobile_sam", "mobile_sam"), ("own.safetensors", str(tmp_path / "own.safetensors"))):
        assert Settings.of(given, {**ini, "weights": name}, tmp_path / "pytest.ini").weights == found


def test_names_in_the_ini_file_stand_on_lines_of_their_own_as_they_are(suite: pytest.Pytester) -> None:
    """With a backslash, as all paths of Windows, and with a space."""
    names = ["photos\\one.png", "photo two.png"]
    suite.makefile(".ini", pytest=INI.replace("refsam_image = photo.png", "refsam_image =\n    " + "\n    ".join(names)))
    suite.makepyfile(f"def test_names(pytestconfig):\n    assert pytestconfig.getini('refsam_image') == {names}")
    run(suite).assert_outcomes(passed=1)


def test_with_xdist_there_is_one_report_of_all_workers(suite: pytest.Pytester) -> None:
    Image.fromarray(picture(120, 90)).save(suite.path / "second.png")
    suite.makepyfile(FIVE_LINES)
    options = ("--refsam-image", "photo.png", "--refsam-image", "second.png", "--refsam-report", "out", "-n", "2")
    suite.runpytest_subprocess(*PLUGIN, *options).assert_outcomes(passed=2)
    document = json.loads((suite.path / "out" / "report.json").read_text())
    assert [entry["picture"]["name"] for entry in document["outcomes"]] == ["photo", "second"]


def test_a_run_that_does_not_use_it_imports_nothing_of_it(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import sys

        def test_nothing():
            assert "_refsam_pytest" in sys.modules
            assert not [name for name in sys.modules if name.split(".")[0] in ("refsam", "numpy", "jinja2")]
        """
    )
    suite.runpytest_subprocess(*PLUGIN, "-p", "no:jaxtyping").assert_outcomes(passed=1)


def test_options_have_their_help_and_ini_twins(suite: pytest.Pytester) -> None:
    shown = run(suite, "--help").stdout.str()
    for name in ("port", "weights", "image", "point", "box", "stages", "precision", "report"):
        assert f"--refsam-{name}=" in shown
        assert f"refsam_{name} (" in shown
