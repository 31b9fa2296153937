"""Results as data frames, and as tables in notebooks."""

import pathlib
import sys

import keras
import pytest
from report_checks import EVIL, RUNS, TRIALS

import cbam_keras
from cbam_keras import (
    _terminal,
    ablation,
    auditing,
    comparison,
    detection,
    training,
    tuning,
)
from cbam_keras.detection.results import DetectorRun, compared

pandas = pytest.importorskip("pandas", reason="what data frames are of")
OUTPUT = pathlib.Path("runs/own")
TRAINED = [training.Run(**run) for run in RUNS]


def of_training():
    return training.Results(TRAINED, [], OUTPUT)


def of_comparison():
    runs = {run.network: [run, run] for run in TRAINED}
    rows = training.compared(runs, 100, "none")
    both = [*TRAINED, *TRAINED]
    return comparison.Comparison(
        *(both, [], OUTPUT, rows, EVIL, (0, 7), 100, f"{EVIL}.", None)
    )


def of_search():
    trials = tuple(tuning.Trial(**one) for one in TRIALS)
    return tuning.SearchResults(trials, trials[1], 0.9, OUTPUT)


def of_ablation():
    row = ablation.AblationRow(
        *(4, "tiny", EVIL, 9000, 10**6, (15.0, 16.0), 15.5, 0.7),
        *(None, None, None, None, None, 1.0),
    )
    return ablation.AblationResults([row], "photos", (0, 1), 100, OUTPUT)


def of_detection():
    precision = {"map": 0.35, "map50": 0.6, "map75": 0.3}
    run = DetectorRun("none", 0, 9000, precision, 1.0, "none-seed0.keras")
    rows = compared([run], ["none"], (0,))
    return detection.DetectionResults(
        *([run], rows, [], None, "photos", "small", (0,), 100, "", OUTPUT)
    )


def of_profile():
    inputs = keras.Input((8, 8, 4))
    return cbam_keras.profile_model(
        keras.Model(inputs, keras.layers.Conv2D(2, 1, name="conv")(inputs))
    )


def of_audit():
    return auditing.Audit("Mine", ("It departs.",), ("It is.",), (), None)


EVERY = {
    "training": (of_training, 3, "test_accuracy"),
    "comparison": (of_comparison, 6, "seed"),
    "search": (of_search, 3, "kernel_size"),
    "ablation": (of_ablation, 2, "top1_error"),
    "detection": (of_detection, 1, "map50"),
    "profile": (of_profile, 1, "macs"),
    "audit": (of_audit, 2, "finding"),
}


@pytest.mark.parametrize("name", EVERY)
def test_a_data_frame_has_a_row_for_each(name):
    make, rows, column = EVERY[name]
    frame = make().to_dataframe()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == rows
    assert frame[column].notna().any()


def test_a_data_frame_holds_the_numbers():
    frame = of_comparison().to_dataframe()
    assert list(frame["seed"]) == [0, 0, 0, 7, 7, 7]
    means = frame.groupby("network")["test_accuracy"].mean()
    assert means["cbam"] == 0.9
    trials = of_search().to_dataframe()
    assert list(trials["reduction_ratio"].dropna()) == [16, 4]
    assert list(of_ablation().to_dataframe()["top1_error"]) == [15.0, 16.0]


@pytest.mark.parametrize("name", EVERY)
def test_a_notebook_shows_what_is_printed(name):
    result = EVERY[name][0]()
    shown = result._repr_html_()
    tables = str(result).count("┏")
    assert tables > 0
    assert shown.count("<table>") == tables
    assert EVIL not in shown


def test_cells_stay_text_and_numbers_stand_to_the_right():
    html = _terminal.render_html(
        {"name": "left", "size": "right"}, [[(EVIL, "1")]], EVIL
    )
    escaped = "&lt;script&gt;alert(1)&lt;/script&gt;"
    left, right = (f' style="text-align: {s}"' for s in ("left", "right"))
    assert html == (
        f"<p><b>{escaped}</b></p><table><thead><tr>"
        f"<th{left}>name</th><th{right}>size</th></tr></thead>"
        f"<tbody><tr><td{left}>{escaped}</td><td{right}>1</td>"
        "</tr></tbody></table>"
    )


def test_without_pandas_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"cbam_keras\[plot\]"):
        of_training().to_dataframe()
