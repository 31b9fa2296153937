"""`check_source`: definitions of source, executed and checked."""

import dataclasses
import json

import pytest
from source_forms import CELLS, FILES

from cbam_keras.cli import command, main
from cbam_keras.insertion import check_source
from cbam_keras.recognition import formats, source
from cbam_keras.recognition.reports import (
    CheckedGate,
    CheckReport,
    not_analyzed,
)
from cbam_keras.recognition.source import files, process

pytest.importorskip("tensorflow")

BY_ROW = "matches no cbam_keras layer: one factor per row"


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Reports of all forms, of one function of a module, and of a file.

    One process checks them all.
    """
    begun: list[tuple] = []
    folder = tmp_path_factory.mktemp("forms")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace("MARKER", repr(str(folder / "marker"))))
    cells = [{"cell_type": "code", "source": x} for x in CELLS]
    (folder / "forms.ipynb").write_text(json.dumps({"cells": cells}))
    module = folder / "package" / "module.py"
    module.parent.mkdir()
    module.write_text(FILES["used.py"])
    before = {*folder.rglob("*")}
    paths = [str(folder), "package.module:build", "whole.py"]
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder)
        reports = source.check_paths(paths, lambda *x: begun.append(x))
    assert {*folder.rglob("*")} == before
    numbers = [*range(1, len(begun) + 1)]
    assert [number for _, number, _ in begun] == numbers
    return dict(zip(paths, reports, strict=True)), folder


@pytest.fixture(scope="module")
def report(reports):
    """The report of all forms."""
    (report, *_), folder = reports[0].values(), reports[1]
    assert report.place == str(folder)
    return report


def find(report, file, name=""):
    """The only row of a file, or that of a name."""
    rows = [x for x in report.rows if x.file.endswith(f"/{file}")]
    (row,) = [x for x in rows if name in ("", x.gate)]
    return row


def test_what_gates_use_beside_definitions_is_there(report):
    row = find(report, "assigned.py", "SEBlock")
    assert row.passed and "SqueezeExcite(" in row.verdict


def test_gates_of_source_are_held_against_their_names(report):
    whole = find(report, "whole.py", "cbam_block")
    assert whole.passed and whole.verdict.startswith("CBAM(reduction_ratio=8")
    half = find(report, "whole.py", "cbam")
    assert (half.called, half.agrees, half.passed) == ("cbam", False, False)
    assert half.verdict == "named CBAM, but computes only its channel attention"
    other = find(report, "whole.py", "eca_block")
    assert other.verdict.endswith("computes the channel attention of CBAM")
    lines = [find(report, "whole.py", x).line for x in ("cbam_block", "cbam")]
    assert lines == [6, 10]


def test_old_paths_and_functions_are_those_of_keras_3(report):
    halves = [find(report, "halves.py", x) for x in ("pool_gate", "place_gate")]
    assert [x.kind for x in halves] == ["channel", "spatial"]


def test_calls_that_do_not_reach_an_output_are_counted(report):
    used = find(report, "used.py")
    assert not used.passed
    words = (
        "called 2 times, 1 reach an output; SqueezeExcite(reduction_ratio=8)"
    )
    assert words in used.verdict
    lost = find(report, "lost.py")
    assert "never called, so this model has no attention" in lost.verdict
    assert not lost.passed


@pytest.mark.parametrize(
    "file, name, state, words",
    [
        ("fragment.py", "", "passed", "SqueezeExcite(reduction_ratio=8)"),
        ("forms.py", "eca_block", "passed", "EfficientChannelAttention("),
        ("forms.py", "SEBlock", "passed", "SqueezeExcite(reduction_ratio=4)"),
        ("forms.py", "attention_gate", "passed", BY_ROW),
    ],
)
def test_usual_forms_are_called(report, file, name, state, words):
    row = find(report, file, name)
    assert row.state == state and row.verdict.startswith(words)


def test_factors_that_mix_images_are_wrong(report):
    (row,) = [x for x in report.rows if x.gate.startswith("eca_mixed")]
    assert row.state == "faulty" and "mixes the images" in row.verdict


def test_channels_are_last_unless_the_file_sets_another_format(report):
    row = find(report, "axis_1.py")
    assert row.state == "faulty"
    assert row.verdict.startswith("takes axis 1 for the channels")
    for_first = "data_format='channels_first'"
    set_first = find(report, "axis_1_set.py")
    assert set_first.passed and for_first in set_first.verdict
    permuted = find(report, "axis_1_permuted.py", "se_block")
    assert permuted.passed and for_first in permuted.verdict


def test_an_input_that_is_added_to_the_gated_features_is_said(report):
    row = find(report, "added.py")
    assert row.passed and "CBAM(reduction_ratio=8)" in row.verdict
    assert "its input is added" in row.verdict


def test_faults_of_a_half_of_cbam_fail_the_file(report):
    row = find(report, "mlp_for_each.py")
    assert row.state == "misnamed"
    assert row.verdict.endswith("separate weights for each pool")


def test_a_definition_has_the_same_row_wherever_it_is_checked(report):
    rows = [find(report, x) for x in ("mlp_for_each.py", "mlp_again.py")]
    one, again = (dataclasses.replace(x, file="") for x in rows)
    # Factors follow from the weights, which are drawn.
    assert one == again and one.low < one.high


def test_gates_without_a_definition_are_those_of_models(report):
    row = find(report, "inline.py")
    assert row.gate.startswith("build/") and row.line == 3


@pytest.mark.parametrize(
    ("file", "name", "reason"),
    [
        ("effects.py", "se_of_config", "needs `config`"),
        ("effects.py", "se_of_loop", "needs `RATIO_OF_LOOP`"),
        ("effects.py", "se_of_package", "package_of_nobody is missing"),
        ("effects.py", "se_decorated", "package_of_nobody is missing"),
        ("effects.py", "se_of_old_keras", "needs Keras 2's `layers.merge`"),
        ("effects.py", "se_of_options", "needs `options`"),
        (
            "exits.py",
            "exits.py",
            "exits with status 0",
        ),
        ("asks.py", "SEBlock", "EOFError: EOF when reading a line"),
        ("raises.py", "SEBlock", "SystemExit: 1"),
        ("first.py", "se_block", "TensorFlow 1, which Keras 3 does not run"),
        (
            "legacy.py",
            "SEBlock",
            "`tf_keras`; install Keras 3, and import `keras`",
        ),
        ("syntax.py", "syntax.py", "SyntaxError: Missing parentheses in call"),
    ],
)
def test_what_is_not_looked_into_says_why(report, file, name, reason):
    row = find(report, file, name)
    assert row.verdict.startswith(f"not analyzed: {reason}")
    assert (row.passed, row.agrees) == (False, None)


def test_definitions_run_with_usual_arguments_and_without_effects(report):
    # The fixture compares the folder; `listed` is what the class body saw.
    assert find(report, "effects.py", "se_of_ratio").passed
    assert find(report, "effects.py", "Gate").line == 26


def test_cells_of_notebooks_are_in_order_without_magics(report):
    row = find(report, "forms.ipynb")
    assert row.passed and row.verdict.startswith("SqueezeExcite(")
    assert row.line == 13
    assert row.note == "replaces the definition in line 5"


def test_files_without_a_gate_are_counted(report):
    names = {x.file.rpartition("/")[2] for x in report.rows}
    assert names == {*FILES, "forms.ipynb", "module.py"} - {
        "plain.py",
        "of_torch.py",
        ".hidden/gate.py",
        "site-packages/gate.py",
        "own/gate.py",
        "own/pyvenv.cfg",
    }
    assert report.note == (
        "No attention in 1 file. 1 file uses PyTorch, not Keras: "
        "`load_torch_weights` reads checkpoints, and examples/one_file/cbam.py "
        "is a CBAM in Keras to compare with."
    )
    assert report.verdict.endswith(report.note)
    assert f"{report.place}/used.py" in str(report)
    assert not report.passed


def test_no_process_starts_where_no_file_is_keras(tmp_path, monkeypatch):
    monkeypatch.setattr(process.subprocess, "Popen", None)
    (tmp_path / "gate.py").write_text("import torch")
    report = check_source(tmp_path / "gate.py")
    assert not report.passed and not report.rows
    assert "/gate.py. 1 file uses PyTorch, not Keras: " in report.verdict


@pytest.mark.parametrize("name", ["missing.py", "no:name", "model.keras", "."])
def test_paths_without_source_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="`path` must be a Python file"):
        check_source(name)


@pytest.fixture
def run_command(reports, monkeypatch, capsys):
    """Returns a function that runs `check` on what was checked already."""
    by_path, _ = reports
    monkeypatch.setattr(
        command, "check_paths", lambda paths, tell: [by_path[x] for x in paths]
    )

    def run(*arguments):
        paths = ["package.module:build", "whole.py"]
        status = main(["check", *paths, *arguments])
        return status, capsys.readouterr().out

    return run


@pytest.mark.parametrize("option", [["--json"], ["--format", "json"]])
def test_command_checks_one_function_of_a_module(option, run_command):
    status, output = run_command(*option)
    assert status == 1
    found = json.loads(output)
    assert found["passed"] is False
    assert {(x["file"], x["gate"]) for x in found["gates"]} == {
        ("package/module.py", "se_block"),
        ("whole.py", "cbam_block"),
        ("whole.py", "cbam"),
        ("whole.py", "eca_block"),
        ("halves.py", "pool_gate"),
        ("halves.py", "place_gate"),
    }
    fields = {x.name for x in dataclasses.fields(CheckedGate)} | {"passed"}
    assert {*found["gates"][0]} == fields
    cbam = next(x for x in found["gates"] if x["gate"] == "cbam")
    assert (cbam["state"], cbam["line"]) == ("misnamed", 10)


def test_command_annotates_lines_for_github(run_command):
    status, output = run_command("--format", "github")
    assert status == 1
    line = next(x for x in output.splitlines() if "line=10," in x)
    assert line.startswith(
        "::error file=whole.py,line=10,title=cbam%3A misnamed::"
        "named CBAM, but computes only its channel attention; replace it with"
    )
    # What passed is not annotated.
    assert "halves.py" not in output


def test_a_file_without_attention_is_said_once(tmp_path):
    file = tmp_path / "plain.py"
    file.write_text("import keras\n")
    report = files.Target.at(str(file)).report([])
    assert str(report) == f"No attention in {file}."
    assert not report.passed


def test_the_table_ends_with_a_next_step(run_command):
    _, output = run_command()
    assert "Next: correct what the verdict reports." in output


def test_annotations_have_one_line_of_escaped_characters():
    row = not_analyzed("a,b", "50%\nof: it", "C:file.py", 3)
    assert formats.as_annotations([CheckReport((row,))]) == (
        "::warning file=C%3Afile.py,line=3,title=a%2Cb%3A not analyzed::"
        "not analyzed: 50%25%0Aof: it"
    )
    nothing = formats.as_annotations([CheckReport((), "here")])
    assert nothing == "::error::No attention in here."


def test_mentioning_a_sequential_is_not_building_a_network(report):
    row = find(report, "sequential.py")
    assert row.gate == "cbam_block" and row.state == "passed"
    assert row.verdict.startswith("CBAM(reduction_ratio=8")


@pytest.mark.parametrize(
    "name, words",
    [
        ("AttnGatingBlock", f"{BY_ROW} and column"),
        ("attention_gate", f"{BY_ROW} and column"),
        ("_squeeze", "SqueezeExcite(reduction_ratio=8)"),
        ("SEBlock", "SqueezeExcite(reduction_ratio=8)"),
        ("se_block", "SqueezeExcite(reduction_ratio=8)"),
    ],
)
def test_any_signature_and_methods_have_a_row(report, name, words):
    row = find(report, "shapes.py", name)
    assert row.state == "passed" and row.verdict.startswith(words)


@pytest.mark.parametrize(
    "name, state, verdict",
    [
        (
            "eca_block",
            "not analyzed",
            "not analyzed: it is inside an `if`",
        ),
        (
            "ChannelAttention",
            "not analyzed",
            "not analyzed: it is inside an `if`",
        ),
        (
            "cbam_block",
            "not analyzed",
            "not analyzed: it is inside `network`",
        ),
        (
            "SEBlock",
            "faulty",
            "computes nothing: its `call` is inside `__init__`",
        ),
        (
            "ECALayer",
            "faulty",
            "computes nothing: Keras calls `call`, not `forward`",
        ),
    ],
)
def test_nothing_called_attention_is_passed_over(report, name, state, verdict):
    row = find(report, "places.py", name)
    assert (row.state, row.verdict) == (state, verdict)


def test_what_tests_or_loads_attention_is_none(report):
    gates = {x.gate for x in report.rows if x.file.endswith("/places.py")}
    expected = {"eca_block", "ChannelAttention", "cbam_block"}
    assert gates == {*expected, "SEBlock", "ECALayer"}


@pytest.mark.exhaustive
def test_what_never_ends_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "SECONDS", 8)
    loop = "import keras\nclass SEBlock(keras.layers.Layer):\n    {}"
    (tmp_path / "loops.py").write_text(loop.format("while True: pass"))
    (tmp_path / "used.py").write_text(FILES["used.py"])
    report = check_source(tmp_path)
    reason = "not analyzed: needs more than 8 s of CPU time"
    assert find(report, "loops.py").verdict == reason
    assert "called 2 times" in find(report, "used.py").verdict
